"""The periodic loop: what a bait does of itself, again and again."""

import logging
import threading
import time
from collections.abc import Callable

from bait.reconcile.reconciler import EVERY, Reconciler
from wnodes_lrms.errors import WnodesError

_GLANCE = 1.0  # seconds between two looks whether a job's process was stopped, or goes on
_PRUNED = 3600.0  # seconds between two times that the ledger forgets what is old, and logs go

log = logging.getLogger(__name__)


class PeriodicLoop:
    """Reconciles a node, and keeps its drain and its ledger in order, and by `keep` its guests'
    network and what else there is."""

    def __init__(self, reconciler: Reconciler, keep: Callable[[], None]) -> None:
        self._reconciler = reconciler
        self._keep = keep
        self._pruned = time.monotonic()  # at the ledger's opening, for the first time
        self._fault = ""  # why the last one did nothing, as it was said

    def run_once(self) -> float:
        """Do what there is to do; seconds until there may be more. Raises nothing."""
        reconciler = self._reconciler
        try:
            self._keep()
            reconciler.drain.keep()
            if time.monotonic() > self._pruned + _PRUNED:
                reconciler.ledger.prune()
                reconciler.vms.hypervisor.sweep_logs()
                self._pruned = time.monotonic()
            waits = [line.wait for line in reconciler.reconcile(sparing=True) if line.wait]
        except WnodesError as error:  # a full disk, mostly: what runs goes on, what ends waits
            self._say("nothing can be written down, so nothing is done", error)
            return EVERY
        except Exception as error:  # no descriptor, no thread, no memory; or a fault of ours
            self._say("nothing is done in this round", error)
            return EVERY
        if self._fault:
            self._fault = ""
            log.info("the rounds go on")
        by = reconciler.drain.by()
        if by is not None and by > time.time():
            waits.append(by - time.time())
        return min([EVERY, *waits])

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Wait for so long, until `stop`, or until there is a reason to go on earlier."""
        end = time.monotonic() + seconds
        while not stop.wait(max(0.0, min(_GLANCE, end - time.monotonic()))):
            if time.monotonic() >= end or self._reconciler.should_look():
                return

    def _say(self, what: str, error: Exception) -> None:
        said = f"{what}: {error or type(error).__name__}"
        if said != self._fault:
            log.error("%s", said, exc_info=not isinstance(error, WnodesError))
        self._fault = said
