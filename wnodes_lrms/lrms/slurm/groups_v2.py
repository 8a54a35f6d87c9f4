"""Control groups v2: one tree for all controllers. What a step used is read in

    system.slice/<node>_slurmstepd.scope/job_<job>/step_<step>/user/task_<number>

(`slurmstepd.scope` where Slurm was built for one slurmd a machine). Layout seen with Slurm 24.11;
what is done to it follows from its cgroup/v2 and proctrack/cgroup (cgroup_v2.c,
proctrack_cgroup.c):

- Whom to signal is read from the task's own cgroup.procs. So QEMU has a group below the task's:
  what it uses counts there as well, but no signal of Slurm's reaches it. A group below one that has
  processes is allowed as long as no controller is enabled for it (cgroups(7)).
- A job is suspended by freezing `user` of each of its steps, with all that is below. A QEMU that
  is frozen answers libvirt no more, which then hangs. So while the job is suspended QEMU is
  beside `user`: still in the job's limits, and paused by libvirt. What is moved out of a frozen
  group goes on; the pages that it has stay charged where they were first touched.
- The VM outlives the steps, and Slurm can't remove their groups: that is done after its end.
"""

import contextlib
import logging
import time
from pathlib import Path

from wnodes_lrms.log import ids
from wnodes_lrms.lrms.slurm.groups_v1 import STEPS, TASK, mounted, remove

CONTROLLERS = ("cpu", "memory")
OURS = "wnodes"
_BUSY = 1.0  # seconds that the kernel may take to let go of an ended process

log = logging.getLogger(__name__)


def root(mounts: str) -> Path | None:
    """Where the tree is, from the text of proc(5)'s mounts; None if it is not mounted."""
    found = [path for path, _options in mounted(mounts, "cgroup2")]
    return found[0] if found else None


def lacking(tree: Path) -> list[str]:
    """The controllers that the tree does not have."""
    try:
        there = (tree / "cgroup.controllers").read_text().split()
    except OSError:
        there = []
    return [name for name in CONTROLLERS if name not in there]


class GroupsV2:
    """See cgroups.Groups."""

    what = "CPU time and memory"

    def __init__(self, tree: Path) -> None:
        self.tree = tree

    def tasks(self, node: str, uid: int, job: str) -> list[Path]:  # noqa: ARG002 (see Groups)
        """See Groups: there is one."""
        for step in self._steps(node, job):
            if (task := step / "user" / TASK).is_dir():
                return [task]
        return []

    def enter(self, tasks: list[Path], pid: int) -> None:
        """See Groups."""
        for task in tasks:
            _move(pid, task / OURS)

    def set_aside(self, pid: int, node: str, job: str) -> None:
        """See Groups."""
        for step in self._steps(node, job):
            if (step / "user" / TASK / OURS).is_dir():
                _move(pid, step / OURS)
                return

    def clear(self, node: str, uid: int, job: str) -> None:  # noqa: ARG002 (see Groups)
        """See Groups."""
        deadline = time.monotonic() + _BUSY
        for step in self._steps(node, job):
            try:
                for ours in (step / "user" / TASK / OURS, step / OURS):
                    remove(ours, deadline)
            except OSError as error:
                log.warning("left: %s: %s", step, error, extra=ids(job))
                continue
            _remove_emptied(step)

    def _steps(self, node: str, job: str) -> list[Path]:
        """Where our steps may be, those that are looked at first before others."""
        scopes = [
            self.tree / "system.slice" / f"{name}.scope"
            for name in (f"{node}_slurmstepd", "slurmstepd")
        ]
        return [scope / f"job_{job}" / step for step in STEPS for scope in scopes]


def _move(pid: int, group: Path) -> None:
    group.mkdir(exist_ok=True)
    (group / "cgroup.procs").write_text(str(pid))


def _remove_emptied(step: Path) -> None:
    """Remove what Slurm could not because ours was in it, unless it still works there."""
    with contextlib.suppress(OSError):
        if (step / "slurm" / "cgroup.procs").read_text().strip():
            return  # its daemon, which runs the epilog (RunInJob), and reads the task afterwards
    for group in (step / "user" / TASK, step / "user", step / "slurm", step, step.parent):
        with contextlib.suppress(OSError):  # gone, or another step's
            group.rmdir()
