"""Control groups for the site's Slurm, where the machine has the kind that it can meter by.

That is cgroup v1, each controller in a folder of its own that folders can be made in. On another
machine (cgroup v2, a closed container) Slurm finds processes by their parents, and no machine is
charged to its job.
"""

import errno
import functools
import re
from pathlib import Path

from .errors import SiteError
from .layout import NODES
from .process import wait_until

MOUNT_POINT = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpuacct", "freezer", "memory")  # of those that Slurm uses with our settings

CONFIGURATION = f"""\
# Control groups of the site in a box; written by `site up`.
CgroupPlugin=cgroup/v1
CgroupMountpoint={MOUNT_POINT}
# Jobs are metered, not confined: two nodes share these cores, and an emulated machine takes more
# memory than its guest.
ConstrainCores=no
ConstrainRAMSpace=no
"""
# Slurm looks for control groups even where nothing of it uses them, and does not start where it
# finds those of version 2 without controllers.
_UNUSED = """\
# No control groups; written by `site up`.
CgroupPlugin={plugin}
"""
_METERED = """\
ProctrackType=proctrack/cgroup
JobAcctGatherType=jobacct_gather/cgroup
PrologFlags=Contain"""
_PLAIN = """\
ProctrackType=proctrack/linuxproc
JobAcctGatherType=jobacct_gather/linux"""


def usable() -> bool:
    """Whether this machine has what Slurm needs to meter jobs by control groups."""
    return all(_usable(MOUNT_POINT / name) for name in CONTROLLERS)


def configuration(said: str) -> str:
    """cgroup.conf for the Slurm whose `slurmd -V` says this."""
    return CONFIGURATION if usable() else _UNUSED.format(plugin=unused_plugin(said))


def unused_plugin(said: str) -> str:
    """The plug-in that looks for nothing. Older Slurms have none; that of version 1 looks when
    something is to be put into a group. Pure."""
    found = re.search(r" ([0-9]+)\.", said)
    return "disabled" if found and int(found[1]) >= 23 else "cgroup/v1"


def metering() -> str:
    """The lines of slurm.conf about how jobs' processes are found and metered."""
    return _METERED if usable() else _PLAIN


def clear() -> None:
    """Remove what Slurm leaves: its nodes' folders always, those of jobs after a crash.

    Raises SiteError if something runs in one of them.
    """
    for name in CONTROLLERS:
        for node in NODES:
            top = MOUNT_POINT / name / f"slurm_{node}"
            for folder in sorted((top, *top.rglob("*/")), reverse=True):
                if not wait_until(functools.partial(_removed, folder), 5):
                    raise SiteError(
                        f"{folder} is in use", f"see which processes {folder}/cgroup.procs lists"
                    )


def _usable(controller: Path) -> bool:
    trial = controller / "wnodes-site-trial"
    try:
        trial.mkdir(exist_ok=True)
        v1 = (trial / "cgroup.clone_children").exists()  # v2 has no such file
        trial.rmdir()
    except OSError:
        return False
    return v1


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno == errno.EBUSY:  # for a moment after its last process has ended
            return False
        raise
    return True
