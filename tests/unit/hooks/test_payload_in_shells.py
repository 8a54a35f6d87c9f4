"""What is sent into a machine, run there by each shell, and how it ends.

The machine is a folder of this one.
"""

import io
import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import payload
from tests.unit.conftest import eventually

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]
BUSYBOX = (
    "sh",
    "setsid",
    "cat",
    "mv",
    "env",
    "setpriv",
    "mkdir",
    "sleep",
    "tar",
    "rm",
    "true",
    "echo",
)
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
    stdin: int = subprocess.PIPE,
    stderr: int | None = None,
    niceness: int = 0,
    scratch: str = "",
) -> Path:
    """The machine's folder, with what the starter sends into it."""
    guest = tmp_path / "guest"
    guest.mkdir(exist_ok=True)
    (tmp_path / "script").write_text(script)
    code = (
        "import sys; import payload; payload.GUEST = sys.argv[1];"
        "sys.stdout.buffer.write("
        "payload.bundle(*payload.read('script', [*sys.argv[3:5], *sys.argv[6:]]), sys.argv[5],"
        "sys.argv[2]))"
    )
    fixed: list[str | Path] = [
        guest,
        scratch,
        interpreter,
        tmp_path / "script",
        workdir or tmp_path,
    ]
    words: list[str | bytes | Path] = [sys.executable, "-c", code, *fixed, *arguments]
    done = subprocess.run(
        [b"nice", b"-n", str(niceness).encode(), *(os.fsencode(word) for word in words)],
        env={b"PYTHONPATH": os.fsencode(ROOT / "hooks")}
        | {os.fsencode(key): os.fsencode(value) for key, value in (environment or {}).items()},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
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
    ("kill -INT $$", "exit 130"),  # the two that shells do not name, see hooks/run.sh
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
    monkeypatch.setattr(payload, "GUEST", str(guest))
    load = payload.read("script", ["/bin/sh", str(tmp_path / "script")])
    unpack(payload.bundle(*load, "/"), guest)
    done = run(guest, programs(tmp_path / "bin", shell))
    assert (guest / "end").read_text() == f"{end}\n"
    how, number = end.split()
    assert done.returncode == int(number) + (128 if how == "signal" else 0)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", ["HUP", "TERM", "USR1"])
def test_a_signal_for_all_of_the_users_processes_loses_no_end(
    tmp_path: Path, shell: str, name: str
) -> None:
    """As of `kill -TERM -1`, which on the node reaches nothing that a job depends on."""
    guest = bundled(tmp_path, f"kill -{name} $PPID; sleep 0.1; kill -{name} $$")
    run(guest, programs(tmp_path / "bin", shell))
    number = getattr(signal, f"SIG{name}")
    assert (guest / "end").read_text() == f"signal {number:d}\n"


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
def test_output_can_be_opened_by_its_name(tmp_path: Path, shell: str) -> None:
    """An SSH server's may be sockets, or pipes of root's, which can't."""
    script = "echo out >>/dev/stdout; echo err >>/dev/stderr; head -c 300000 /dev/zero; exit 5"
    guest = bundled(tmp_path, script)
    path = programs(tmp_path / "bin", shell)
    (out, to_out), (err, to_err) = socket.socketpair(), socket.socketpair()
    running = subprocess.Popen(
        command(guest), env={"PATH": path}, stdout=to_out.fileno(), stderr=to_err.fileno()
    )
    heard = []
    for here, there in ((out, to_out), (err, to_err)):
        there.close()
        here.settimeout(10)
        with here, here.makefile("rb") as stream:
            heard.append(stream.read())
    assert heard == [b"out\n" + bytes(300000), b"err\n"]
    assert (running.wait(10), (guest / "end").read_text()) == (5, "exit 5\n")


@pytest.mark.parametrize("shell", SHELLS)
def test_streams_that_are_one_on_the_node_are_one(tmp_path: Path, shell: str) -> None:
    """SSH has two, and keeps no order between them."""
    guest = bundled(tmp_path, "echo out; echo err >&2; kill -KILL $$", stderr=subprocess.STDOUT)
    done = run(guest, programs(tmp_path / "bin", shell))
    assert (done.stdout, done.stderr) == (b"out\nerr\n", b"")
    assert (guest / "end").read_text() == "signal 9\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_stream_that_is_nothing_on_the_node_is_nothing(tmp_path: Path, shell: str) -> None:
    """Programs do otherwise where their input is a pipe."""
    script = "stat -L -c %t:%T /proc/self/fd/0 /proc/self/fd/2; echo lost >&2"
    null = subprocess.DEVNULL
    guest = bundled(tmp_path, script, stdin=null, stderr=null)
    done = run(guest, programs(tmp_path / "bin", shell), input=b"in\n")
    assert (done.stdout, done.stderr) == (b"1:3\n1:3\n", b"")
    assert (guest / "end").read_text() == "exit 0\n"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", ["of a job", "-p", "$x"])
def test_there_is_the_folder_that_tmpdir_names(tmp_path: Path, shell: str, name: str) -> None:
    """Batch systems make it on the node alone."""
    made, there = tmp_path / name / "sub", tmp_path / "there"
    there.mkdir(mode=0o755)
    folders: dict[str | bytes, str | bytes] = {"TMPDIR": str(made), "TMP": str(there)}
    script = 'for f in "$TMPDIR" "$TMP"; do echo "$f"; stat -c %a "$f"; : >"$f/file"; done'
    guest = bundled(tmp_path, script, environment=folders)
    done = run(guest, programs(tmp_path / "bin", shell))
    assert done.stdout.decode().splitlines() == [str(made), "700", str(there), "755"]
    assert (made / "file").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_tmpdir_is_tmp_where_it_can_not_be_made(tmp_path: Path, shell: str) -> None:
    folders: dict[str | bytes, str | bytes] = {"TMPDIR": "/proc/none", "TMP": ""}
    guest = bundled(tmp_path, 'echo "$TMPDIR,$TMP,${TMP-unset}"', environment=folders)
    done = run(guest, programs(tmp_path / "bin", shell))
    assert (done.stdout, done.stderr) == (b"/tmp,,\n", b"")


@pytest.mark.parametrize("said", [None, "/bin/tcsh"])
def test_the_shell_is_the_accounts_where_the_job_says_none(
    tmp_path: Path, said: str | None
) -> None:
    """As bash has it on the node; the account in the VM has another."""
    guest = bundled(tmp_path, "echo $SHELL", environment={"SHELL": said} if said else {})
    known = said or pwd.getpwuid(os.getuid()).pw_shell
    assert run(guest, "/usr/bin:/bin").stdout.decode() == f"{known}\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_niceness_is_the_jobs(tmp_path: Path, shell: str) -> None:
    here = os.getpriority(os.PRIO_PROCESS, 0)
    guest = bundled(tmp_path, "cut -d ' ' -f 19 /proc/self/stat", niceness=3)
    done = run(guest, programs(tmp_path / "bin", shell))
    # The job's, on top of what this machine's own session has.
    assert int(done.stdout) == min(19, here + here + 3)


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
    "-u": "OPTION",
    "--": "-",
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
        "print([os.fsencode(a) for a in sys.argv[1:]])\n"
        "pairs = open('/proc/self/environ', 'rb').read().split(b'\\0')[:-1]\n"
        "print(dict(pair.split(b'=', 1) for pair in pairs))\n"
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
    wanted[b"PYTHONPATH"] = os.fsencode(ROOT / "hooks")
    wanted[b"SHELL"] = os.fsencode(pwd.getpwuid(os.getuid()).pw_shell)
    for kind in ("machine", "job"):
        wanted[f"{kind}features".upper().encode()] = os.fsencode(guest / f"{kind}features")
    assert found == wanted


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("form", ["interpreter", "script", "command"])
def test_a_program_may_have_any_name(tmp_path: Path, shell: str, form: str) -> None:
    """Also one that env, which gives it its environment, takes for an assignment."""
    folder = tmp_path / "run=5"
    folder.mkdir()
    program = folder / "x=y"
    program.write_text('#!/bin/sh\necho "$0|$*|$SITE|"\nexit 6\n')
    program.chmod(0o755)
    words = {
        "interpreter": ("script", [str(program), str(program), "a=b"]),
        "script": ("script", ["", str(program), "a=b"]),
        "command": ("command", [str(program), "a=b"]),
    }[form]
    code = (
        "import sys; import payload; payload.GUEST = sys.argv[1];"
        "sys.stdout.buffer.write(payload.bundle(*payload.read(sys.argv[2], sys.argv[3:]), '/'))"
    )
    guest = tmp_path / "guest"
    guest.mkdir()
    environment = {
        "PYTHONPATH": str(ROOT / "hooks"),
        "SITE": "box",
        "PATH": "/nowhere:/usr/bin:/bin",
    }
    packed = subprocess.run(
        [sys.executable, "-c", code, guest, words[0], *words[1]],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    unpack(packed.stdout, guest)
    done = run(guest, programs(tmp_path / "bin", shell))
    began = {
        "interpreter": f"{program}|{guest}/x=y a=b",
        "script": f"{guest}/x=y|a=b",
        "command": f"{program}|a=b",
    }[form]
    assert done.stdout.decode().startswith(f"{began}|box|\n"), done.stderr
    assert (guest / "end").read_text() == "exit 6\n"


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


@pytest.mark.parametrize("shell", SHELLS)
def test_the_folders_for_temporary_files_are_there(tmp_path: Path, shell: str) -> None:
    """Batch systems make one for each job on its node: TMPDIR=/tmp/5.1.all.q."""
    names = {"TMPDIR": "5.1 all.q/$x", "TMP": "node/job", "TEMP": "nowhere"}
    folders = {name: tmp_path / folder for name, folder in names.items()}
    for name in ("TMPDIR", "TMP"):
        folders[name].mkdir(parents=True)
    script = 'echo "$TMPDIR"; echo "$TMP"; echo "$TEMP"; : >"$TMPDIR/made"'
    guest = bundled(tmp_path, script, environment={k: str(v) for k, v in folders.items()})
    shutil.rmtree(tmp_path / "5.1 all.q")
    shutil.rmtree(tmp_path / "node")
    (tmp_path / "node").write_text("in the VM nothing can be made below that name")
    done = run(guest, programs(tmp_path / "bin", shell))
    said = done.stdout.decode().splitlines()
    assert said == [str(folders["TMPDIR"]), "/tmp", str(folders["TEMP"])], done.stderr
    assert (folders["TMPDIR"] / "made").exists()
    assert (guest / "end").read_text() == "exit 0\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_temporary_files_go_to_the_scratch_disk(tmp_path: Path, shell: str) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    script = 'echo "$TMPDIR $TMP ${TEMP-unset} $WNODES_SCRATCH"'
    set_there: dict[str | bytes, str | bytes] = {"TMP": str(tmp_path / "job")}
    set_there |= {"WNODES_SCRATCH": "20"}
    guest = bundled(tmp_path, script, environment=set_there, scratch=str(scratch))
    done = run(guest, programs(tmp_path / "bin", shell))
    assert done.stdout.decode() == f"{scratch} {scratch} unset 20\n", done.stderr


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


# Soft limits that no shell's own work needs, and what `ulimit` of bash says of them.
SET = {
    "n": (resource.RLIMIT_NOFILE, 200, "200"),
    "s": (resource.RLIMIT_STACK, 5 << 20, "5120"),
    "f": (resource.RLIMIT_FSIZE, 3 << 20, "3072"),
    "c": (resource.RLIMIT_CORE, 0, "0"),
    "t": (resource.RLIMIT_CPU, 77, "77"),
    "d": (resource.RLIMIT_DATA, 900 << 20, "921600"),
    "v": (resource.RLIMIT_AS, 1 << 30, "1048576"),
    "l": (resource.RLIMIT_MEMLOCK, 32 << 10, "32"),
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("hard", [False, True])
def test_the_limits_are_the_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str, hard: bool
) -> None:
    guest = tmp_path / "guest"
    guest.mkdir()
    kind = "H" if hard else "S"
    (tmp_path / "script").write_text("".join(f"ulimit -{kind} -{flag}\n" for flag in SET))
    monkeypatch.setattr(payload, "GUEST", str(guest))
    values = {number: value for number, value, _ in SET.values()}
    monkeypatch.setattr(
        resource, "getrlimit", lambda number: (values[number], values[number] if hard else -1)
    )
    load = payload.read("script", ["/bin/bash", str(tmp_path / "script")])
    unpack(payload.bundle(*load, "/"), guest)
    done = run(guest, programs(tmp_path / "bin", shell))
    assert done.stdout.decode().split() == [said for _, _, said in SET.values()], done.stderr
    assert (guest / "end").read_text() == "exit 0\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_limit_is_the_machines_where_that_is_lower(tmp_path: Path, shell: str) -> None:
    """And says nothing, which would be taken for the name of a signal."""
    guest = bundled(tmp_path, "ulimit -S -n; ulimit -H -n; exit 137")
    command = f"ulimit -S -n 64; ulimit -H -n 100; exec sh {guest}/run"
    path = {"PATH": programs(tmp_path / "bin", shell)}
    done = subprocess.run(["/bin/sh", "-c", command], env=path, capture_output=True, timeout=10)
    assert done.stdout.split() == [b"100", b"100"]
    assert (guest / "end").read_text() == "exit 137\n"


# What the script leaves: in sessions of their own, without a parent, deaf to all that can be
# ignored, and one that never stops to start others.
LEAVES = """
trap '' HUP INT QUIT TERM USR1 USR2
setsid sh -c 'sleep 3217; :' &
(setsid setsid sleep 3217 &)
setsid sh -c 'while :; do sleep 3217 & sleep 0.01; done' &
exit 7
"""


@pytest.mark.parametrize("shell", SHELLS)
def test_nothing_of_the_scripts_outlives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    """In a world of processes of its own, whose first one is the SSH server."""
    guest = tmp_path / "guest"
    guest.mkdir()
    (tmp_path / "script").write_text(LEAVES)
    monkeypatch.setattr(payload, "GUEST", str(guest))
    monkeypatch.setattr(payload, "boot_id", lambda: "another")
    load = payload.read("script", ["/bin/sh", str(tmp_path / "script")])
    unpack(payload.bundle(*load, "/"), guest)
    server = f"""
        sh -c 'sh {guest}/run; echo "ended $?"'
        while grep -q '[3]217' /proc/[0-9]*/cmdline 2>/dev/null; do sleep 0.1; done
        echo gone
    """
    apart = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    done = subprocess.run(
        [*apart, "/bin/sh", "-c", server],
        env={"PATH": programs(tmp_path / "bin", shell)},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.stdout.split("\n") == ["ended 7", "gone", ""], done.stderr
    assert (guest / "end").read_text() == "exit 7\n"


def test_nothing_is_killed_on_the_node_itself(tmp_path: Path) -> None:
    """Here, that is: whatever SSH has reached."""
    script = f"setsid sh -c 'echo $$ >{tmp_path}/pid; exec sleep 30' >/dev/null 2>&1 &\n"
    guest = bundled(tmp_path, f"{script}until [ -s {tmp_path}/pid ]; do sleep 0.05; done")
    assert run(guest, "/usr/bin:/bin").returncode == 0
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)  # it is there
