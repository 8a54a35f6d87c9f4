"""Control groups v1: a hierarchy for each controller. What a step used is read in

    <cpuacct and memory>/slurm_<node>/uid_<uid>/job_<job>/step_<step>/task_<number>

(`slurm` alone where Slurm was built for one slurmd a machine). In the step's own folder, above the
task's, it would not be read. Seen with Slurm 22.05.

QEMU never goes into `freezer`, by which Slurm finds whom to signal: at the first TERM, an
scancel's, it would end before the payload had heard of it, and before it is read. So the VM
outlives the step, and Slurm can't remove these folders: that is done after the VM's end.
"""

import errno
import logging
import re
import time
from pathlib import Path

from wnodes_lrms.log import ids

CONTROLLERS = ("cpuacct", "memory")
STEPS = ("step_extern", "step_batch")  # the first that has a task
TASK = "task_0"
_POLL = 0.05  # seconds
_BUSY = 1.0  # seconds that the kernel may take to let go of an ended process
_OCTAL = re.compile(r"\\([0-7]{3})")

log = logging.getLogger(__name__)


def mounted(mounts: str, wanted: str) -> list[tuple[Path, list[str]]]:
    """Where a kind of file system is, and its options, from the text of proc(5)'s mounts."""
    found = []
    for line in mounts.splitlines():
        _device, place, kind, options, *_ = line.split(" ")
        if kind == wanted:
            path = Path(_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), place))
            found.append((path, options.split(",")))
    return found


def hierarchies(mounts: str) -> dict[str, Path]:
    """Where our controllers are."""
    found: dict[str, Path] = {}
    for path, options in mounted(mounts, "cgroup"):
        for name in CONTROLLERS:
            if name in options:
                found.setdefault(name, path)
    return found


def lacking(found: dict[str, Path]) -> list[str]:
    """The controllers that are not there."""
    return [name for name in CONTROLLERS if name not in found]


class GroupsV1:
    """See cgroups.Groups."""

    what = " and ".join(CONTROLLERS)

    def __init__(self, places: dict[str, Path]) -> None:
        self.places = places

    def tasks(self, node: str, uid: int, job: str) -> list[Path]:
        """See Groups: one in each hierarchy."""
        for step in STEPS:
            found = [
                task
                for place in self.places.values()
                for folder in _job_folders(place, node, uid, job)
                if (task := folder / step / TASK).is_dir()
            ]
            if len(found) == len(CONTROLLERS):
                return found
        return []

    def enter(self, tasks: list[Path], pid: int) -> None:
        """See Groups."""
        for task in tasks:
            (task / "cgroup.procs").write_text(str(pid))

    def set_aside(self, pid: int, node: str, job: str) -> None:
        """See Groups: it was never in what is frozen."""

    def clear(self, node: str, uid: int, job: str) -> None:
        """See Groups. The user's folder is Slurm's to remove."""
        deadline = time.monotonic() + _BUSY
        for place in self.places.values():
            for folder in _job_folders(place, node, uid, job):
                try:
                    for at in sorted((folder, *folder.rglob("*/")), reverse=True):
                        remove(at, deadline)
                except OSError as error:
                    log.warning("left: %s: %s", folder, error, extra=ids(job))


def _job_folders(hierarchy: Path, node: str, uid: int, job: str) -> list[Path]:
    return [hierarchy / root / f"uid_{uid}" / f"job_{job}" for root in (f"slurm_{node}", "slurm")]


def remove(folder: Path, deadline: float) -> None:
    """Remove an empty group, once the kernel has let go of its last process. Raises OSError."""
    while True:
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return  # Slurm, or an earlier try, was first
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        time.sleep(_POLL)
