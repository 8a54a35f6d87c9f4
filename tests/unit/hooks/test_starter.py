"""The whole of it, with a bait and a machine in a folder of this one.

`ssh` is a stand-in that runs the command here (FAKE_SSH); the end-to-end tests have real machines.
`scontrol` is a stand-in that writes down what it was asked.
"""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guestlink import FORWARDED
from starter import ENDS
from tests.unit.conftest import eventually
from tests.unit.scripted_bait import ScriptedBait, says
from wnodes_lrms.lrms.hookset import STARTER_FILES
from wnodes_lrms.resources import sources

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]

FAKE_SSH = """#!/usr/bin/python3 -IS
import os, signal, sys
words = sys.argv[1:]
open(LOG, "a").write(" ".join(words) + chr(10))
while words[0].startswith("-"):
    if words[0] == "-N":  # the connection itself
        open(LOG + ".master", "w").write(str(os.getpid()))
        open("ssh", "w").close()
        while True:
            signal.pause()
    words = words[2:] if words[0] in ("-o", "-F", "-E") else words[1:]
for number in range(1, 32):  # what runs in a VM ignores and blocks nothing
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, [])
os.execv("/bin/sh", ["sh", "-c", words[1]])
"""


class Stage:
    """A folder with all that a starter meets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.guest = folder / "guest"
        self.work = folder / "work"
        self.machine = folder / "machine"  # the machine's own working directory
        self.path = f"{folder}/bin:/usr/bin:/bin"  # of the node's programs
        for each in (self.guest, self.work, self.machine, folder / "bin"):
            each.mkdir()
        self.program("ssh", FAKE_SSH.replace("LOG", repr(str(folder / "ssh.log"))))
        self.slurm_knows("JobId=7 JobName=x Requeue=1 Restarts=0")
        self.bait: ScriptedBait | None = None
        self.environment: dict[str, str] = {}
        self.ready: dict[str, object] = {
            "state": "ready",
            "address": "127.77.0.2",
            "key": "the key\n",
            "known_hosts": "127.77.0.2 ssh-ed25519 AAAA\n",
            "shares": [str(folder)],
        }

    def program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def slurm_knows(self, job: str) -> None:
        """What Slurm shows of the job; what else scontrol is asked is written down."""
        self.program(
            "scontrol",
            f"""#!/bin/sh
[ "$*" = "--oneliner show job 7" ] && exec echo "{job}"
printf "%s\\n" "$*" >>{self.folder}/scontrol.log
""",
        )

    def says(self, *lines: object) -> None:
        self.bait = ScriptedBait(self.folder / "hv1.sock", says(*lines))

    def start(self, script: str, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        (self.folder / "script").write_text(script)
        words = ("script", "/bin/sh", str(self.folder / "script"), *arguments)
        return self.begin(*words, **more)

    def begin(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        code = (
            "import sys; import baitlink, baitsocket, payload, requeue, starter, watch;"
            f"requeue.PATH = {self.path!r}; requeue.END_PATIENCE = 0.2;"
            f"payload.GUEST = {str(self.guest)!r};"
            "baitsocket.SILENCE = 0.5; baitlink.BAIT_AWAY = 1.5; watch.LOOK = 0.2;"
            "starter.main(*sys.argv[1:])"
        )
        argv = [sys.executable, "-c", code, "slurm", f"{self.folder}/%n.sock", "2", "7", "hv1"]
        return subprocess.Popen(
            [*argv, *words],
            cwd=self.work,
            env={"PATH": self.path, "PYTHONPATH": str(ROOT / "hooks")} | self.environment,
            stdin=more.pop("stdin", subprocess.DEVNULL),
            stdout=more.pop("stdout", subprocess.PIPE),
            stderr=more.pop("stderr", subprocess.PIPE),
            text=True,
            **more,
        )

    def run(self, script: str, *arguments: str) -> tuple[int, str, str]:
        process = self.start(script, *arguments)
        out, errors = process.communicate(timeout=15)
        return process.returncode, out, errors

    @property
    def scontrol(self) -> list[str]:
        log = self.folder / "scontrol.log"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    if stage.bait:
        stage.bait.close()


def test_a_script_in_its_machine(stage: Stage) -> None:
    stage.says({"state": "building"}, stage.ready)
    code, out, errors = stage.run('echo "$1 in $PWD"; echo err >&2; exit 7', "an argument")
    assert (code, out, errors) == (7, f"an argument in {stage.work}\n", "err\n")
    assert stage.bait
    assert stage.bait.heard  # it asks again every LOOK, and for nothing else
    assert all(each == {"op": "attach", "job": "7"} for each in stage.bait.heard)
    assert stage.scontrol == []


def test_the_connection_is_stopped_with_the_job(stage: Stage) -> None:
    """Batch systems stop a process group, or a session, when they suspend a job."""
    stage.says(stage.ready)
    process = stage.start(f"touch {stage.folder}/up; exec sleep 60", start_new_session=True)
    eventually((stage.folder / "up").exists)
    master = int((stage.folder / "ssh.log.master").read_text())
    assert (os.getpgid(master), os.getsid(master)) == (process.pid, process.pid)
    process.terminate()
    process.communicate(timeout=15)
    with pytest.raises(ProcessLookupError):
        os.kill(master, 0)


def test_a_script_may_name_its_own_interpreter(stage: Stage) -> None:
    own = stage.folder / "own"
    own.write_text("#!/usr/bin/awk -f\nBEGIN { print ARGV[1]; exit 4 }\n")
    stage.says(stage.ready)
    process = stage.begin("script", "", str(own), "a b")
    assert (process.communicate(timeout=15)[0], process.returncode) == ("a b\n", 4)


def test_what_the_job_has_set_for_its_own_programs_changes_none_of_the_starters(
    stage: Stage,
) -> None:
    """Seen: an ssh in a folder of the user's, before all others."""
    theirs = stage.folder / "theirs"
    theirs.mkdir()
    for name in ("ssh", "scontrol"):
        (theirs / name).write_text("#!/bin/sh\nexit 3\n")
        (theirs / name).chmod(0o755)
    stage.environment = {"PATH": f"{theirs}:/usr/bin:/bin", "SITE": "box"}
    stage.says(stage.ready)
    code, out, errors = stage.run('echo "$PATH $SITE"')
    assert (code, out) == (0, f"{theirs}:/usr/bin:/bin box\n"), errors


@pytest.mark.parametrize(("script", "end"), [("true", 1), ("exit 7", 7)])
def test_output_that_can_not_be_written_is_said(stage: Stage, script: str, end: int) -> None:
    """On the node the script's own writing would fail; here it has been taken from it."""
    stage.says(stage.ready)
    with Path("/dev/full").open("wb") as full:
        job = stage.start(f"echo to nowhere; echo by the way >&2; {script}", stdout=full)
    _, errors = job.communicate(timeout=15)
    assert job.returncode == end
    assert errors == (
        "by the way\nwnodes: job 7: standard output: 11 bytes could not be written:"
        " No space left on device\n"
    )


def test_errors_that_can_not_be_written_are_the_jobs_failure(stage: Stage) -> None:
    stage.says(stage.ready)
    with Path("/dev/full").open("wb") as full:
        job = stage.start("echo kept; echo lost >&2; exit 0", stderr=full)
    out, _ = job.communicate(timeout=15)
    assert (job.returncode, out) == (1, "kept\n")


def test_output_beyond_the_jobs_own_limit_is_said(stage: Stage, tmp_path: Path) -> None:
    """A process on the node would die of it (SIGXFSZ); ssh did, and with it the whole job."""
    stage.says(stage.ready)
    with (tmp_path / "out").open("wb") as out:
        job = stage.start(
            "head -c 5000 /dev/zero; exit 7",
            stdout=out,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
        )
    _, errors = job.communicate(timeout=15)
    assert job.returncode == 7, errors
    assert (tmp_path / "out").stat().st_size == 4096
    assert "standard output: 904 bytes could not be written: File too large" in errors


def test_a_command_runs_as_it_stands(stage: Stage) -> None:
    stage.says(stage.ready)
    process = stage.begin("command", "/bin/sh", "-c", 'echo "$0: $1"; exit 6', "it", "a b")
    assert (process.communicate(timeout=15)[0], process.returncode) == ("it: a b\n", 6)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_death_by_a_signal_is_the_jobs_own(stage: Stage, number: signal.Signals) -> None:
    stage.says(stage.ready)
    code, _out, _errors = stage.run(f"ulimit -c 0; kill -{number.name[3:]} $$")
    assert code == -number


@pytest.mark.parametrize(
    ("said", "is_an_end"),
    [
        *(("exit 0", True), ("exit 137", True), ("signal 9", True), ("signal 64", True)),
        *(("", False), ("exit", False), ("exit -1", False), ("exit 1000", False)),
        *(("signal 0", False), ("signal 65", False), ("exit 0\nexit 1", False)),
        *(("exit \u0661", False), ("signal 9 core", False), ("hibernate 1", False)),
    ],
)
def test_what_a_machine_says_of_the_scripts_end_has_a_grammar(said: str, is_an_end: bool) -> None:
    assert bool(ENDS.fullmatch(said)) is is_an_end


@pytest.mark.parametrize("name", ["USR1", "USR2", "TERM", "HUP", "ABRT", "URG", "WINCH", "VTALRM"])
def test_a_signal_reaches_the_script(stage: Stage, name: str) -> None:
    stage.says(stage.ready)
    process = stage.start(f"trap 'echo got; exit 5' {name}; echo up; while :; do sleep 0.05; done")
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    process.send_signal(getattr(signal, f"SIG{name}"))
    out, _errors = process.communicate(timeout=10)
    assert (process.returncode, out) == (5, "got\n")


def test_a_signal_that_comes_before_the_machine_waits_for_the_script(stage: Stage) -> None:
    silent = socket.socket(socket.AF_UNIX)
    silent.bind(f"{stage.folder}/hv1.sock")
    silent.listen()
    # A script's interpreter takes a while to come so far.
    process = stage.start("sleep 0.3; trap 'echo got; exit 5' USR1; while :; do sleep 0.05; done")
    link, _ = silent.accept()
    process.send_signal(signal.SIGUSR1)
    time.sleep(0.1)
    link.sendall(json.dumps(stage.ready).encode() + b"\n")
    out, _errors = process.communicate(timeout=10)
    silent.close()
    assert (process.returncode, out) == (5, "got\n")


def test_term_before_the_machine_ends_the_starter(stage: Stage) -> None:
    silent = socket.socket(socket.AF_UNIX)
    silent.bind(f"{stage.folder}/hv1.sock")
    silent.listen()
    process = stage.start("echo never")
    silent.accept()
    process.send_signal(signal.SIGTERM)
    out, _errors = process.communicate(timeout=5)
    silent.close()
    assert (process.returncode, out, stage.scontrol) == (-signal.SIGTERM, "", [])


FAILED: dict[str, Any] = {
    "state": "failed",
    "message": "image x: no room; $(id) 'now'",
    "retry": True,
}


@pytest.mark.parametrize(
    ("restarts", "answer", "asked"),
    [
        ("", FAILED, ["requeue 7"]),
        ("0", FAILED, ["requeue 7"]),
        ("1", FAILED, ["requeue 7"]),
        ("2", FAILED, [f"update JobId=7 Comment=wnodes: {FAILED['message']}", "requeuehold 7"]),
        (
            "",
            FAILED | {"retry": False},
            [f"update JobId=7 Comment=wnodes: {FAILED['message']}", "requeuehold 7"],
        ),
        (
            "",
            {"ok": False, "error": "job 7 is not yours", "retry": False, "end": True},
            ["update JobId=7 Comment=wnodes: job 7 is not yours", "requeuehold 7"],
        ),
    ],
)
def test_without_a_machine_the_job_is_requeued_then_held(
    stage: Stage, restarts: str, answer: dict[str, object], asked: list[str]
) -> None:
    stage.environment["SLURM_RESTART_COUNT"] = restarts
    stage.says(answer)
    code, out, errors = stage.run("echo never")
    assert (code, out, stage.scontrol) == (1, "", asked)
    assert f"wnodes: job 7: {answer.get('message') or answer['error']}\n" in errors


@pytest.mark.parametrize("retry", [True, False])
def test_a_job_that_may_not_be_requeued_ends_and_nothing_else_is_promised(
    stage: Stage, retry: bool
) -> None:
    stage.slurm_knows("JobId=7 JobName=Requeue=1 Requeue=0 Restarts=0")
    stage.says(FAILED | {"retry": retry})
    code, out, errors = stage.run("echo never")
    assert (code, out) == (1, "")
    assert errors.splitlines() == [
        f"wnodes: job 7: {FAILED['message']}",
        "wnodes: job 7: not tried again: it may not run again (--no-requeue, or the site's rule)",
    ]
    assert [line for line in stage.scontrol if line.startswith("requeue")] == []


@pytest.mark.parametrize("retry", [True, False])
def test_what_slurm_refuses_is_not_promised(stage: Stage, retry: bool) -> None:
    stage.program("scontrol", "#!/bin/sh\necho 'Job is pending\nexecution' >&2\n[ $2 = show ]\n")
    stage.says(FAILED | {"retry": retry})
    code, out, errors = stage.run("echo never")
    assert (code, out) == (1, "")
    assert errors.splitlines() == [
        f"wnodes: job 7: {FAILED['message']}",
        "wnodes: job 7: not tried again: Slurm refuses: Job is pending execution",
    ]


def test_slurm_may_end_the_job_before_it_has_answered(stage: Stage) -> None:
    """All of the job's processes get SIGTERM: scontrol, and who waits for it."""
    stage.program(
        "scontrol", "#!/bin/sh\n[ $1 = requeue ] || exit 0\nkill -TERM $$ $PPID\nexit 0\n"
    )
    stage.says(FAILED)
    code, _out, errors = stage.run("echo never")
    assert code == -signal.SIGTERM
    assert errors.splitlines()[1:] == ["wnodes: job 7: requeued: try 2 of 3"]


def test_a_bait_that_is_away_hangs_or_breaks_off_is_said(stage: Stage) -> None:
    code, _out, errors = stage.run("echo never")
    assert code == 1
    assert "the bait on node hv1 can't be reached" in errors
    assert stage.scontrol == ["requeue 7"]
    silent = socket.socket(socket.AF_UNIX)
    silent.bind(f"{stage.folder}/hv1.sock")
    silent.listen()
    code, _out, errors = stage.run("echo never")
    silent.close()
    assert code == 1
    assert "does not answer" in errors


def test_a_bait_that_is_silent_is_asked_once_more(stage: Stage) -> None:
    """As one that is not there: it may have been stopped for a while, or its node be busy."""
    stage.says(stage.ready)
    assert stage.bait
    goes_on = threading.Event()
    ready = stage.bait.answer

    def slow(*_: object) -> None:
        stage.bait.answer = ready  # type: ignore[union-attr]
        goes_on.wait(10)

    stage.bait.answer = slow
    code, out, errors = stage.run("echo ran")
    goes_on.set()
    assert (code, out) == (0, "ran\n")
    assert errors.startswith("wnodes: job 7: the bait on node hv1 does not answer")


def test_a_machine_that_dies_before_its_session_is_heard_of(stage: Stage) -> None:
    stage.program("ssh", f"#!/bin/sh\ntouch {stage.folder}/asked\nexec sleep 60\n")
    stage.says(stage.ready)
    process = stage.start("echo never")
    eventually((stage.folder / "asked").exists)
    assert stage.bait
    stage.bait.answer = says(FAILED)
    out, errors = process.communicate(timeout=10)
    assert (process.returncode, out, stage.scontrol) == (1, "", ["requeue 7"])
    assert f"wnodes: job 7: {FAILED['message']}\n" in errors


@pytest.mark.parametrize(
    "ends", ["'-N' in words", "'/work -f -' in words[-1]"], ids=["connecting", "copying in"]
)
def test_why_a_machine_ended_before_its_script_began_is_asked(stage: Stage, ends: str) -> None:
    """Else one that an administrator has destroyed would come again."""
    (stage.work / "data").touch()
    stage.ready["shares"] = []
    stage.environment["WNODES_STAGE_IN"] = "data"
    asked = f"open({str(stage.folder / 'asked')!r}, 'w').close()"
    waits = f"while not os.path.exists({str(stage.folder / 'dead')!r}): time.sleep(0.05)"
    fake = FAKE_SSH.replace("LOG", repr(str(stage.folder / "ssh.log")))
    fake = fake.replace("import os, signal, sys\n", "import os, signal, sys, time\n")
    fake = fake.replace(
        "while words[0].startswith",
        f"if {ends}:\n    {asked}\n    {waits}\n    sys.exit(255)\nwhile words[0].startswith",
    )
    stage.program("ssh", fake)
    stage.says(stage.ready)
    process = stage.start("echo never")
    eventually((stage.folder / "asked").exists)
    assert stage.bait
    destroyed = {"state": "failed", "message": "an administrator has destroyed the VM"}
    stage.bait.answer = says(destroyed | {"retry": False})
    (stage.folder / "dead").touch()
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out, stage.scontrol[1:]) == (1, "", ["requeuehold 7"])
    assert f"wnodes: job 7: {destroyed['message']}\n" in errors


def test_a_machine_that_dies_under_its_job_is_asked_nothing_more(stage: Stage) -> None:
    """Its SSH connection hangs for minutes."""
    fake = (stage.folder / "bin" / "ssh").read_text()
    dead = f"\nimport os.path, time\nif os.path.exists('{stage.folder}/dead'): time.sleep(60)\n"
    head, _, rest = fake.partition("\n")
    stage.program("ssh", f"{head}{dead}{rest}")
    stage.says(stage.ready)
    process = stage.start("echo up; exec >&- 2>&-; sleep 20")
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    (stage.folder / "dead").touch()
    assert stage.bait
    stage.bait.answer = says(FAILED)
    assert (process.wait(timeout=10), stage.scontrol) == (1, ["requeue 7"])


def test_a_scontrol_that_refuses_does_not_hide_the_reason(stage: Stage) -> None:
    stage.program("scontrol", "#!/bin/sh\necho 'Access denied' >&2\nexit 1\n")
    stage.says(FAILED)
    code, _out, errors = stage.run("echo never")
    assert code == 1
    assert FAILED["message"] in errors
    assert "Access denied" in errors


def test_the_connection_trusts_one_key_and_reads_no_settings(stage: Stage) -> None:
    stage.says(stage.ready)
    assert stage.run("true")[0] == 0
    log = (stage.folder / "ssh.log").read_text()
    for wanted in (
        "-F none",
        "StrictHostKeyChecking=yes",
        "UserKnownHostsFile=known_hosts",
        "GlobalKnownHostsFile=none",
        "IdentitiesOnly=yes",
        "IdentityFile=key",
        "BatchMode=yes",
    ):
        assert wanted in log


def test_no_silence_of_a_machine_ends_its_session(stage: Stage) -> None:
    """Seen: 160 s without its network, or held by libvirt, and the job began anew."""
    stage.says(stage.ready)
    assert stage.run("true")[0] == 0
    log = (stage.folder / "ssh.log").read_text()
    options = [words.split()[0] for words in log.split(" -o ")[1:]]
    assert {"ServerAliveInterval=0", "TCPKeepAlive=no"} <= {*options}


# -- Machine/Job Features -------------------------------------------------------------------------


def test_a_script_finds_what_its_machine_was_told(stage: Stage) -> None:
    stage.environment["MACHINEFEATURES"] = "/etc/machinefeatures"  # the node's own mean nothing
    stage.says(stage.ready | {"cores": 3, "memory": 512, "shutdown": 1800000000.0})
    code, out, _errors = stage.run(
        'cat "$MACHINEFEATURES"/total_cpu "$JOBFEATURES"/max_rss_bytes "$JOBFEATURES"/job_id;'
        'cat "$MACHINEFEATURES"/shutdowntime "$JOBFEATURES"/shutdowntime_job'
    )
    assert code == 0
    assert out.split() == ["3", "536870912", "7", "1800000000", "1800000000"]
    log = (stage.folder / "ssh.log").read_text().splitlines()
    # The files travel with the script: the start of a job has no more sessions for their sake.
    assert len([line for line in log if " -N " not in line]) == 2


def test_a_running_script_hears_of_its_shutdown_and_that_it_is_off(stage: Stage) -> None:
    stage.says(stage.ready | {"shutdown": None})
    process = stage.start(
        'f="$MACHINEFEATURES/shutdowntime"; j="$JOBFEATURES/shutdowntime_job"\n'
        "[ -e $f ] || echo none\n"
        "until [ -s $f ] && [ -s $j ]; do sleep 0.05; done; cat $f $j\n"
        "until ! [ -e $f ] && ! [ -e $j ]; do sleep 0.05; done; echo gone"
    )
    assert process.stdout
    assert stage.bait
    assert process.stdout.readline() == "none\n"
    stage.bait.answer = says(stage.ready | {"shutdown": 1800000000.5})
    assert [process.stdout.readline() for _ in range(2)] == ["1800000000\n"] * 2
    stage.bait.answer = says(stage.ready | {"shutdown": None})
    out, _errors = process.communicate(timeout=10)
    assert (process.returncode, out) == (0, "gone\n")


# -- how it ends itself ---------------------------------------------------------------------------


def ignore_all() -> None:
    for name in FORWARDED:
        signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_IGN)


@pytest.mark.parametrize("name", sorted({*FORWARDED} - {"URG", "WINCH"}))  # nobody dies of these
def test_to_die_is_to_die_of_that_signal(name: str) -> None:
    number = getattr(signal, f"SIG{name}")
    done = subprocess.run(
        [sys.executable, "-c", f"import starter; starter.die({number:d})"],
        env={"PYTHONPATH": str(ROOT / "hooks")},
        preexec_fn=ignore_all,
    )
    assert done.returncode == -number


def test_a_bait_that_has_too_many_callers_is_asked_again(stage: Stage) -> None:
    stage.says({"ok": False, "error": "too many connections", "busy": True, "retry": True})
    process = stage.start("echo done")
    assert stage.bait
    eventually(lambda: stage.bait is not None and bool(stage.bait.heard))
    stage.bait.answer = says(stage.ready)
    out, errors = process.communicate(timeout=15)
    assert (process.returncode, out) == (0, "done\n")
    assert "the bait on node hv1 has too many connections; trying for" in errors


@pytest.mark.parametrize("line", [7, "x", ["ready"], None])
def test_a_bait_that_talks_nonsense_is_said(stage: Stage, line: object) -> None:
    stage.says(line)
    code, out, errors = stage.run("echo done")
    assert (code, out) == (1, "")
    assert "the bait on node hv1 says what is no answer" in errors
    assert "requeued: try 2 of 3" in errors


# -- where it is installed ------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with the files that a node gets of the starter, and nothing else."""
    folder = tmp_path / "wnodes"
    folder.mkdir()
    for name, content in sources(STARTER_FILES).items():
        (folder / name).write_bytes(content)
    return folder


def test_the_installed_form_needs_nothing_but_its_files(stage: Stage, installed: Path) -> None:
    stage.program("scontrol", "#!/bin/sh\nexit 1\n")  # else it waits to be ended
    stage.says(FAILED)
    code = (
        f"import sys; sys.path.insert(0, {str(installed)!r}); import requeue, starter;"
        f"requeue.PATH = {stage.path!r}; starter.main(*sys.argv[1:])"
    )
    program = [sys.executable, "-I", "-S", "-c", code]
    job = ["slurm", f"{stage.folder}/%n.sock", "2", "7", "hv1", "script", "/bin/sh", "/dev/null"]
    done = subprocess.run(
        [*program, *job],
        cwd="/",
        env={},
        capture_output=True,
        text=True,
        timeout=15,
    )
    refused = "not tried again: Slurm refuses: exit code 1"
    said = f"wnodes: job 7: {FAILED['message']}\nwnodes: job 7: {refused}\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)
