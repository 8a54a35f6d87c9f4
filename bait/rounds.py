"""The bait's rounds: what it does of itself, again and again."""

import logging
import time
from collections.abc import Callable

from bait.node import EVERY, Node
from wnodes_lrms.errors import WnodesError

log = logging.getLogger(__name__)


class Rounds:
    """Reconciliation of a node, with what a drain of it wants, and its guests' firewall."""

    def __init__(self, machines: Node, keep_firewall: Callable[[], None]) -> None:
        self._machines = machines
        self._keep_firewall = keep_firewall
        self._fault = ""  # why the last one did nothing, as it was said

    def make(self) -> float:
        """Do what there is to do; seconds until there may be more."""
        machines = self._machines
        try:
            self._keep_firewall()
            machines.drain.keep()
            waits = [line.wait for line in machines.reconcile() if line.wait]
        except WnodesError as error:  # a full disk, mostly: what runs goes on, what ends waits
            if str(error) != self._fault:
                log.error("nothing can be written down, so nothing is done: %s", error)
            self._fault = str(error)
            return EVERY
        if self._fault:
            self._fault = ""
            log.info("it can be written down again")
        by = machines.drain.by()
        if by is not None and by > time.time():
            waits.append(by - time.time())
        return min([EVERY, *waits])
