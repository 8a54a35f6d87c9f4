"""What a cloud VM's guest does by itself: it stops, panics, sleeps, wakes, or finds no room.

libvirt tells of it, maybe late or twice, and each round looks anew: so it is always libvirt that is
asked how things are now.
"""

import logging
from dataclasses import dataclass

from bait.cloud.lifecycle import Lifecycle
from bait.cloud.power import WOKEN
from bait.hypervisor.domain import FULL, PANICKED
from bait.hypervisor.domains import Hypervisor
from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.ledger.states import RUNS
from bait.machine.tasks import Tasks
from wnodes_lrms.log import ids
from wnodes_lrms.model import State

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GuestEvents:
    """What follows from it for the VMs of a node."""

    ledger: Ledger
    hypervisor: Hypervisor
    tasks: Tasks
    lifecycle: Lifecycle

    def stopped(self, row: Row, how: str) -> None:
        """The VM's domain has stopped.

        Told late, it may be about a domain that the VM had before: so libvirt is asked.
        """
        if row.state in RUNS and not self.hypervisor.is_running(row.id):
            now = self.ledger.get(row.id)
            if now and (now.lease, now.since) == (row.lease, row.since):
                self.lifecycle.halt(row, False, how)

    def panicked(self, row: Row) -> None:
        """The guest's kernel has panicked, or runs anew after that: as libvirt has it now, so is
        it shown. What becomes of it its user decides."""
        if row.state is State.READY:
            panicked = self.hypervisor.has_panicked(row.id)
            what = PANICKED if panicked else "the guest runs anew"
            if self._is_news(row, PANICKED, what, holds=panicked):
                self.tasks.tell()

    def stuck(self, row: Row) -> None:
        """The guest is held because there was no room for what it wrote, or goes on after that: as
        libvirt has it now, so is it shown."""
        if row.state is State.READY:
            stuck = self.hypervisor.is_stuck(row.id)
            what = FULL if stuck else "there is room again"
            if self._is_news(row, FULL, what, holds=stuck):
                log.warning("%s", what, extra=ids(row.job, row.id))
                self.tasks.tell()

    def _is_news(self, row: Row, reason: str, what: str, *, holds: bool) -> bool:
        """Whether it was not yet written down that the reason holds, or holds no more. One that is
        held is let go in each round, and told of again; and another reason stays."""
        if holds == (row.reason == reason):
            return False
        moved = self.ledger.move(row, what, (State.READY,), reason=reason if holds else "")
        return moved is not None

    def slept(self, row: Row) -> None:
        """The guest has put itself to sleep, or woken: as libvirt has it now, so is it shown."""
        asleep = row.state in RUNS and self.hypervisor.is_asleep(row.id)
        if asleep:
            what = "the guest has put itself to sleep"
            moved = self.ledger.move(row, what, (State.READY,), state=State.ASLEEP, reason=what)
        else:
            moved = self.ledger.move(row, WOKEN, (State.ASLEEP,), state=State.READY, reason="")
        if moved:
            self.tasks.tell()
