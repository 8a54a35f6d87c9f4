"""Emptying the node: no new VMs, and an end to those that run, at a time if one is given.

It begins in the batch system, the one scheduler, which then sends no more jobs here. A batch system
that doesn't answer is told later; whatever it still sends is refused, and goes elsewhere. The
ledger keeps that the node is drained, so that a restart of the bait or of the node changes nothing.
"""

import json
import logging
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

from bait.ledger.ledger import Ledger
from bait.ledger.states import AT_REST
from wnodes_lrms.errors import RejectedError, WnodesError
from wnodes_lrms.lrms.interface import Lrms

_PATIENCE = 10.0  # seconds to wait for a batch system that is being asked already
# Notes in the ledger.
_DRAIN = "drain"  # a Draining as JSON, as long as the node is drained
_LIFT = "drain-lift"  # the batch system does not know yet that the drain is over

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Draining:
    """That the node is drained."""

    since: float  # seconds since the epoch
    by: float | None  # when what still runs is ended, seconds since the epoch; None: never
    reason: str


class Drain:
    """Whether this node is drained. Its methods are called from many threads."""

    def __init__(self, ledger: Ledger, lrms: Lrms) -> None:
        self.ledger = ledger
        self.lrms = lrms
        self._asking = threading.Lock()  # one at a time asks the batch system
        self._trouble = ""  # why the batch system does not do as asked, as last heard
        noted = ledger.note(_DRAIN)
        self._now = Draining(**json.loads(noted)) if noted else None
        self._lift = ledger.note(_LIFT) is not None

    def begin(self, by: float | None, reason: str) -> None:
        """Drain the node, or change the time and the reason of that.

        Raises RejectedError if the time is over already.
        """
        now = time.time()
        if by is not None and by <= now:
            raise RejectedError("the time by which the node is to be empty is over already")
        self._note(Draining(self._now.since if self._now else now, by, reason))
        log.info("drained: %s", reason)
        self._tell_lrms(_PATIENCE)

    def resume(self) -> None:
        """Take new VMs again; nothing if the node is not drained."""
        if self._now:
            self.ledger.set_note(_LIFT, "yes")
            self._lift = True
            self._note(None)
            log.info("no longer drained")
        self._tell_lrms(_PATIENCE)

    def keep(self) -> None:
        """See that the batch system still knows, or hears what it has not heard yet.

        In a thread of its own: a batch system that hangs keeps nobody waiting.
        """
        if self._now or self._lift:
            threading.Thread(target=self._tell_lrms, args=(0.0,), name="drain", daemon=True).start()

    def refusal(self) -> str | None:
        """Why no new VM is made here; None if they are."""
        now = self._now
        return f"the node is drained: {now.reason}" if now else None

    def by(self) -> float | None:
        """When what still runs is ended, in seconds since the epoch; None: not at a set time."""
        now = self._now
        return now.by if now else None

    def told(self) -> dict[str, Any] | None:
        """That the node is drained, for those who ask from afar; None if it is not."""
        now = self._now
        return asdict(now) if now else None

    def shown(self) -> dict[str, Any]:
        """How the node stands, and which VMs it has in allocations.

        `lrms` has what keeps the batch system from doing as asked; empty if nothing does.
        """
        now = self._now
        left = [row for row in self.ledger.rows() if row.state not in AT_REST or row.job]
        return {
            "state": "up" if now is None else "draining" if left else "drained",
            **(asdict(now) if now else {"since": None, "by": None, "reason": ""}),
            "lrms": self._trouble,
            "machines": [
                {"id": row.id, "job": row.job, "kind": str(row.kind), "state": str(row.state)}
                for row in left
            ],
        }

    def _note(self, now: Draining | None) -> None:
        self.ledger.set_note(_DRAIN, json.dumps(asdict(now)) if now else None)
        self._now = now

    def _tell_lrms(self, patience: float) -> None:
        """Have the batch system do what is noted. One line in the log for each change in that.

        `patience`: seconds to wait while another thread asks it; what is left, `keep` does.
        """
        if not self._asking.acquire(timeout=patience):
            return
        now = self._now
        try:
            others = self.lrms.drain(now.reason) if now else self.lrms.resume()
            if self._lift and self._now is now:  # else the other one waits to be told
                self.ledger.set_note(_LIFT, None)
                self._lift = False
            trouble = f"drained by somebody else, which stays: {others}" if others else ""
        except WnodesError as error:
            trouble = f"not told yet: {error}"
        finally:
            self._asking.release()
        if trouble != self._trouble:
            self._trouble = trouble
            log.warning("the batch system: %s", trouble or "does as asked again")
