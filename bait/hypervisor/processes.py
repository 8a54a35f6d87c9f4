"""The QEMU processes of the node, as the kernel knows them: a second source beside libvirt."""

import os
import re
import signal
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

_PROC = Path("/proc")
_QEMU = re.compile(r"qemu-system-|qemu-kvm|kvm\b")  # Debian's, Enterprise Linux's, older ones
_LETTING_GO = 5.0  # seconds for the kernel to end a process that was killed

_Entry = os.DirEntry[str]  # a process's folder in /proc


@dataclass(frozen=True)
class Process:
    """A process, as the kernel tells of it."""

    uids: frozenset[int]  # real, effective, saved, and that of files
    program: str  # the file name of what it runs; empty if the kernel does not let us see


def is_qemu(process: Process, uids: Collection[int]) -> bool:
    """Whether libvirt may have started it as a guest's: anybody can give a program such words.

    `uids` are those that libvirt runs QEMU as. Nobody else can have all of a process's uids be one
    of these, nor have such a process run what is no QEMU. A program that was replaced since, as by
    an upgrade, has " (deleted)" or its packager's mark behind its name.
    """
    ours = len(process.uids) == 1 and process.uids <= set(uids)
    return ours and _may_be_qemu(process.program)


def _may_be_qemu(program: str) -> bool:
    return not program or _QEMU.match(program) is not None


def is_share_server(program: str) -> bool:
    """Whether a process that runs this serves shared folders to guests. Nothing waits for one that
    does not, nor spares it: whoever runs one with a VM's words has it ended with the VM."""
    return program.startswith("virtiofsd")


class Processes:
    """The processes of one bait's VMs.

    A process is a VM's if it is a QEMU of libvirt's, has the VM's id, and uses a file in
    the VM's own folder: the id alone follows from cluster and job, which another site may
    have, too.
    """

    def __init__(
        self, folder: Path, uids: Callable[[], Collection[int]], proc: Path = _PROC
    ) -> None:
        """`folder` has the VMs' folders of files; `uids` says whom libvirt runs QEMU as."""
        self.folder = folder
        self.uids = uids
        self.proc = proc

    def of(self, machine: str) -> int | None:
        """The number of the process that runs the VM with this id; None if there is none."""
        return next((pid for pid, id_ in self._all() if id_ == machine), None)

    def running(self) -> frozenset[str]:
        """The ids of all VMs that a process runs."""
        return frozenset(id_ for _pid, id_ in self._all())

    def kill(self, machine: str) -> bool:
        """End the process of a VM that libvirt does not know; whether there is none then."""
        pid = self.of(machine)
        if pid is None or _kill(pid, lambda: self.of(machine) == pid):
            return True
        return self.wait_for_end(machine, _LETTING_GO)

    def kill_helpers(self, machine: str) -> None:
        """End what serves shared folders to a VM that is gone.

        They end with its QEMU by themselves, but not where libvirt was killed between the two.
        """
        for pid in self._helpers(machine):
            _kill(pid, lambda pid=pid: pid in self._helpers(machine))  # type: ignore[misc]

    def wait_for_end(self, machine: str, seconds: float) -> bool:
        """Whether the VM has no process any more; asked again for that long."""
        deadline = time.monotonic() + seconds
        while self.of(machine) is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _all(self) -> Iterator[tuple[int, str]]:
        uids = frozenset(self.uids())
        for entry in self._entries():
            # Cheap looks first, for a node may have thousands of processes, and what a process
            # writes itself last: there may be much of it.
            if _owner(entry) not in uids:
                continue
            program = _program(entry)
            if program is None or not _may_be_qemu(program):
                continue
            if is_qemu(Process(_uids(entry), program), uids):
                words = _command_line(entry)
                for option, machine in pairwise(words):
                    own = f"{self.folder}/{machine}/"
                    if option == "-uuid" and any(own in word for word in words):
                        yield int(entry.name), machine

    def _helpers(self, machine: str) -> list[int]:
        """Those of a VM: virtiofsd, under the name that hooks/virtiofsd.py gives it."""
        own = f"{self.folder}/{machine}/virtiofsd"
        return [
            int(entry.name)
            for entry in self._entries()
            if is_share_server(_program(entry) or "") and _command_line(entry)[:1] == [own]
        ]

    def _entries(self) -> list[_Entry]:
        with os.scandir(self.proc) as entries:
            return [entry for entry in entries if entry.name.isdigit()]


def _kill(pid: int, still: Callable[[], bool]) -> bool:
    """End a process, unless its number is another's by now; whether it had gone before."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        if still():  # the handle is of this very process
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        return True
    finally:
        os.close(handle)
    return False


def _command_line(process: _Entry) -> list[str]:
    """Its words; a process that is gone, or dead and not yet reaped, has none."""
    try:
        text = Path(process.path, "cmdline").read_bytes()
    except OSError:
        return []
    return text.decode("utf-8", "replace").split("\0")


def _owner(process: _Entry) -> int | None:
    """Its effective uid, which may be a set-user-ID program's."""
    try:
        return process.stat().st_uid
    except OSError:
        return None


def _program(process: _Entry) -> str | None:
    """The file name of what it runs; empty if that is not to be seen: root's right may be cut down.

    None: it runs nothing. It is a thread of the kernel, of which there may be a thousand, or dead.
    """
    try:
        path = os.readlink(f"{process.path}/exe")  # noqa: PTH115 (of each process of root's)
    except FileNotFoundError:
        return None
    except OSError:
        return ""
    return path.rpartition("/")[2]


def _uids(process: _Entry) -> frozenset[int]:
    """Its uids; one that is gone has none."""
    try:
        status = Path(process.path, "status").read_text(errors="replace")
    except OSError:
        return frozenset()
    # A program's name for itself is in a line before, in which a line break is written as `\n`.
    numbers = next((line for line in status.split("\n") if line.startswith("Uid:")), "Uid:")
    return frozenset(map(int, numbers.split()[1:]))
