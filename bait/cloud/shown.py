"""Cloud VMs, and what they have had of the node, as the bait's HTTPS service shows them: see
frontend/models.py. Pure."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, takewhile
from typing import Any

from bait.hypervisor.domain import FULL, PANICKED
from bait.ledger.records import Row, Usage
from wnodes_lrms.model import State

_STATES = {
    State.READY: "running",
    State.PAUSED: "suspended",
    State.ASLEEP: "suspended",
    State.STARTING: "building",
    State.HIBERNATED: "suspended",
    State.HIBERNATING: "stopping",
    State.ENDING: "stopping",
}

# The most that is told at once of usages: bytes, as JSON. A bridge takes 4 MiB of an answer.
_USAGES = 3 << 20
_USAGE = 200  # bytes of one, without its DN, each of whose characters may take two
_OF_A_USAGE = ("number", "dn", "cores", "began", "wall", "held")


def shown(
    row: Row, node: str, nics: Sequence[Mapping[str, Any]], volumes: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """The VM of this row, on this node, with its cards and volumes as they are shown."""
    return {
        "id": row.id,
        "lease": row.lease,
        "job": row.job,
        "state": "suspended" if _stuck(row) else _STATES.get(row.state, str(row.state)),
        "crashed": row.state is State.READY and row.reason == PANICKED,
        "reason": row.reason,
        "cores": row.cores,
        "memory": row.memory,
        "image": row.tag,
        "since": row.since,
        "node": node,
        "nics": nics,
        "volumes": volumes,
    }


def _stuck(row: Row) -> bool:
    return row.state is State.READY and row.reason == FULL


def usages_shown(found: Sequence[Usage]) -> list[dict[str, Any]]:
    """The usages, the oldest first; of very many the newest."""
    sizes = accumulate(_USAGE + 2 * len(usage.dn.encode()) for usage in reversed(found))
    many = sum(1 for _ in takewhile(lambda size: size <= _USAGES, sizes))
    told = found[len(found) - many :]
    return [{name: getattr(usage, name) for name in _OF_A_USAGE} for usage in told]
