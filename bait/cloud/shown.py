"""A cloud VM as the bait's HTTPS service shows it: see frontend/models.py."""

from typing import Any

from bait.cloud.devices import Devices
from bait.hypervisor.domain import FULL, PANICKED
from bait.ledger.records import Row
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


def shown(row: Row, node: str, devices: Devices) -> dict[str, Any]:
    """The VM of this row, on this node."""
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
        **devices.shown(row),
    }


def _stuck(row: Row) -> bool:
    return row.state is State.READY and row.reason == FULL
