"""Real processes with the programs and command lines that a test wants, as libvirt gives QEMU its
own."""

import atexit
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

QEMU = "/usr/bin/qemu-system-x86_64"

Process = subprocess.Popen[bytes]


@cache
def program(name: str) -> Path:
    """A program of that name, which everybody can run: a shell."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))  # in /tmp a set-user-ID bit may do nothing
    atexit.register(shutil.rmtree, folder)
    folder.chmod(0o755)
    path = folder / name
    shutil.copyfile("/bin/sh", path)
    path.chmod(0o755)
    return path


def started(
    name: str, *options: str, runs: Path | None = None, uid: int | None = None, before: str = ""
) -> Process:
    """A process of that name and these options that waits until its input ends, or it does.

    `runs`: the program; else one that is called as the process is. `before`: done by its shell.
    """
    process = subprocess.Popen(
        [name, "-c", f"{before}\necho; read line", "guest", *options],
        executable=runs or program(Path(name).name),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
        cwd="/",
    )
    assert process.stdout
    assert process.stdout.read(1) == b"\n"  # it is this program by now, no longer Python
    return process


def guest(machine: str, folder: Path) -> tuple[str, ...]:
    """The options of a VM whose files are in its folder below that one."""
    disk = f'{{"driver":"file","filename":"{folder}/{machine}/disk.qcow2","node-name":"disk"}}'
    return ("-name", "guest=wnodes-box-7-0", "-uuid", machine, "-blockdev", disk, "-nographic")


def lives(process: Process) -> bool:
    """Whether nobody has killed it, however lately; it ends then."""
    process.communicate(b"\n")
    return process.returncode == 0


def end(process: Process) -> None:
    """End it, whatever has become of it."""
    with process:
        process.kill()
