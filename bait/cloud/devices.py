"""What volumes and network cards that come and go while a cloud VM runs have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.ledger.states import RUNS
from bait.machine.tasks import Tasks
from wnodes_lrms.errors import ConflictError
from wnodes_lrms.model import State
from wnodes_lrms.order import Order

RESTING = (State.STOPPED, State.FAILED)  # no guest, and no memory of one, has a device
_DETACHABLE = (*RUNS, *RESTING)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Orders:
    """The orders of a node's cloud VMs: what such a VM has at its next start in the same lease."""

    ledger: Ledger
    tasks: Tasks

    def change(self, machine: str, change: Callable[[Order], dict[str, Any]]) -> None:
        """Change a VM's order; `change` tells the new values. One that is gone stays gone."""
        with self.tasks.news:  # another device may come or go at the same time
            now = self.ledger.get(machine)
            if now:
                order = Order.model_validate_json(now.spec)
                spec = order.model_copy(update=change(order)).model_dump_json(exclude_defaults=True)
                self.ledger.change(machine, "its devices have changed", spec=spec)


def check_detachable(row: Row) -> None:
    """Raises ConflictError while nothing can be taken out of the VM."""
    if row.state not in _DETACHABLE:
        raise ConflictError(f"the VM is {row.state}: nothing can be taken out of it now")


def has_begun_anew(ledger: Ledger, row: Row) -> bool:
    """Whether the VM has another lease since its row was read: it has what its new order says."""
    now = ledger.get(row.id)
    return now is not None and now.lease not in (row.lease, "")


def without(devices: tuple[_T, ...], gone: _T) -> tuple[_T, ...]:
    """The devices but this one."""
    return tuple(device for device in devices if device != gone)
