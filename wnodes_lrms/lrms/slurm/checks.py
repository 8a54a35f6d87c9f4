"""What `wnodes doctor` finds in Slurm: judgements of its text, and what asks for that."""

import re
from collections.abc import Iterator

from wnodes_lrms.config.load import Config
from wnodes_lrms.doctor import Check, fault, ok, warning
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.lrms import features
from wnodes_lrms.lrms.lease import FEATURE
from wnodes_lrms.lrms.slurm import metering
from wnodes_lrms.run import run

_WORD = re.compile(r"(?:^|\s)(\w+)=(\S*)")
_REASON = re.compile(r"^\s*Reason=(.*?)\s*$", re.MULTILINE)
_AWAY = frozenset(
    ("DOWN", "DRAIN", "DRAINED", "DRAINING", "FAIL", "FAILING", "NOT_RESPONDING", "UNKNOWN")
)
_DEADLINE = 10.0
_SECONDS = re.compile(r"[0-9]{1,9}")
_HOOKS_TAKE = 15  # seconds at most, with their start: see DEADLINES in hooks/hook.py


def of_site(config: Config) -> Iterator[Check]:
    """Slurm as a whole."""
    try:
        yield controller(run(["scontrol", "ping"], deadline=_DEADLINE))
        said = run(["scontrol", "show", "config"], deadline=_DEADLINE)
        yield from settings(said)
        if config.machine.charge == "cgroup":
            yield charge(said)
    except WnodesError as error:
        yield fault(
            "slurm",
            f"does not answer: {error}",
            "see that slurmctld runs, and munge (unless AuthType is auth/slurm), and that"
            " SLURM_CONF, where it is set, is right",
        )


def of_node(config: Config, name: str) -> Iterator[Check]:
    """A node, as Slurm has it."""
    try:
        said = run(["scontrol", "show", "node", name], deadline=_DEADLINE)
        yield from node(name, said)
        yield from features.checks(config, name, active_features(said))
        yield from features.counts(config, name, gres(said))
    except WnodesError as error:
        yield fault(
            "slurm node",
            f"node {name}: {error}",
            "give the node's name in Slurm with --node; see that slurmctld answers",
        )


def controller(said: str) -> Check:
    """What `scontrol ping` says of the controllers, when at least one of them is up."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    down = [line for line in lines if line.endswith("DOWN")]
    if down:
        return warning("slurm", "; ".join(lines), "start slurmctld there again")
    return ok("slurm", "; ".join(lines))


def settings(said: str) -> list[Check]:
    """The settings that VMs depend on, from `scontrol show config`."""
    values = metering.settings(said)
    selects = f"SelectTypeParameters={values.get('SelectTypeParameters', '')}"
    requeue = values.get("JobRequeue", "")
    return [
        *_times(values),
        ok("slurm memory", selects)
        if "MEMORY" in selects.upper()
        else fault(
            "slurm memory",
            f"{selects}: jobs are granted no memory, so a VM has no size",
            "set SelectType=select/cons_tres and SelectTypeParameters=CR_Core_Memory in"
            " slurm.conf, and restart slurmctld and slurmd",
        ),
        ok("slurm requeue", "JobRequeue=1")
        if requeue == "1"
        else warning(
            "slurm requeue",
            f"JobRequeue={requeue}: a job whose VM failed can't be tried again",
            "set JobRequeue=1 in slurm.conf and run `scontrol reconfigure`, or have users give"
            " --requeue",
        ),
    ]


def _times(values: dict[str, str]) -> Iterator[Check]:
    """Slurm ends a prolog or epilog that takes longer than this, and drains the node. From 25.05 on
    there is one for each; it tells both in one word where they are equal."""
    for name in ("PrologEpilogTimeout", "PrologTimeout", "EpilogTimeout"):
        found = _SECONDS.match(values.get(name, ""))
        if found and int(found[0]) < _HOOKS_TAKE:
            yield warning(
                "slurm timeout",
                f"{name}={values[name]}: our hooks wait for the bait longer, and a node whose hook"
                " was ended is drained",
                f"set {name} to {_HOOKS_TAKE} or more, or take it out of slurm.conf",
            )


def charge(said: str) -> Check:
    """Whether Slurm, by `scontrol show config`, meters jobs by control groups. Asked where
    [machine] charge = "cgroup".
    """
    reason = metering.trouble(said)
    if reason is None:
        return ok("slurm charge", metering.seen(said))
    return warning(
        "slurm charge",
        f"{reason}; VMs can't be charged to their jobs",
        f"set JobAcctGatherType={metering.GATHER} and ProctrackType=proctrack/cgroup in"
        " slurm.conf and restart slurmctld and slurmd, or charge = 'none' in [machine]",
    )


def active_features(said: str) -> list[str]:
    """A node's features, by `scontrol show node NAME`."""
    words: dict[str, str] = dict(_WORD.findall(said))
    return words.get("ActiveFeatures", "").split(",")


def gres(said: str) -> list[str]:
    """Of what a node has some to be counted, by the same."""
    words: dict[str, str] = dict(_WORD.findall(said))
    return [word.partition(":")[0] for word in words.get("Gres", "").split(",")]


def node(name: str, said: str) -> list[Check]:
    """What `scontrol show node NAME` says: does Slurm send it jobs, and jobs with VMs?"""
    words = dict(_WORD.findall(said))
    state = words.get("State", "")
    reason = _REASON.search(said)
    why = f": {reason[1]}" if reason else ""
    away = "*" in state or not _AWAY.isdisjoint(re.findall(r"\w+", state))
    return [
        ok("slurm feature", f"node {name} has the feature {FEATURE}")
        if FEATURE in active_features(said)
        else fault(
            "slurm feature",
            f"node {name} lacks the feature {FEATURE}: no job with a VM comes here",
            f"add Feature={FEATURE} to the node's line in slurm.conf and run"
            " `scontrol reconfigure`",
        ),
        warning(
            "slurm node",
            f"node {name} is {state}{why}",
            "`wnodes host resume`"
            if "DRAIN" in state and why.lstrip(" :(").startswith("wnodes:")
            else f"mend the cause, then `scontrol update NodeName={name} State=RESUME`",
        )
        if away
        else ok("slurm node", f"node {name} is {state}"),
    ]
