"""Restarting, suspending and resuming a cloud VM in its lease, as its user asks."""

from collections.abc import Callable
from dataclasses import dataclass

from bait.cloud.build import CloudBuilder
from bait.cloud.lifecycle import Lifecycle
from bait.hypervisor.domain import FULL, PANICKED
from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.ledger.states import RUNS
from wnodes_lrms.errors import ConflictError, UnknownError, WnodesError
from wnodes_lrms.model import State

WOKEN = "the guest has woken"


@dataclass(eq=False)
class Power:
    """What users do with running VMs. All raise ConflictError in a state that does not allow it."""

    ledger: Ledger
    builder: CloudBuilder
    lifecycle: Lifecycle

    def restart(self, row: Row, method: str) -> None:
        """Start it anew: by its own shutdown, as by a reset button (warm), as a new one (cold)."""
        self.ledger.record(row.job, row.id, f"restart ({method})")
        if method == "cold":
            changes = {"state": State.BUILDING, "reason": ""}
            again = self.ledger.move(row, "cold restart", (State.READY,), **changes)
            if again:
                self.builder.rest(row.id)
                self.lifecycle.start_now(again, self.lifecycle.make)
        elif method == "warm" or row.reason == PANICKED:  # there is no guest to be asked
            self.ledger.move(row, "reset", (State.READY,), reason="")
            self.builder.vms.hypervisor.reset(row.id)
            self.lifecycle.restarts.end(row.id)
            self.lifecycle.tasks.tell()
        else:
            self.lifecycle.restarts.begin(row)

    def suspend(self, row: Row, method: str) -> None:
        """Hold it in its lease, or write its memory down and free the lease (hibernate)."""
        if row.state is State.HIBERNATED or (row.state, method) == (State.SUSPENDED, "suspend"):
            return
        if row.state not in (State.READY, State.SUSPENDED):
            raise ConflictError(f"the VM is {row.state}, not running")
        if method == "hibernate":
            if self.builder.vms.hypervisor.is_copied(row.id):
                # libvirt would let it run on until then, even past the end of its lease.
                raise ConflictError("a disk of the VM is being copied: ask again")
            held = self.ledger.move(row, "hibernating", RUNS, state=State.HIBERNATING)
            if held:
                self.lifecycle.start_now(held, self.lifecycle.hibernate)
            return
        self._hold(row, State.SUSPENDED, self.builder.vms.hypervisor.suspend)

    def resume(self, row: Row) -> None:
        """Let a VM that is held in its lease, or sleeps, go on."""
        if row.reason == FULL:
            raise ConflictError(FULL)
        if row.state is State.READY:
            return
        if row.state is State.PAUSED:
            raise ConflictError(f"{row.reason}: it goes on when that does")
        if row.state not in (State.SUSPENDED, State.ASLEEP):
            raise ConflictError(f"the VM is {row.state}, not suspended")
        if row.state is State.ASLEEP:
            # Said when it is so: a guest that sleeps though it is to run has gone to sleep anew.
            self.builder.vms.hypervisor.resume(row.id)
            self.ledger.move(row, WOKEN, (State.ASLEEP,), state=State.READY, reason="")
            return
        self._hold(row, State.READY, self.builder.vms.hypervisor.resume)

    def _hold(self, row: Row, state: State, act: Callable[[str], None]) -> None:
        """Suspend or resume it; what a libvirt that is away has not done, reconciliation does."""
        what = "suspended" if state is State.SUSPENDED else "resumed"
        if self.ledger.move(row, what, RUNS, state=state, reason=""):
            try:
                act(row.id)
            except UnknownError:
                raise
            except WnodesError as error:
                self.ledger.move(
                    row, f"not {what}: {error.words(row.id)}", (state,), state=row.state
                )
                raise
