"""wnodes-lrms: runs a job's script inside the job's own machine.

    starter.py LRMS SOCKET RETRIES JOB NODE script INTERPRETER SCRIPT [ARGUMENT…]
    starter.py LRMS SOCKET RETRIES JOB NODE command PROGRAM [ARGUMENT…]

The LRMS starts it in place of the script, as the job's owner. An empty INTERPRETER leaves that to
the script's own first line; a command is run as it stands, and no file of it travels. It asks this
node's bait for the machine, carries the script, its environment and its declared files there over
SSH, connects the standard streams, passes signals on, and ends as the script ended. When there is
no machine it says why, and has the LRMS requeue or hold the job.

Standard library only: it runs on every node and for every job with a machine.
"""

import contextlib
import io
import json
import os
import resource
import shlex
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from hooks.batch import SYSTEMS, Job
else:  # the interpreter is isolated: it does not look beside this file by itself
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from batch import SYSTEMS, Job

# The bait speaks at least every 5 s while it works on a machine; this is "it hangs".
SILENCE = 30.0  # seconds
BAIT_AWAY = 60.0  # seconds to wait for a bait that can't be reached, as in a restart
TELL_AFTER = 5.0  # seconds, then the user hears what the job waits for
LOOK = 10.0  # seconds between two questions whether the machine still lives
GUEST = "/run/wnodes/job"  # the owner's folder in the machine, see templates/context.sh.j2

# What a machine and a job are told about themselves, a file each: Machine/Job Features, the HEP
# Software Foundation's HSF-TN-2016-02. Only what is known for certain is there.
CORES = ("machinefeatures/total_cpu", "jobfeatures/allocated_cpu")
SHUTDOWN = ("machinefeatures/shutdowntime", "jobfeatures/shutdowntime_job")
STARTED = int(time.time())  # seconds since the epoch

# TERM is how an LRMS ends a job: all of the script's processes get it, as they would on the node.
# Any other signal is meant for the script itself (scancel --batch, sbatch --signal=B:…).
FORWARDED = ("HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "XCPU")
TO_ALL = ("HUP", "INT", "QUIT", "TERM")

# What runs in the machine: START becomes the script, the leader of a process group of its own;
# RUN waits for it and writes down how it ended, because an exit code alone can't tell `exit 137`
# from a death by signal 9. All shells (dash, bash, busybox) name the signal on standard error when
# a command dies of one, and say nothing of an exit; INT and PIPE alone pass for exits 130 and 141.
START = """echo $$ >{guest}/pid.new && mv {guest}/pid.new {guest}/pid
umask {umask}
cd {workdir} || exit 125
exec {command} >&4 2>&5 4>&- 5>&-
"""
RUN = """exec 4>&1 5>&2 2>{guest}/said
setsid sh {guest}/start
status=$?
if [ $status -gt 128 ] && [ -s {guest}/said ]
then echo signal $((status - 128))
else echo exit $status
fi >{guest}/end
kill -KILL -$(cat {guest}/pid)
exit $status
"""


class NoMachineError(Exception):
    """The job has no machine, or has lost it; `retry` says whether another try may help."""

    def __init__(self, message: str, retry: bool = True) -> None:
        super().__init__(message)
        self.retry = retry


def attach(job: Job, path: str) -> dict[str, Any]:
    """The bait's description of the machine, once it is ready. Raises NoMachineError."""
    begun = time.monotonic()
    told, waits = False, ""
    while True:
        try:
            for answer in answers(job, path):
                if answer.get("state") == "ready":
                    return answer
                if answer.get("state") == "failed":
                    raise NoMachineError(answer["message"], answer["retry"])
                if answer.get("ok") is False:
                    raise NoMachineError(answer["error"], answer.get("retry", True))
                if not told and time.monotonic() - begun >= TELL_AFTER - 1:
                    told = True
                    job.say(f"waiting for its machine on node {job.node}: {answer.get('state')}")
                if answer.get("waits") and answer["waits"] != waits:
                    waits = answer["waits"]
                    job.say(f"waiting: {waits}")
            trouble = "closed the connection"
        except TimeoutError:
            raise NoMachineError(
                f"the bait on node {job.node} does not answer ({path}): it hangs"
            ) from None
        except OSError as error:
            trouble = f"can't be reached at {path}: {error.strerror}"
        if time.monotonic() - begun > BAIT_AWAY:
            raise NoMachineError(f"the bait on node {job.node} {trouble}")
        if not told:
            told = True
            job.say(f"the bait on node {job.node} {trouble}; trying for {BAIT_AWAY:g} s")
        time.sleep(1)


def answers(job: Job, path: str) -> Iterator[dict[str, Any]]:
    """What the bait says to a request to attach. Raises OSError, TimeoutError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(SILENCE)
        link.connect(path)
        link.sendall(json.dumps({"op": "attach", "job": job.number}).encode() + b"\n")
        for line in link.makefile():
            yield json.loads(line)


class Guest:
    """The machine, as reached over one SSH connection that all commands share."""

    def __init__(self, machine: dict[str, Any], user: str) -> None:
        folder = machine["folder"]
        # The socket's name is relative, for one of a UNIX socket may have but 107 characters: ssh
        # runs in that folder.
        self.folder = folder
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "30",
            "ControlPath": "ssh",
            "GlobalKnownHostsFile": "none",
            "HostKeyAlgorithms": "ssh-ed25519",
            "IdentitiesOnly": "yes",
            "IdentityFile": f"{folder}/key",
            "KexAlgorithms": "curve25519-sha256,curve25519-sha256@libssh.org",
            "LogLevel": "ERROR",
            "ServerAliveCountMax": "10",
            "ServerAliveInterval": "15",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": f"{folder}/known_hosts",
        }
        self.ssh = ["ssh", "-T", "-F", "none"]
        for name, value in options.items():
            self.ssh += ["-o", f"{name}={value}"]
        self.name = f"{user}@{machine['address']}"
        self.sessions: list[subprocess.Popen[bytes]] = []

    def connect(self, command: str, data: bytes) -> None:
        """Open the connection, that stays, and run a first command on it. NoMachineError."""
        first = ["-o", "ControlMaster=yes", "-o", "ControlPersist=yes", self.name, command]
        session = self._start(first, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        session.communicate(data)
        if session.returncode != 0:
            raise NoMachineError(f"no SSH session in the machine (ssh ended {session.returncode})")

    def run(self, command: str, **streams: Any) -> subprocess.Popen[bytes]:
        """Start a command on the open connection."""
        return self._start([self.name, command], **streams)

    def _start(self, words: list[str], **streams: Any) -> subprocess.Popen[bytes]:
        session = subprocess.Popen(
            [*self.ssh, *words], cwd=self.folder, preexec_fn=block_signals, **streams
        )
        self.sessions.append(session)
        return session

    def give_up(self) -> None:
        """End whatever waits for an answer of the machine."""
        for session in self.sessions:
            session.kill()

    def text(self, command: str) -> str:
        """The output of a short command; empty if the machine does not answer."""
        done = self.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        return done.communicate()[0].decode("utf-8", "replace").strip()

    def close(self) -> None:
        """End the connection; the machine is about to go."""
        subprocess.run(
            [*self.ssh, "-O", "exit", self.name],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )


def block_signals() -> None:
    """In a child: the LRMS signals all processes of a job, and SSH has to outlive that.

    Blocked, not ignored: a multiplexed ssh sets handlers of its own and would end.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {getattr(signal, f"SIG{name}") for name in FORWARDED})


def features(job: Job, machine: dict[str, Any]) -> dict[str, str]:
    """The files of Machine/Job Features, and what they say, from the bait's description."""
    said = {"jobfeatures/job_id": job.number, "jobfeatures/jobstart_secs": STARTED}
    if "cores" in machine:
        said |= dict.fromkeys(CORES, machine["cores"])
    if "memory" in machine:
        said["jobfeatures/max_rss_bytes"] = machine["memory"] * 1024**2
    if machine.get("shutdown"):
        said |= dict.fromkeys(SHUTDOWN, int(machine["shutdown"]))
    return {name: f"{value}\n" for name, value in said.items()}


def announce(guest: Guest, shutdown: float | None) -> bool:
    """Tell the machine when it is to be shut down (seconds since the epoch), or that it isn't.

    Whether that was done. A file's name never stands for half of its content.
    """
    files = [f"{GUEST}/{name}" for name in SHUTDOWN]
    if shutdown:
        words = [f"mkdir -p {GUEST}/machinefeatures {GUEST}/jobfeatures"]
        words += [f"echo {int(shutdown)} >{file}.new && mv {file}.new {file}" for file in files]
    else:
        words = [f"rm -f {file}" for file in files]
    telling = guest.run(" && ".join(words), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return telling.wait(LOOK) == 0
    except subprocess.TimeoutExpired:  # whether the machine is lost is for others to find out
        telling.kill()
        return False


def payload(form: str, words: list[str]) -> tuple[list[str], dict[str, bytes]]:
    """What is to run in the machine, and the file that it needs there."""
    if form == "command":
        return words, {}
    interpreter, script, *arguments = words
    name = os.path.basename(script)
    with open(script, "rb") as file:
        # The kernel gives an interpreter one argument at most: the rest of the line.
        return [*interpreter.split(None, 1), f"{GUEST}/{name}", *arguments], {name: file.read()}


def bundle(argv: list[str], files: Mapping[str, bytes], workdir: str) -> bytes:
    """A tar of files for the machine, and of what starts the job as it would start on the node."""
    folders = {
        "MACHINEFEATURES": f"{GUEST}/machinefeatures",
        "JOBFEATURES": f"{GUEST}/jobfeatures",
    }
    environment = [f"{key}={value}" for key, value in (os.environ | folders).items()]
    umask = os.umask(0o077)
    os.umask(umask)
    start = START.format(
        umask=f"{umask:04o}",
        workdir=shlex.quote(workdir),
        command=shlex.join(["env", "-i", *environment, *argv]),
        guest=GUEST,
    )
    ours = {"start": os.fsencode(start), "run": RUN.format(guest=GUEST).encode()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for member, data in {**files, **ours}.items():
            info = tarfile.TarInfo(member)
            info.size, info.mode = len(data), 0o700
            tar.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def declared(variable: str) -> list[str]:
    """The files that a user declares: paths below the working directory, commas between."""
    names = [name.strip() for name in os.environ.get(variable, "").split(",")]
    for name in names:
        if os.path.isabs(name) or ".." in name.split("/"):
            raise NoMachineError(
                f"{variable}: «{name}» is not a path below the working directory", retry=False
            )
    return [name for name in names if name]


def stage_in(guest: Guest, workdir: str, names: list[str]) -> None:
    """Copy declared files into the machine. Raises NoMachineError."""
    if not names:
        return
    packer = subprocess.Popen(
        ["tar", "-c", "-C", workdir, "-f", "-", "--", *names], stdout=subprocess.PIPE
    )
    unpacker = guest.run(f"tar -x -C {shlex.quote(workdir)} -f -", stdin=packer.stdout)
    assert packer.stdout  # noqa: S101 (a pipe was asked for)
    packer.stdout.close()
    if unpacker.wait() != 0 or packer.wait() != 0:
        raise NoMachineError("WNODES_STAGE_IN: not all files could be copied in", retry=False)


def stage_out(guest: Guest, workdir: str, names: list[str]) -> bool:
    """Copy declared files back, those and no others; whether all came."""
    if not names:
        return True
    words = shlex.join(names)
    packer = guest.run(
        f"cd {shlex.quote(workdir)} && tar -c -f - -- {words}",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    # GNU tar refuses absolute names, "..", and links that would lead out of the folder.
    unpacker = subprocess.run(
        ["tar", "-x", "-C", workdir, "--no-same-owner", "-f", "-", "--", *names],
        stdin=packer.stdout,
        check=False,
    )
    return packer.wait() == 0 and unpacker.returncode == 0


class Signals:
    """Signals that arrive: kept until the script runs, passed on from then."""

    def __init__(self) -> None:
        self.guest: Guest | None = None
        self.early: list[str] = []
        for name in FORWARDED:
            signal.signal(getattr(signal, f"SIG{name}"), self.arrive)

    def arrive(self, number: int, _frame: object) -> None:
        name = signal.Signals(number).name.removeprefix("SIG")
        if self.guest:
            self.send(name)
        elif name in TO_ALL:
            die(number)  # nothing runs yet that could end in an orderly way
        else:
            self.early.append(name)

    def open(self, guest: Guest) -> None:
        """The script is being started in this machine: pass on what arrives, and what has."""
        self.guest = guest
        for name in self.early:
            self.send(name)

    def send(self, name: str) -> None:
        assert self.guest  # noqa: S101
        group = "-" if name in TO_ALL else ""
        self.guest.run(
            f"n=0; until [ -f {GUEST}/pid ] || [ $n = 50 ]; do sleep 0.1; n=$((n+1)); done; "
            f"kill -{name} {group}$(cat {GUEST}/pid)",
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def die(number: int) -> NoReturn:
    """End as a process ends that the signal kills."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # KILL and STOP can't be set, nor need to be
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def give_up(job: Job, trouble: NoMachineError, retries: int) -> NoReturn:
    """Say why there is no machine, and have the LRMS requeue the job, or hold it."""
    job.say(str(trouble))
    try:
        tries = job.tries()
    except (OSError, ValueError):
        tries = retries
    if trouble.retry and tries < retries:
        job.say(f"requeued: try {tries + 2} of {retries + 1}")
        sys.exit(job.requeue())
    sys.exit(job.hold(str(trouble)))


def below(folder: str, shares: list[str]) -> bool:
    """Whether the folder is in one that the machine shares with the node."""
    return any(folder == share or folder.startswith(share.rstrip("/") + "/") for share in shares)


def look(job: Job, path: str) -> dict[str, Any]:
    """What the bait says of a machine that was ready; nothing if the bait is away."""
    try:
        for answer in answers(job, path):
            if answer.get("state") in ("failed", "ready"):
                return answer
    except (OSError, ValueError):
        pass  # a bait may be restarted under a running job
    return {}


def failure(answer: dict[str, Any]) -> NoMachineError | None:
    """What the bait has against the machine: nothing if it is well, or if the bait is away."""
    failed = answer.get("state") == "failed"
    return NoMachineError(answer["message"], answer["retry"]) if failed else None


def watch(
    job: Job,
    path: str,
    guest: Guest,
    shutdown: float | None,
    lost: list[NoMachineError],
) -> None:
    """End the sessions of a machine that has failed: SSH by itself would wait for minutes.

    And tell the machine when the time of its shutdown is set, changed or taken back.
    """
    while True:
        time.sleep(LOOK)
        answer = look(job, path)
        found = failure(answer)
        if found:
            lost.append(found)
            guest.give_up()
            return
        wanted = answer.get("shutdown") if answer else shutdown
        if wanted != shutdown and announce(guest, wanted):
            shutdown = wanted


def run_inside(job: Job, path: str, signals: Signals, form: str, words: list[str]) -> str:
    """Run the payload in a machine; `exit N` or `signal N`. Raises NoMachineError."""
    import pwd

    machine = attach(job, path)
    guest = Guest(machine, pwd.getpwuid(os.getuid()).pw_name)
    lost: list[NoMachineError] = []
    watched = (job, path, guest, machine.get("shutdown"), lost)
    threading.Thread(target=watch, args=watched, daemon=True).start()
    try:
        end = run_payload(job, path, guest, machine, signals, payload(form, words))
    except NoMachineError as trouble:
        raise lost[0] if lost else trouble from None
    if lost:
        raise lost[0]
    guest.close()
    return end


def run_payload(
    job: Job,
    path: str,
    guest: Guest,
    machine: dict[str, Any],
    signals: Signals,
    load: tuple[list[str], dict[str, bytes]],
) -> str:
    """Carry the payload into the machine, and wait for its end. Raises NoMachineError."""
    argv, files = load
    workdir = os.getcwd()
    travel = not below(workdir, machine["shares"])
    wanted, results = declared("WNODES_STAGE_IN"), declared("WNODES_STAGE_OUT")
    facts = {name: text.encode() for name, text in features(job, machine).items()}
    guest.connect(f"tar -x -C {GUEST} -f -", bundle(argv, {**files, **facts}, workdir))
    if travel:
        stage_in(guest, workdir, wanted)
    session = guest.run(f"exec sh {GUEST}/run")
    signals.open(guest)
    status = session.wait()
    if status < 0:  # by `watch`; to ask the machine anything more would take minutes
        raise NoMachineError("the session in the machine was ended")
    end = f"exit {status}" if 0 <= status <= 128 else guest.text(f"cat {GUEST}/end")
    if not end:
        time.sleep(1)  # the bait hears of a machine's end when SSH does, or a moment later
        raise failure(look(job, path)) or NoMachineError(
            "the machine was lost while the script ran in it"
        )
    if travel and not stage_out(guest, workdir, results):
        job.say("WNODES_STAGE_OUT: not all files could be copied back")
        end = "exit 1" if end == "exit 0" else end
    return end


def main(
    lrms: str, pattern: str, retries: str, number: str, node: str, form: str, *words: str
) -> NoReturn:
    """See the head of this file."""
    signals = Signals()
    path = pattern.replace("%n", node)
    job = SYSTEMS[lrms](number, node, path)
    try:
        end = run_inside(job, path, signals, form, list(words))
    except NoMachineError as trouble:
        give_up(job, trouble, int(retries))
    how, code = end.split()
    if how == "signal":
        die(int(code))
    sys.exit(int(code))


if __name__ == "__main__":
    main(*sys.argv[1:])
