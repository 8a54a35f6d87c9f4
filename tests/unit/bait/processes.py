"""Real processes with the command lines that a test wants, as libvirt gives QEMU its own."""

import subprocess
from pathlib import Path

QEMU = "/usr/bin/qemu-system-x86_64"

Process = subprocess.Popen[bytes]


def started(name: str, *options: str) -> Process:
    """A process of that name and these options that waits until its input ends, or it does."""
    process = subprocess.Popen(
        [name, "-c", "echo; read line", "guest", *options],
        executable="/bin/sh",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdout.read(1) == b"\n"  # it is this program by now, no longer Python
    return process


def guest(machine: str, folder: Path) -> tuple[str, ...]:
    """The options of a machine whose files are in its folder below that one."""
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
