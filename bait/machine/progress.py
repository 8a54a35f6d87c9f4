"""What happens while a VM is made: said in the log and in its history, and stopped when asked."""

import logging

from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.ledger.states import MAKING
from bait.machine.tasks import Task
from wnodes_lrms.errors import CancelledError
from wnodes_lrms.log import ids
from wnodes_lrms.model import State

log = logging.getLogger(__name__)


class Progress:
    """How a task gets on with a VM. Its methods raise CancelledError if the task is to stop."""

    def __init__(self, ledger: Ledger, row: Row, task: Task) -> None:
        self._ledger = ledger
        self._row = row
        self._task = task
        self._last = ""

    def step(self, what: str) -> None:
        """This is done next. Each step is said once."""
        self._task.check()
        if what != self._last:
            self._last = what
            log.info("%s", what, extra=ids(self._row.job, self._row.id))
            self._ledger.record(self._row.job, self._row.id, what)

    def starting(self) -> None:
        """libvirt is asked for the domain next."""
        self._task.check()
        what = "starting the domain"
        if not self._ledger.move(self._row, what, MAKING, state=State.STARTING):
            raise CancelledError("cancelled")
