"""The QEMU processes of the node, as the kernel knows them: a second source beside libvirt."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

_PROC = Path("/proc")
_LETTING_GO = 5.0  # seconds for the kernel to end a process that was killed


class Processes:
    """The processes of one bait's machines.

    A process is a machine's if it is a QEMU, has the machine's id, and uses a file in the machine's
    own folder: the id alone follows from cluster and job, which another site may have, too.
    """

    def __init__(self, folder: Path, proc: Path = _PROC) -> None:
        """`folder` has the machines' folders of files."""
        self.folder = folder
        self.proc = proc

    def of(self, machine: str) -> int | None:
        """The number of the process that runs the machine with this id; None if there is none."""
        return next((pid for pid, id_ in self._all() if id_ == machine), None)

    def running(self) -> frozenset[str]:
        """The ids of all machines that a process runs."""
        return frozenset(id_ for _pid, id_ in self._all())

    def kill(self, machine: str) -> bool:
        """End the process of a machine that libvirt does not know; whether there is none then."""
        pid = self.of(machine)
        if pid is None or _kill(pid, lambda: self.of(machine) == pid):
            return True
        return self.wait_for_end(machine, _LETTING_GO)

    def kill_helpers(self, machine: str) -> None:
        """End what serves shared folders to a machine that is gone.

        They end with its QEMU by themselves, but not where libvirt was killed between the two.
        """
        for pid in self._helpers(machine):
            _kill(pid, lambda pid=pid: pid in self._helpers(machine))  # type: ignore[misc]

    def wait_for_end(self, machine: str, seconds: float) -> bool:
        """Whether the machine has no process any more; asked again for that long."""
        deadline = time.monotonic() + seconds
        while self.of(machine) is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _all(self) -> Iterator[tuple[int, str]]:
        for pid, words in self._commands():
            if "qemu" in words[0]:
                for option, machine in pairwise(words):
                    own = f"{self.folder}/{machine}/"
                    if option == "-uuid" and any(own in word for word in words):
                        yield pid, machine

    def _helpers(self, machine: str) -> list[int]:
        """Those of a machine: virtiofsd, under the name that hooks/virtiofsd.py gives it."""
        own = f"{self.folder}/{machine}/virtiofsd"
        return [pid for pid, words in self._commands() if words[0] == own]

    def _commands(self) -> Iterator[tuple[int, list[str]]]:
        for entry in self.proc.iterdir():
            words = _command_line(entry) if entry.name.isdigit() else []
            if words:
                yield int(entry.name), words


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


def _command_line(process: Path) -> list[str]:
    """Its words; a process that is gone, or dead and not yet reaped, has none."""
    try:
        text = (process / "cmdline").read_bytes()
    except OSError:
        return []
    return text.decode("utf-8", "replace").split("\0")
