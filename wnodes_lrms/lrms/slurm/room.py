"""What of a node is free, from `scontrol show node NAME` of Slurm 22.05 and 24.11. Pure."""

import re

from wnodes_lrms.errors import UnknownError
from wnodes_lrms.model import Room

_STATE = re.compile(r"^ +State=(\S+)", re.MULTILINE)
# Words of a node's state in which it takes jobs; a * behind them: it does not respond.
_TAKES = frozenset({"IDLE", "MIXED", "ALLOCATED", "PLANNED", "CLOUD"})
_NOTHING = Room(0, 0)


def parse_room(node: str) -> Room:
    """Cores are Slurm's CPUs. Raises UnknownError if that is no description of a node."""
    state = _STATE.search(node)
    if not state:
        raise UnknownError("scontrol does not tell the node's state")
    if not frozenset(state[1].split("+")) <= _TAKES:
        return _NOTHING
    whole = _number(node, "CPUEfctv", "CPUTot")  # without the cores that Slurm keeps to itself
    kept = re.search(r"\bMemSpecLimit=(\d+)", node)
    memory = _number(node, "RealMemory") - _number(node, "AllocMem") - int(kept[1] if kept else 0)
    return Room(max(0, whole - _number(node, "CPUAlloc")), max(0, memory))


def _number(node: str, *names: str) -> int:
    """The value of the first of these names that is there."""
    for name in names:
        if found := re.search(rf"\b{name}=(\d+)", node):
            return int(found[1])
    raise UnknownError(f"scontrol does not tell the node's {names[-1]}")
