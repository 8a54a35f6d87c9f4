"""The processes of jobs that have spoken to the bait, and whether each has been stopped.

The batch system alone says whether a job is suspended. But it is asked every few seconds at most,
and stops a job's processes when it suspends it, whatever batch system it is: so a process that has
just been stopped, or goes on, is a reason to ask. The kernel tells that for nothing.
"""

import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

_NEWS = 10.0  # seconds in which the batch system should say what its processes have shown

_BEGIN = 256  # bytes of what the kernel tells of a process, in which its state is

PROC = Path("/proc")


@dataclass
class _Speaker:
    pid: int
    stopped: bool
    since: float  # on the monotonic clock


class Speakers:
    """Of each job the process that has spoken last. Safe to use from many threads."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._lock = threading.Lock()
        self._of: dict[str, _Speaker] = {}

    def note(self, job: str, pid: int) -> None:
        """This process speaks for the job; 0: it is not known which."""
        with self._lock:
            known = self._of.get(job)
            if pid and (known is None or known.pid != pid or known.stopped):
                self._of[job] = _Speaker(pid, False, time.monotonic())

    def moving(self) -> frozenset[str]:
        """The jobs whose process has not been stopped."""
        with self._lock:
            self._look()
            return frozenset(job for job, each in self._of.items() if not each.stopped)

    def keep(self, jobs: Collection[str]) -> None:
        """Forget all other jobs."""
        with self._lock:
            self._of = {job: each for job, each in self._of.items() if job in jobs}

    def contradict(self, suspended: Mapping[str, bool]) -> bool:
        """Whether a process has just been stopped, or goes on, other than the batch system has said
        of its job. What does not come true in a while was not the batch system's doing."""
        after = time.monotonic() - _NEWS
        with self._lock:
            self._look()
            return any(
                each.since > after and each.stopped != suspended.get(job, each.stopped)
                for job, each in self._of.items()
            )

    def _look(self) -> None:
        for job, each in list(self._of.items()):
            state = _state(f"{self._proc}/{each.pid}/stat")
            if state is None:  # it has ended, and says nothing more
                del self._of[job]
            elif each.stopped != (state == "T"):
                self._of[job] = _Speaker(each.pid, state == "T", time.monotonic())


def _state(stat: str) -> str | None:
    """The letter of a process's state, from proc_pid_stat(5): its own name, before that, may have
    any character."""
    try:
        with open(stat, "rb", buffering=0) as file:  # noqa: PTH123 (of each job, each second)
            return file.read(_BEGIN).rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return None
