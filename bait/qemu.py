"""The QEMU processes of the node, as the kernel knows them: a second source beside libvirt."""

import os
import signal
import time
from collections.abc import Iterator
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
        if pid is None:
            return True
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            if self.of(machine) == pid:  # the handle is of this very process
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        except ProcessLookupError:
            return True
        finally:
            os.close(handle)
        return self.wait_for_end(machine, _LETTING_GO)

    def wait_for_end(self, machine: str, seconds: float) -> bool:
        """Whether the machine has no process any more; asked again for that long."""
        deadline = time.monotonic() + seconds
        while self.of(machine) is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _all(self) -> Iterator[tuple[int, str]]:
        for entry in self.proc.iterdir():
            words = _command_line(entry) if entry.name.isdigit() else []
            if words and "qemu" in words[0]:
                for option, machine in pairwise(words):
                    own = f"{self.folder}/{machine}/"
                    if option == "-uuid" and any(own in word for word in words):
                        yield int(entry.name), machine


def _command_line(process: Path) -> list[str]:
    """Its words; a process that is gone, or dead and not yet reaped, has none."""
    try:
        text = (process / "cmdline").read_bytes()
    except OSError:
        return []
    return text.decode("utf-8", "replace").split("\0")
