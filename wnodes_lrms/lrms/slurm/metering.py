"""Whether Slurm meters jobs by control groups, from `scontrol show config`. Pure."""

import re

_SETTING = re.compile(r"^(\w+)\s*= ?(.*?)\s*$", re.MULTILINE)
GATHER = "jobacct_gather/cgroup"
REMEDY = f"it needs JobAcctGatherType={GATHER} and ProctrackType=proctrack/cgroup"


def settings(said: str) -> dict[str, str]:
    """Slurm's settings by name; those of its nodes and plug-ins stand in the same text."""
    return dict(_SETTING.findall(said))


def seen(said: str) -> str:
    """What decides whether VMs can be charged to their jobs."""
    values = settings(said)
    names = ("JobAcctGatherType", "ProctrackType", "PrologFlags")
    return ", ".join(f"{name}={values.get(name, '')}" for name in names)


def trouble(said: str) -> str | None:
    """Why no VM can be charged to its job; None if it can."""
    values = settings(said)
    wanted = {"JobAcctGatherType": GATHER, "ProctrackType": "proctrack/cgroup"}
    if any(values.get(name) != value for name, value in wanted.items()):
        return f"Slurm meters no jobs by control groups ({seen(said)}): {REMEDY}"
    return None
