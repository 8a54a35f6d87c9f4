"""A batch machine's QEMU among its job's control groups, so that Slurm meters it as the job's own.

jobacct_gather/cgroup of Slurm 22.05 reads, with cgroup v1, what a step used in the hierarchies of
`cpuacct` and `memory`, in

    <hierarchy>/slurm_<node>/uid_<uid>/job_<job>/step_<step>/task_<number>

(`slurm` alone where Slurm was built for one slurmd a machine). With PrologFlags=Contain every job
has the step `extern`, whose one task sleeps as long as the job lasts: QEMU is put beside it, with
all its threads. In the step's own folder, above the task's, it would not be read.

Never into `freezer`, by which Slurm finds whom to signal: at the first TERM, an scancel's, QEMU
would end before the payload had heard of it, and before it is read. So the machine outlives the
step, Slurm can't remove these folders, and `clear` does that after the machine's end.
"""

import errno
import logging
import re
import time
from pathlib import Path

from wnodes_lrms.errors import WnodesError
from wnodes_lrms.log import ids

CONTROLLERS = ("cpuacct", "memory")
MOUNTS = Path("/proc/self/mounts")
_POLL = 0.05  # seconds
_BUSY = 1.0  # seconds that the kernel may take to let go of an ended process
_OCTAL = re.compile(r"\\([0-7]{3})")

log = logging.getLogger(__name__)


def hierarchies(mounts: str) -> dict[str, Path]:
    """Where our controllers are, from the text of proc(5)'s mounts: cgroup v1 only."""
    found: dict[str, Path] = {}
    for line in mounts.splitlines():
        _device, place, kind, options, *_ = line.split(" ")
        if kind == "cgroup":
            path = Path(_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), place))
            for name in CONTROLLERS:
                if name in options.split(","):
                    found.setdefault(name, path)
    return found


def trouble(mounts: Path = MOUNTS) -> str | None:
    """Why no VM can be charged on this node; None if it can."""
    found = hierarchies(mounts.read_text())
    lacking = [name for name in CONTROLLERS if name not in found]
    if not lacking:
        return None
    return f"cgroup v1 has no {' and no '.join(lacking)} here (cgroup v2 is not supported)"


def job_folders(hierarchy: Path, node: str, uid: int, job: str) -> list[Path]:
    """Where a job's folder may be in a hierarchy."""
    return [hierarchy / root / f"uid_{uid}" / f"job_{job}" for root in (f"slurm_{node}", "slurm")]


def adopt(pid: int, node: str, uid: int, job: str, patience: float, mounts: Path = MOUNTS) -> str:
    """Put a process into the job's folders; what was done, in words. To do it again is success.

    The step is there a moment after the prolog has ended: it is waited for, `patience` seconds.
    Raises WnodesError with the reason if it can't be done; the machine is none the worse then.
    """
    if reason := trouble(mounts):
        raise WnodesError(reason)
    places = hierarchies(mounts.read_text())
    deadline = time.monotonic() + patience
    while not (tasks := _tasks(places, node, uid, job)) and time.monotonic() < deadline:
        time.sleep(_POLL)
    if not tasks:
        raise WnodesError(
            f"Slurm has no step «extern» with folders for its task in {' and '.join(CONTROLLERS)}:"
            " it needs PrologFlags=Contain and JobAcctGatherType=jobacct_gather/cgroup"
        )
    for task in tasks:
        try:
            (task / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            raise WnodesError(f"process {pid} can't go into {task}: {error.strerror}") from error
    return f"process {pid} is charged to the job: {' and '.join(CONTROLLERS)}"


def clear(node: str, uid: int, job: str, mounts: Path = MOUNTS) -> None:
    """Remove what Slurm had to leave of a job that is over. The user's folder is Slurm's to remove.

    A folder that something still runs in is left, and said in the log: it does no harm.
    """
    deadline = time.monotonic() + _BUSY
    for place in hierarchies(mounts.read_text()).values():
        for folder in job_folders(place, node, uid, job):
            try:
                for at in sorted((folder, *folder.rglob("*/")), reverse=True):
                    _remove(at, deadline)
            except OSError as error:
                log.warning("left: %s: %s", folder, error, extra=ids(job))


def _tasks(places: dict[str, Path], node: str, uid: int, job: str) -> list[Path]:
    """The task's folder in each hierarchy; none before Slurm has made all of them."""
    found = [
        task
        for place in places.values()
        for folder in job_folders(place, node, uid, job)
        if (task := folder / "step_extern" / "task_0").is_dir()
    ]
    return found if len(found) == len(CONTROLLERS) else []


def _remove(folder: Path, deadline: float) -> None:
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
