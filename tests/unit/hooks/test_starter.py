"""starter.py: what it sends into a machine, run there by each shell, and how it ends.

The machine is a folder of this one, and `ssh` a stand-in that runs the command here (FAKE_SSH); the
end-to-end tests have real machines. `scontrol` is a stand-in that writes down what it was asked.
"""

import io
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hooks import starter
from hooks.batch import Slurm
from tests.unit.conftest import eventually

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]
BUSYBOX = ("sh", "setsid", "cat", "mv", "env", "sleep", "tar", "rm", "true", "echo")
SHELLS = [
    pytest.param(name, marks=pytest.mark.skipif(not shutil.which(name), reason=f"no {name} here"))
    for name in ("dash", "bash", "busybox")
]


def programs(folder: Path, shell: str) -> str:
    """A PATH whose `sh` is the shell; with busybox all else is busybox's too."""
    found = shutil.which(shell)
    assert found
    folder.mkdir()
    for name in BUSYBOX if shell == "busybox" else ("sh",):
        (folder / name).symlink_to(found)
    return f"{folder}:/usr/bin:/bin"


def bundled(
    tmp_path: Path,
    script: str,
    *arguments: str | bytes,
    interpreter: str = "/bin/sh",
    workdir: Path | None = None,
    environment: Mapping[str | bytes, str | bytes] | None = None,
) -> Path:
    """The machine's folder, with what the starter sends into it."""
    guest = tmp_path / "guest"
    guest.mkdir(exist_ok=True)
    (tmp_path / "script").write_text(script)
    code = (
        "import sys; from hooks import starter; starter.GUEST = sys.argv[1];"
        "sys.stdout.buffer.write("
        "starter.bundle(*starter.payload('script', [*sys.argv[2:4], *sys.argv[5:]]), sys.argv[4]))"
    )
    fixed: list[str | Path] = [guest, interpreter, tmp_path / "script", workdir or tmp_path]
    words: list[str | bytes | Path] = [sys.executable, "-c", code, *fixed, *arguments]
    done = subprocess.run(
        [os.fsencode(word) for word in words],
        env={b"PYTHONPATH": os.fsencode(ROOT)}
        | {os.fsencode(key): os.fsencode(value) for key, value in (environment or {}).items()},
        stdout=subprocess.PIPE,
        check=True,
    )
    unpack(done.stdout, guest)
    return guest


def unpack(tar: bytes, guest: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(tar)) as packed:
        packed.extractall(guest)  # noqa: S202 (our own)


def run(guest: Path, path: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    """As the machine's SSH server runs it."""
    return subprocess.run(
        [*command(guest)], env={"PATH": path}, capture_output=True, timeout=10, **more
    )


def command(guest: Path) -> list[str]:
    # These tests may run in the background, or under nohup, where these are ignored.
    clean = ["/usr/bin/env", "--default-signal=HUP,INT,QUIT"]
    return [*clean, "/bin/sh", "-c", f"exec sh {guest}/run"]


ENDS = [
    ("exit 0", "exit 0"),
    ("true", "exit 0"),
    ("exit 1", "exit 1"),
    ("exit 7", "exit 7"),
    ("/no/such/program", "exit 127"),
    ("exit 128", "exit 128"),
    ("echo oops >&2; exit 129", "exit 129"),
    ("exit 137", "exit 137"),
    ("exit 143", "exit 143"),
    ("exit 255", "exit 255"),
    ("sh -c 'kill -KILL $$'", "exit 137"),  # a child's death is its parent's exit
    ("kill -HUP $$", "signal 1"),
    ("kill -QUIT $$", "signal 3"),
    ("kill -ABRT $$", "signal 6"),
    ("kill -KILL $$", "signal 9"),
    ("kill -USR1 $$", "signal 10"),
    ("kill -SEGV $$", "signal 11"),
    ("kill -USR2 $$", "signal 12"),
    ("kill -ALRM $$", "signal 14"),
    ("kill -TERM $$", "signal 15"),
    ("kill -XCPU $$", "signal 24"),
    ("trap 'exit 3' TERM; kill -TERM $$; sleep 1", "exit 3"),
    ("kill -INT $$", "exit 130"),  # the two that shells do not name, see starter.RUN
    ("kill -PIPE $$", "exit 141"),
]


@pytest.mark.parametrize(("script", "end"), ENDS, ids=[script for script, _end in ENDS])
@pytest.mark.parametrize("shell", SHELLS)
def test_how_a_script_ends_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str, script: str, end: str
) -> None:
    guest = tmp_path / "guest"
    guest.mkdir()
    (tmp_path / "script").write_text(f"ulimit -c 0\n{script}\n")
    monkeypatch.setattr(starter, "GUEST", str(guest))
    payload = starter.payload("script", ["/bin/sh", str(tmp_path / "script")])
    unpack(starter.bundle(*payload, "/"), guest)
    done = run(guest, programs(tmp_path / "bin", shell))
    assert (guest / "end").read_text() == f"{end}\n"
    how, number = end.split()
    assert done.returncode == int(number) + (128 if how == "signal" else 0)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_streams_are_the_scripts_own(tmp_path: Path, shell: str) -> None:
    script = "cat; echo out; echo err >&2; cd /proc/self/fd && echo [0-9]*"
    guest = bundled(tmp_path, script)
    done = run(guest, programs(tmp_path / "bin", shell), input=b"in\n\0\xff\n")
    out = done.stdout.splitlines()
    assert out[:3] == [b"in", b"\0\xff", b"out"]
    assert {b"0", b"1", b"2"} <= set(out[3].split())
    assert not {b"4", b"5"} & set(out[3].split())
    assert done.stderr == b"err\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_what_a_script_leaves_running_ends_with_it(tmp_path: Path, shell: str) -> None:
    guest = bundled(tmp_path, f"sleep 300 & echo $! >{tmp_path}/child; exit 4")
    began = time.monotonic()
    done = run(guest, programs(tmp_path / "bin", shell))
    assert (done.returncode, (guest / "end").read_text()) == (4, "exit 4\n")
    assert time.monotonic() - began < 5
    child = Path("/proc") / (tmp_path / "child").read_text().strip() / "stat"
    eventually(lambda: not child.exists() or child.read_text().split()[2] == "Z")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_leads_a_group_whose_number_is_told(tmp_path: Path, shell: str) -> None:
    guest = bundled(tmp_path, 'trap "exit 9" USR1; echo ready; while :; do sleep 0.05; done')
    running = subprocess.Popen(
        command(guest),
        env={"PATH": programs(tmp_path / "bin", shell)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stdout
    assert running.stdout.readline() == b"ready\n"
    leader = int((guest / "pid").read_text())
    assert os.getpgid(leader) == os.getsid(leader) == leader
    os.kill(leader, signal.SIGUSR1)
    running.communicate(timeout=5)
    assert (running.returncode, (guest / "end").read_text()) == (9, "exit 9\n")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_folder_that_is_not_there_is_said(tmp_path: Path, shell: str) -> None:
    guest = bundled(tmp_path, "echo never", workdir=Path("/no/such folder"))
    done = run(guest, programs(tmp_path / "bin", shell))
    assert done.stdout == b""
    assert (guest / "end").read_text() == "exit 125\n"


HOSTILE: dict[str | bytes, str | bytes] = {
    "SPACES": "  two  ",
    "QUOTES": """'single' "double" `ls` $HOME $(id) \\ !""",
    "LINES": "one\ntwo\n",
    "EMPTY": "",
    "EQUALS": "a=b=c",
    "OPTION": "--help",
    "GLOB": "* ? [a-z] ~",
    b"BYTES": b"caf\xc3\xa9 \xff\xfe",
    "BASH_FUNC_module%%": "() { echo a function; }",
    "with-dash.and.dot": "x",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_environment_and_arguments_arrive_byte_for_byte(tmp_path: Path, shell: str) -> None:
    arguments: list[str | bytes] = ["a b", "", "'", '"', "$HOME", "*", "-n", "li\nne", b"\xff\\n"]
    show = (
        "import os, sys\n"
        "print([os.fsencode(a) for a in sys.argv[1:]], dict(os.environb), sep='\\n')\n"
    )
    guest = bundled(
        tmp_path, show, *arguments, interpreter=f"{sys.executable} -I", environment=HOSTILE
    )
    done = run(guest, programs(tmp_path / "bin", shell))
    assert done.stderr == b""
    argv, environment = done.stdout.splitlines()
    assert eval(argv) == [os.fsencode(argument) for argument in arguments]  # noqa: S307 (our own)
    found = eval(environment)  # noqa: S307
    wanted = {os.fsencode(key): os.fsencode(value) for key, value in HOSTILE.items()}
    wanted[b"PYTHONPATH"] = os.fsencode(ROOT)
    for kind in ("machine", "job"):
        wanted[f"{kind}features".upper().encode()] = os.fsencode(guest / f"{kind}features")
    found.pop(b"LC_CTYPE", None)  # Python's own, on both sides
    assert found == wanted


def test_an_interpreter_gets_the_rest_of_its_line_as_one_argument(tmp_path: Path) -> None:
    """As from the kernel: `#!/usr/bin/env -S x y` is two words."""
    args = tmp_path / "args"
    args.write_text('#!/bin/sh\nfor a; do echo "<$a>"; done\n')
    args.chmod(0o755)
    guest = bundled(tmp_path, "", "x", interpreter=f"{args} -a -b  c")
    done = run(guest, "/usr/bin:/bin")
    assert done.stdout.decode().splitlines() == ["<-a -b  c>", f"<{guest}/script>", "<x>"]


@pytest.mark.parametrize("name", ["a b", "it's", '"', "$HOME", "li\nne", b"\xff", "-n", "* ~"])
@pytest.mark.parametrize("shell", SHELLS)
def test_the_working_directory_may_have_any_name(
    tmp_path: Path, shell: str, name: str | bytes
) -> None:
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    guest = bundled(tmp_path, "touch here", workdir=folder)
    assert run(guest, programs(tmp_path / "bin", shell)).returncode == 0
    assert (folder / "here").exists()


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_umask_is_the_users_and_the_bundle_is_private(tmp_path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        guest = bundled(tmp_path, f"umask; : >{tmp_path}/made")
        assert int(run(guest, "/usr/bin:/bin").stdout, 8) == umask
    finally:
        os.umask(old)
    for name in ("script", "start", "run"):
        assert (guest / name).stat().st_mode & 0o077 == 0


# -- what the user declares -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (None, []),
        ("", []),
        (" , ,", []),
        ("a", ["a"]),
        ("a, b/c ,d e", ["a", "b/c", "d e"]),
        ("a..b/..c/d..", ["a..b/..c/d.."]),
        ("-rf,--help", ["-rf", "--help"]),
    ],
)
def test_declared_files(
    monkeypatch: pytest.MonkeyPatch, text: str | None, names: list[str]
) -> None:
    monkeypatch.delenv("WNODES_STAGE_IN", raising=False)
    if text is not None:
        monkeypatch.setenv("WNODES_STAGE_IN", text)
    assert starter.declared("WNODES_STAGE_IN") == names


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "..", "../x", "a/../../x", "a/..", "ok,../x", " /etc/passwd"]
)
def test_files_elsewhere_are_refused_for_good(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("WNODES_STAGE_OUT", name)
    with pytest.raises(starter.NoMachineError, match=r"WNODES_STAGE_OUT.*below") as caught:
        starter.declared("WNODES_STAGE_OUT")
    assert not caught.value.retry


@pytest.mark.parametrize(
    ("folder", "shares", "is_below"),
    [
        ("/home", ["/home"], True),
        ("/home/alice/x", ["/data", "/home"], True),
        ("/home/alice", ["/home/"], True),
        ("/homework", ["/home"], False),
        ("/", ["/home"], False),
        ("/data", [], False),
        ("/anything", ["/"], True),
    ],
)
def test_below(folder: str, shares: list[str], is_below: bool) -> None:
    assert starter.below(folder, shares) is is_below


# -- the whole starter, with a bait and a machine in this folder ----------------------------------

FAKE_SSH = """#!/usr/bin/python3 -IS
import os, signal, sys
words = sys.argv[1:]
open(LOG, "a").write(" ".join(words) + chr(10))
while words[0].startswith("-"):
    if words[0] == "-O":
        sys.exit(0)
    words = words[2:] if words[0] in ("-o", "-F") else words[1:]
for number in range(1, 32):  # what runs in a machine ignores and blocks nothing
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, [])
os.execv("/bin/sh", ["sh", "-c", words[1]])
"""


class Bait:
    """A bait's socket that gives each caller the same lines."""

    def __init__(self, path: Path, lines: list[object]) -> None:
        self.heard: list[object] = []
        self.lines = lines
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            with link:
                self.heard.append(json.loads(link.recv(4096)))
                link.sendall(b"".join(json.dumps(line).encode() + b"\n" for line in self.lines))

    def now_says(self, *lines: object) -> None:
        self.lines = list(lines)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class Stage:
    """A folder with all that a starter meets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.guest = folder / "guest"
        self.work = folder / "work"
        self.machine = folder / "machine"  # the machine's own working directory
        for each in (self.guest, self.work, self.machine, folder / "bin"):
            each.mkdir()
        self.program("ssh", FAKE_SSH.replace("LOG", repr(str(folder / "ssh.log"))))
        self.program("scontrol", f'#!/bin/sh\nprintf "%s\\n" "$*" >>{folder}/scontrol.log\n')
        self.bait: Bait | None = None
        self.environment: dict[str, str] = {}
        self.ready: dict[str, object] = {
            "state": "ready",
            "address": "127.77.0.2",
            "folder": str(folder),
            "shares": [str(folder)],
        }

    def program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def says(self, *lines: object) -> None:
        self.bait = Bait(self.folder / "hv1.sock", list(lines))

    def start(self, script: str, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        (self.folder / "script").write_text(script)
        words = ("script", "/bin/sh", str(self.folder / "script"), *arguments)
        return self.begin(*words, **more)

    def begin(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        code = (
            "import sys; from hooks import starter;"
            "import batch; batch.END_PATIENCE = 0.2;"
            f"starter.GUEST = {str(self.guest)!r}; starter.LOOK = 0.2;"
            "starter.SILENCE = 0.5; starter.BAIT_AWAY = 0.5;"
            "starter.main(*sys.argv[1:])"
        )
        argv = [sys.executable, "-c", code, "slurm", f"{self.folder}/%n.sock", "2", "7", "hv1"]
        return subprocess.Popen(
            [*argv, *words],
            cwd=self.work,
            env={"PATH": f"{self.folder}/bin:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
            | self.environment,
            stdin=more.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
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


def test_a_script_may_name_its_own_interpreter(stage: Stage) -> None:
    own = stage.folder / "own"
    own.write_text("#!/usr/bin/awk -f\nBEGIN { print ARGV[1]; exit 4 }\n")
    stage.says(stage.ready)
    process = stage.begin("script", "", str(own), "a b")
    assert (process.communicate(timeout=15)[0], process.returncode) == ("a b\n", 4)


def test_a_command_runs_as_it_stands(stage: Stage) -> None:
    stage.says(stage.ready)
    process = stage.begin("command", "/bin/sh", "-c", 'echo "$0: $1"; exit 6', "it", "a b")
    assert (process.communicate(timeout=15)[0], process.returncode) == ("it: a b\n", 6)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_death_by_a_signal_is_the_jobs_own(stage: Stage, number: signal.Signals) -> None:
    stage.says(stage.ready)
    code, _out, _errors = stage.run(f"ulimit -c 0; kill -{number.name[3:]} $$")
    assert code == -number


@pytest.mark.parametrize("name", ["USR1", "USR2", "TERM", "HUP"])
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
    process = stage.start("trap 'echo got; exit 5' USR1; while :; do sleep 0.05; done")
    link, _ = silent.accept()
    process.send_signal(signal.SIGUSR1)
    time.sleep(0.1)
    link.sendall(json.dumps(stage.ready).encode() + b"\n")
    out, _errors = process.communicate(timeout=10)
    silent.close()
    # The script may not have set its trap yet: then it dies of the signal, as on the node.
    assert (process.returncode, out) in ((5, "got\n"), (-signal.SIGUSR1, ""))


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


def test_a_machine_that_dies_before_its_session_is_heard_of(stage: Stage) -> None:
    stage.program("ssh", f"#!/bin/sh\ntouch {stage.folder}/asked\nexec sleep 60\n")
    stage.says(stage.ready)
    process = stage.start("echo never")
    eventually((stage.folder / "asked").exists)
    assert stage.bait
    stage.bait.lines = [FAILED]
    out, errors = process.communicate(timeout=10)
    assert (process.returncode, out, stage.scontrol) == (1, "", ["requeue 7"])
    assert f"wnodes: job 7: {FAILED['message']}\n" in errors


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
    stage.bait.lines = [FAILED]
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
        f"UserKnownHostsFile={stage.folder}/known_hosts",
        "GlobalKnownHostsFile=none",
        "IdentitiesOnly=yes",
        f"IdentityFile={stage.folder}/key",
        "BatchMode=yes",
    ):
        assert wanted in log


# -- Machine/Job Features -------------------------------------------------------------------------


def test_what_a_machine_is_told_about_itself() -> None:
    job = Slurm("7", "hv1")
    said = starter.features(job, {"cores": 2, "memory": 384, "shutdown": None})
    assert said == {
        "machinefeatures/total_cpu": "2\n",
        "jobfeatures/allocated_cpu": "2\n",
        "jobfeatures/job_id": "7\n",
        "jobfeatures/jobstart_secs": f"{starter.STARTED}\n",
        "jobfeatures/max_rss_bytes": "402653184\n",
    }
    drained = starter.features(job, {"cores": 2, "memory": 384, "shutdown": 1800000000.7})
    assert {name: drained[name] for name in drained.keys() - said.keys()} == {
        "machinefeatures/shutdowntime": "1800000000\n",
        "jobfeatures/shutdowntime_job": "1800000000\n",
    }
    # A bait of an earlier version says less.
    assert set(starter.features(job, {})) == {"jobfeatures/job_id", "jobfeatures/jobstart_secs"}


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
    assert len([line for line in log if " -O exit " not in line]) == 2


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
    stage.bait.now_says(stage.ready | {"shutdown": 1800000000.5})
    assert [process.stdout.readline() for _ in range(2)] == ["1800000000\n"] * 2
    stage.bait.now_says(stage.ready | {"shutdown": None})
    out, _errors = process.communicate(timeout=10)
    assert (process.returncode, out) == (0, "gone\n")


# -- declared files, between two folders ----------------------------------------------------------


class Folder(starter.Guest):
    """A machine whose commands run here: the working directory's name means another folder."""

    def __init__(self, node: Path, machine: Path) -> None:
        self.names = (shlex.quote(str(node)), shlex.quote(str(machine)))

    def run(self, command: str, **streams: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sh", "-c", command.replace(*self.names)], **streams)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("node", "machine"):
        (tmp_path / name).mkdir()
    return tmp_path / "node", tmp_path / "machine"


def test_declared_files_travel_in(folders: tuple[Path, Path]) -> None:
    node, machine = folders
    (node / "sub").mkdir()
    (node / "sub" / "a b").write_text("x")
    (node / "-rf").write_text("y")
    (node / "other").write_text("z")
    starter.stage_in(Folder(node, machine), str(node), ["sub/a b", "-rf"])
    assert (machine / "sub" / "a b").read_text() == "x"
    assert (machine / "-rf").read_text() == "y"
    assert not (machine / "other").exists()


def test_a_declared_file_that_is_not_there_is_refused_for_good(folders: tuple[Path, Path]) -> None:
    node, machine = folders
    with pytest.raises(starter.NoMachineError, match="WNODES_STAGE_IN") as caught:
        starter.stage_in(Folder(node, machine), str(node), ["none"])
    assert not caught.value.retry


def test_declared_files_come_back_and_no_others(folders: tuple[Path, Path]) -> None:
    node, machine = folders
    (machine / "out put").write_text("x")
    (machine / "dir").mkdir()
    (machine / "dir" / "deep").write_text("y")
    (machine / "other").write_text("z")
    assert starter.stage_out(Folder(node, machine), str(node), ["out put", "dir"])
    assert (node / "out put").read_text() == "x"
    assert (node / "dir" / "deep").read_text() == "y"
    assert not (node / "other").exists()


def test_a_result_that_is_not_there_is_said(folders: tuple[Path, Path]) -> None:
    node, machine = folders
    assert not starter.stage_out(Folder(node, machine), str(node), ["none"])


def test_results_named_like_options_come_back(folders: tuple[Path, Path]) -> None:
    node, machine = folders
    (machine / "--help").write_text("x")
    assert starter.stage_out(Folder(node, machine), str(node), ["--help"])
    assert (node / "--help").read_text() == "x"


class Hostile(starter.Guest):
    """A machine whose root answers with a tar of his own making."""

    def __init__(self, tar: bytes) -> None:
        self.tar = tar

    def run(self, command: str, **streams: Any) -> subprocess.Popen[bytes]:  # noqa: ARG002
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin
        process.stdin.write(self.tar)
        process.stdin.close()
        return process


def hostile_tar(*members: tuple[str, str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind, value in members:
            info = tarfile.TarInfo(name)
            info.mode = 0o4777
            if kind == "link":
                info.type, info.linkname = tarfile.SYMTYPE, value
                tar.addfile(info)
            elif kind == "hard":
                info.type, info.linkname = tarfile.LNKTYPE, value
                tar.addfile(info)
            else:
                info.size = len(value)
                tar.addfile(info, io.BytesIO(value.encode()))
    return packed.getvalue()


@pytest.mark.parametrize(
    "members",
    [
        [("../secret", "file", "evil")],
        [("out/../../secret", "file", "evil")],
        [("out", "link", ".."), ("out/secret", "file", "evil")],
        [("out", "link", "../secret"), ("out", "file", "evil")],
        [("undeclared", "file", "evil")],
        [("out", "hard", "../secret")],
    ],
)
def test_a_hostile_machine_writes_nowhere_else(
    tmp_path: Path, members: list[tuple[str, str, str]]
) -> None:
    node = tmp_path / "node"
    node.mkdir()
    secret = tmp_path / "secret"
    secret.write_text("mine")
    starter.stage_out(Hostile(hostile_tar(*members)), str(node), ["out"])
    assert secret.read_text() == "mine"
    assert secret.stat().st_nlink == 1
    assert {path.name for path in node.iterdir()} <= {"out"}


def ignore_all() -> None:
    for name in starter.FORWARDED:
        signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_IGN)


@pytest.mark.parametrize("name", starter.FORWARDED)
def test_to_die_is_to_die_of_that_signal(name: str) -> None:
    number = getattr(signal, f"SIG{name}")
    done = subprocess.run(
        [sys.executable, "-c", f"from hooks import starter; starter.die({number:d})"],
        env={"PYTHONPATH": str(ROOT)},
        preexec_fn=ignore_all,
    )
    assert done.returncode == -number
