"""All machines of a node: what concerns any of them goes to who has its kind in hand.

Reconciliation gathers what ledger, libvirt and LRMS say, plans, and has the plan carried out.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from bait.build import Builder
from bait.ledger import Ledger, Row
from bait.lrms import Lrms
from bait.plan import Act, Action, Evidence, plan
from bait.works import Works
from wnodes_lrms.errors import AbsentError, UnknownError, WnodesError
from wnodes_lrms.model import Kind

EVERY = 15.0  # seconds
_GRACE = 60.0  # seconds, see plan.Evidence

log = logging.getLogger(__name__)


class Hand(Protocol):
    """Who has one kind of machine in hand. All raise WnodesError for what can't be done now."""

    def carry_out(self, action: Action, row: Row) -> None:
        """Do what the plan says."""

    def release(self, row: Row) -> None:
        """The machine's allocation is over: when this returns nothing of it runs."""

    def end(self, row: Row) -> None:
        """An administrator ends the machine."""

    def stopped(self, row: Row) -> None:
        """The machine's domain has stopped by itself."""


class Node:
    """The machines of one node, of both kinds."""

    def __init__(
        self,
        ledger: Ledger,
        lrms: Lrms,
        builder: Builder,
        works: Works,
        hands: dict[Kind, Hand],
        shutdown_time: float,
    ) -> None:
        self.ledger = ledger
        self.lrms = lrms
        self.builder = builder
        self.works = works
        self.hands = hands
        self.notice = shutdown_time + EVERY
        builder.hypervisor.on_stop(self._stopped)

    def release(self, job: str) -> None:
        """End every machine of the job; when this returns nothing of them runs.

        Raises WnodesError if that can't be done now; the next reconciliation goes on with it.
        """
        for row in self.ledger.rows(job):
            self.hands[row.kind].release(row)

    def end(self, machine: str) -> None:
        """End one machine, as an administrator asks. Raises AbsentError if there is none."""
        row = self.ledger.get(machine)
        if row is None:
            raise AbsentError(f"no machine {machine} here")
        self.hands[row.kind].end(row)

    def _stopped(self, machine: str) -> None:
        try:
            row = self.ledger.get(machine)
            if row:
                self.hands[row.kind].stopped(row)
        except WnodesError as error:  # the next reconciliation sees it too
            log.warning("stopped: %s", error, extra={"job": "", "machine": machine})

    def reconcile(self) -> list[Action]:
        """Compare ledger, libvirt and LRMS, and do what follows."""
        actions = plan(self._evidence())
        for action in actions:
            ids = {"job": action.job, "machine": action.machine}
            log.info("%s: %s", action.act, action.why, extra=ids)
            try:
                self._carry_out(action)
            except WnodesError as error:
                log.warning("%s: %s", action.act, error, extra=ids)
        return actions

    def _carry_out(self, action: Action) -> None:
        if action.act is Act.DESTROY:
            self.ledger.record(action.job, action.machine, f"destroyed: {action.why}")
            self.builder.destroy(action.machine)
        elif row := self.ledger.get(action.machine):
            self.hands[row.kind].carry_out(action, row)

    def _evidence(self) -> Evidence:
        def ask(question: Callable[[], Any]) -> Any:
            try:
                return question()
            except UnknownError as error:
                log.warning("no answer, so nothing follows: %s", error)
                return None

        # The LRMS first: a job that it grants in between has its row afterwards, never before.
        return Evidence(
            live_jobs=ask(self.lrms.live_jobs),
            domains=ask(self.builder.hypervisor.domains),
            rows=tuple(self.ledger.rows()),
            worked_on=self.works.machines(),
            now=time.time(),
            grace=_GRACE,
            notice=self.notice,
        )
