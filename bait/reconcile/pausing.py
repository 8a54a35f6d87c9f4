"""Pauses a VM while its job is suspended."""

from bait.hypervisor.domains import Hypervisor
from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.reconcile.plan import Act, Action
from wnodes_lrms.model import State


def follow(ledger: Ledger, hypervisor: Hypervisor, action: Action, row: Row) -> None:
    """Have a VM do as its job does, as the plan says; the next plan goes on with what fails.

    Raises WnodesError.
    """
    if action.act is Act.PAUSE:
        being = (State.READY, State.PAUSED)
        changes = {"state": State.PAUSED, "reason": action.why}
        if ledger.move(row, f"paused: {action.why}", being, **changes):
            hypervisor.suspend(row.id)
        return
    changes = {"state": State.READY, "reason": ""}
    if ledger.move(row, f"continued: {action.why}", (State.PAUSED,), **changes):
        hypervisor.resume(row.id)
