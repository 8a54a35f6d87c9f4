"""What `wnodes doctor` finds: the words of a check, and the judgements about the batch system.

Pure: text that Slurm has said comes in, checks go out. What is asked of a node
itself (KVM, libvirt, images, permissions) is the bait's to know: see bait/checks.py.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

FEATURE = "wnodes"  # stands on every node that runs a bait, see hooks/job_submit.lua

_SETTING = re.compile(r"^(\w+)\s*= ?(.*?)\s*$", re.MULTILINE)
_WORD = re.compile(r"(?:^|\s)(\w+)=(\S*)")
_REASON = re.compile(r"^\s*Reason=(.*?)\s*$", re.MULTILINE)
_AWAY = frozenset(
    ("DOWN", "DRAIN", "DRAINED", "DRAINING", "FAIL", "FAILING", "NOT_RESPONDING", "UNKNOWN")
)


class Status(StrEnum):
    """How a thing stands. Only a fault keeps jobs from their machines."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was seen, and what to type or change if anything."""

    name: str
    status: Status
    seen: str
    remedy: str = ""


def ok(name: str, seen: str) -> Check:
    """All is as it should be."""
    return Check(name, Status.OK, seen)


def warning(name: str, seen: str, remedy: str) -> Check:
    """Jobs get machines, but slower, fewer or with less than they could have."""
    return Check(name, Status.WARNING, seen, remedy)


def fault(name: str, seen: str, remedy: str) -> Check:
    """Jobs can't get machines, or a thing is unsafe."""
    return Check(name, Status.FAULT, seen, remedy)


def unknown(name: str, seen: str, remedy: str = "") -> Check:
    """It could not be told."""
    return Check(name, Status.UNKNOWN, seen, remedy)


def controller(said: str) -> Check:
    """What `scontrol ping` says of the controllers, when at least one of them is up."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    down = [line for line in lines if line.endswith("DOWN")]
    if down:
        return warning("slurm", "; ".join(lines), "start slurmctld there again")
    return ok("slurm", "; ".join(lines))


def settings(said: str) -> list[Check]:
    """The settings that machines stand on, from `scontrol show config`."""
    values = dict(_SETTING.findall(said))
    selects = f"SelectTypeParameters={values.get('SelectTypeParameters', '')}"
    requeue = values.get("JobRequeue", "")
    return [
        ok("slurm memory", selects)
        if "MEMORY" in selects.upper()
        else fault(
            "slurm memory",
            f"{selects}: jobs are granted no memory, so a machine has no size",
            "set SelectType=select/cons_tres and SelectTypeParameters=CR_Core_Memory in"
            " slurm.conf, and restart slurmctld and slurmd",
        ),
        ok("slurm requeue", "JobRequeue=1")
        if requeue == "1"
        else warning(
            "slurm requeue",
            f"JobRequeue={requeue}: a job whose machine failed can't be tried again",
            "set JobRequeue=1 in slurm.conf and run `scontrol reconfigure`, or have users give"
            " --requeue",
        ),
    ]


def charge(said: str) -> Check:
    """Whether Slurm, by `scontrol show config`, meters jobs by control groups with a step for what
    is none of its own. Asked where [machine] charge = "cgroup".
    """
    values = dict(_SETTING.findall(said))
    gather, flags = values.get("JobAcctGatherType", ""), values.get("PrologFlags", "")
    seen = f"JobAcctGatherType={gather}, PrologFlags={flags}"
    if gather == "jobacct_gather/cgroup" and "contain" in flags.lower().split(","):
        return ok("slurm charge", seen)
    return warning(
        "slurm charge",
        f"{seen}: machines can't be charged to their jobs",
        "set JobAcctGatherType=jobacct_gather/cgroup, ProctrackType=proctrack/cgroup and"
        " PrologFlags=Contain in slurm.conf and restart slurmctld and slurmd, or charge = 'none'"
        " in [machine]",
    )


def publishing(site: str | None, queue: str, there: bool) -> Check:
    """Whether the wallclock of cloud machines finds its way to APEL: is its queue there?"""
    if site is None:
        return ok("accounting", "recorded here, not published: [accounting] site is not set")
    if there:
        return ok("accounting", f"published as {site}, by {queue}")
    return warning(
        "accounting",
        f"{queue} is no folder: nothing can be published, nothing is lost",
        "install APEL's SSM, or set queue in [accounting] to the folder that it sends from",
    )


def node(name: str, said: str) -> list[Check]:
    """What `scontrol show node NAME` says: does Slurm send it jobs, and jobs with machines?"""
    words = dict(_WORD.findall(said))
    features = words.get("ActiveFeatures", "").split(",")
    state = words.get("State", "")
    reason = _REASON.search(said)
    why = f": {reason[1]}" if reason else ""
    away = "*" in state or not _AWAY.isdisjoint(re.findall(r"\w+", state))
    return [
        ok("slurm feature", f"node {name} has the feature {FEATURE}")
        if FEATURE in features
        else fault(
            "slurm feature",
            f"node {name} lacks the feature {FEATURE}: no job with a machine comes here",
            f"add Feature={FEATURE} to the node's line in slurm.conf and run"
            " `scontrol reconfigure`",
        ),
        warning(
            "slurm node",
            f"node {name} is {state}{why}",
            "`wnodes host resume`"
            if why.lstrip(" :(").startswith("wnodes:")
            else f"mend the cause, then `scontrol update NodeName={name} State=RESUME`",
        )
        if away
        else ok("slurm node", f"node {name} is {state}"),
    ]


def summary(checks: Sequence[Check]) -> str:
    """How many checks need a person's eye."""
    counted = []
    for status, many in ((Status.FAULT, "faults"), (Status.WARNING, "warnings")):
        number = sum(check.status is status for check in checks)
        counted.append(f"{number or 'no'} {status if number == 1 else many}")
    missing = sum(check.status is Status.UNKNOWN for check in checks)
    if missing:
        counted.append(f"{missing} could not be told")
    return ", ".join(counted)
