"""wnodes-lrms: the job that a starter runs for, and how its LRMS tries a job again or holds it.

A starter that gets no machine can't run the job. What then becomes of it differs: here is a class
for each LRMS. All of it is done as the job's owner. What has been decided is said once the LRMS has
agreed; where it decides when the starter has ended, what it is asked for. Standard library only.
"""

import contextlib
import os
import signal
import subprocess
import syslog
import time

from baitsocket import answers

END_PATIENCE = 60.0  # seconds to be ended by the LRMS after a requeue was asked for
PATH = "/usr/local/bin:/usr/bin:/bin"  # where this node's own programs are
_ASK = 30.0  # seconds that a command of the LRMS gets
_WORDS = 200  # characters of what such a command says when it fails


class NoVmError(Exception):
    """The job has no machine, or has lost it; `retry` says whether another try may help."""

    def __init__(self, message: str, retry: bool = True, raw: str = "") -> None:
        """`raw` is what a program said, for the node's log."""
        super().__init__(message)
        self.retry = retry
        self.raw = raw


def program_environment(*prefixes: str) -> dict[str, str]:
    """The environment of a program that the starter itself calls.

    The job's own is for the job: by its PATH, LD_LIBRARY_PATH or TAR_OPTIONS another program would
    run, or this one do something else. Of it languages stay, and what begins as one of `prefixes`.
    """
    kept = ("LANG", "LC_", *prefixes)
    return {name: value for name, value in os.environ.items() if name.startswith(kept)} | {
        "PATH": PATH
    }


class Job:
    """A job on its node."""

    def __init__(self, number: str, node: str, bait: str = "") -> None:
        self.number = number
        self.node = node
        self.bait = bait  # its socket

    def say(self, text: str) -> None:
        """One line to the user, on the job's standard error."""
        line = f"wnodes: job {self.number or '?'}: {text}\n".encode("utf-8", "backslashreplace")
        with contextlib.suppress(OSError):  # a full disk is no reason to end otherwise
            os.write(2, line)

    def log(self, text: str) -> None:
        """One line to the node's log, for its administrator."""
        syslog.openlog("wnodes-starter", syslog.LOG_PID, syslog.LOG_USER)
        syslog.syslog(syslog.LOG_ERR, " ".join(f"wnodes: job {self.number or '?'}: {text}".split()))

    def tries(self) -> int:
        """How often the job was requeued before. Raises OSError, ValueError if that is not known:
        it is then not requeued again."""
        raise NotImplementedError

    def requeue(self, which: str) -> int:
        """Have it run again; `which` try of how many that is. The exit code to end with."""
        raise NotImplementedError

    def hold(self, reason: str) -> int:
        """Have it wait for a person, or end; the exit code to end with."""
        raise NotImplementedError

    def ask(self, *argv: str) -> str:
        """What a command of the LRMS says. Raises TimeoutError if it does not end in time, OSError
        with the command's own words in one line if it fails."""
        own = program_environment("SLURM_", "SGE_")
        own["PATH"] += ":" + os.environ.get("PATH", "")  # an LRMS may be where its users are told
        try:
            done = subprocess.run(
                argv,
                env=own,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_ASK,
                preexec_fn=_outlive,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{argv[0]} does not answer") from None
        except OSError as error:
            raise OSError(f"{argv[0]}: {error.strerror}") from None
        if done.returncode:
            said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            raise OSError("".join(c if c.isprintable() else "?" for c in said)[:_WORDS])
        return done.stdout


def _outlive() -> None:
    """In a child: the LRMS ends all processes of the job that it is asked to end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


class Slurm(Job):
    """Slurm requeues and holds at its owner's word, and ends the job that is requeued. It does
    neither with one that was submitted with --no-requeue."""

    def tries(self) -> int:
        return int(os.environ.get("SLURM_RESTART_COUNT") or 0)

    def requeue(self, which: str) -> int:
        return self._again("requeue", f"requeued: try {which}")

    def hold(self, reason: str) -> int:
        with contextlib.suppress(OSError):
            self.ask("scontrol", "update", f"JobId={self.number}", f"Comment=wnodes: {reason}")
        return self._again(
            "requeuehold",
            "held: when the cause is mended, release it with `scontrol release`, or cancel it",
        )

    def _again(self, how: str, done: str) -> int:
        try:
            known = self.ask("scontrol", "--oneliner", "show", "job", self.number)
        except OSError:
            known = ""
        if "Requeue=0" in known.split():
            self.say("not tried again: it may not run again (--no-requeue, or the site's rule)")
            return 1
        ended: list[int] = []  # by Slurm, which can be quicker than its answer to scontrol
        signal.signal(signal.SIGTERM, lambda number, _frame: ended.append(number))
        try:
            self.ask("scontrol", how, self.number)
        except TimeoutError:
            self.say(f"Slurm was asked to {how} it, and has not answered")
        except OSError as refusal:
            self.say(f"not tried again: Slurm refuses: {refusal}")
            return 1
        else:
            self.say(done)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if ended:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(END_PATIENCE)
        return 1


class GridEngine(Job):
    """Grid Engine runs a job again whose starter ends with 99, and puts it in error with 100: the
    job alone, not its queue. The count is kept in the job's context, which its owner may change.
    """

    def __init__(self, number: str, node: str, bait: str = "") -> None:
        super().__init__(number, node, bait)
        self.whole, _, task = number.partition(".")  # an array's tasks share one context
        self.key = f"wnodes_tries_{task}" if task else "wnodes_tries"

    def tries(self) -> int:
        for line in self.ask("qstat", "-j", self.whole).splitlines():
            if line.startswith("context:"):
                pairs = (pair.partition("=") for pair in line.split(None, 1)[1].split(","))
                return next((int(value) for key, _, value in pairs if key == self.key), 0)
        return 0

    def requeue(self, which: str) -> int:
        try:
            self.ask("qalter", "-ac", f"{self.key}={self.tries() + 1}", self.whole)
        except (OSError, ValueError) as error:  # it might go round for ever
            self.say(f"not tried again: it can't be counted how often it is tried: {error}")
            return self.hold("")
        self.say(f"asks Grid Engine for another run: try {which}")
        return 99

    def hold(self, reason: str) -> int:  # noqa: ARG002 (it was said; Grid Engine has no place for it)
        self.say(
            "asks Grid Engine for its error state: when the cause is mended,"
            f" `qmod -cj {self.number}` lets it run again, or delete it"
        )
        return 100


class Torque(Job):
    """Torque lets operators alone rerun a job: the bait is asked, and decides by what it knows."""

    def tries(self) -> int:
        raise ValueError("the bait counts them")

    def hold(self, reason: str) -> int:
        trouble = f"no answer from the bait at {self.bait}"
        try:
            for answer in answers(self.bait, {"op": "again", "job": self.number}):
                trouble = answer.get("error", "")
                if "act" in answer:
                    self.say(answer["act"])
        except (OSError, ValueError) as error:
            trouble = f"{trouble}: {error}"
        if not trouble:
            time.sleep(END_PATIENCE)
        elif trouble != reason:
            self.say(f"not tried again: {trouble}")
        return 1


class OpenPBS(Job):
    """OpenPBS lets no owner requeue their job: hooks/openpbs.py does that, or holds it, when the
    job has ended by one of these signals. It has told the number of this run."""

    def tries(self) -> int:
        return int(os.environ.get("WNODES_RUN", "")) - 1

    def requeue(self, which: str) -> int:
        self.say(f"asks OpenPBS for another run: try {which}")
        return self._end(signal.SIGPWR)

    def hold(self, reason: str) -> int:  # noqa: ARG002 (it was said; the hook has it from the bait)
        if "WNODES_RUN" in os.environ and not os.environ["WNODES_RUN"]:
            self.say("not tried again: it was submitted with `qsub -r n`")
        else:
            self.say(
                "asks OpenPBS to hold it: when the cause is mended, release it with"
                f" `qrls {self.number}`, or delete it"
            )
        return self._end(signal.SIGIO)

    def _end(self, number: signal.Signals) -> int:
        os.kill(os.getpid(), number)
        return 1


SYSTEMS: dict[str, type[Job]] = {
    "slurm": Slurm,
    "gridengine": GridEngine,
    "openpbs": OpenPBS,
    "torque": Torque,
}
