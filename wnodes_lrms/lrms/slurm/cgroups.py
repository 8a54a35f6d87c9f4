"""A batch VM's QEMU among its job's control groups, so that Slurm meters it as the job's own.

jobacct_gather/cgroup reads what a task of a step has used in the task's group. Two steps of a job
have one task that lasts as long as the job: `extern`, which Slurm makes for each job where
PrologFlags has Contain, and whose task sleeps; and `batch`, which runs the job's script. From 25.05
on `extern` has no task (mgr.c, _spawn_job_container), and is not metered. So QEMU is put to the
task of `extern` if there is one, else to that of `batch`.

Where the groups are, and what QEMU must be kept out of, differs between the kernel's two kinds:
groups_v1.py, groups_v2.py.
"""

import time
from pathlib import Path
from typing import Protocol

from wnodes_lrms.errors import WnodesError
from wnodes_lrms.lrms.slurm import groups_v1, groups_v2, metering
from wnodes_lrms.run import run

MOUNTS = Path("/proc/self/mounts")
_POLL = 0.05  # seconds
_ASKED = 5.0  # seconds that slurmctld may take to tell its configuration


class Groups(Protocol):
    """The control groups of Slurm's jobs on this node."""

    what: str  # what is metered there, in words

    def tasks(self, node: str, uid: int, job: str) -> list[Path]:
        """The groups of the task that QEMU is put to; none before Slurm has made them all."""

    def enter(self, tasks: list[Path], pid: int) -> None:
        """Put a process to that task. Raises OSError."""

    def set_aside(self, pid: int, node: str, job: str) -> None:
        """Take it out of what Slurm freezes. Raises OSError."""

    def clear(self, node: str, uid: int, job: str) -> None:
        """Remove what is left of a job that is over. Raises nothing."""


def trouble(mounts: Path = MOUNTS) -> str | None:
    """Why no VM can be charged on this node; None if it can."""
    found = _groups(mounts)
    return found if isinstance(found, str) else None


def adopt(pid: int, node: str, uid: int, job: str, patience: float, mounts: Path = MOUNTS) -> str:
    """Put a process into the job's groups; what was done, in words. To do it again is success.

    The step is there a moment after the prolog has ended: it is waited for, `patience` seconds,
    unless Slurm's configuration says that none will be metered. Raises WnodesError with the reason
    if it can't be done; the VM is none the worse then.
    """
    groups = _groups(mounts)
    if isinstance(groups, str):
        raise WnodesError(groups)
    deadline = time.monotonic() + patience
    asked = False
    while not (tasks := groups.tasks(node, uid, job)):
        if not asked and (reason := _configured()):
            raise WnodesError(reason)
        asked = True
        if time.monotonic() > deadline:
            raise WnodesError(f"Slurm has made no group for a task of the job: {metering.REMEDY}")
        time.sleep(_POLL)
    try:
        groups.enter(tasks, pid)
    except OSError as error:
        where = " and ".join(map(str, tasks))
        raise WnodesError(f"process {pid} can't go into {where}: {error.strerror}") from error
    step = tasks[0].parts[tasks[0].parts.index(f"job_{job}") + 1]
    return f"process {pid} is charged to the job: {groups.what} of {step}"


def set_aside(pid: int, node: str, job: str, mounts: Path = MOUNTS) -> None:
    """Keep a process of a job that is suspended from being frozen with it, until `adopt` puts it
    back; one that can't be frozen stays. Raises WnodesError."""
    groups = _groups(mounts)
    if isinstance(groups, str):
        return
    try:
        groups.set_aside(pid, node, job)
    except OSError as error:
        why = f"process {pid} can't be taken out of its job's groups: {error.strerror}"
        raise WnodesError(why) from error


def clear(node: str, uid: int, job: str, mounts: Path = MOUNTS) -> None:
    """Remove what Slurm had to leave of a job that is over.

    A group that something still runs in is left, and said in the log: it does no harm.
    """
    groups = _groups(mounts)
    if not isinstance(groups, str):
        groups.clear(node, uid, job)


def _groups(mounts: Path) -> Groups | str:
    """Those of this node, or why there are none that a VM could be charged to."""
    text = mounts.read_text()
    first = groups_v1.hierarchies(text)
    if not groups_v1.lacking(first):
        return groups_v1.GroupsV1(first)
    root = groups_v2.root(text)
    if root is None or first:
        lacks = " and no ".join(groups_v1.lacking(first))
        return f"control groups have no {lacks} here"
    if lacking := groups_v2.lacking(root):
        return f"control groups (v2) have no {' and no '.join(lacking)} here"
    return groups_v2.GroupsV2(root)


def _configured() -> str | None:
    """Why Slurm meters no VM, by its configuration; None if it does, or does not answer."""
    try:
        said = run(["scontrol", "show", "config"], deadline=_ASKED)
    except WnodesError:
        return None
    return metering.trouble(said)
