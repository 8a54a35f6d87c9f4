"""The moment that a copy of a running VM's disk is of: its guest's file systems hold still then.

An agent in the guest has to do that: QEMU's guest agent, by libvirt. Without one they do not.

The agent is the guest's: it is not waited for long, and what it says is told to the copy's owner
and believed by nobody else. The ledger has a note of the guests that may be frozen, written before
one is asked: it is told to thaw until it has answered, by the next bait too.
"""

import logging
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from types import TracebackType

from bait.hypervisor.domains import Hypervisor
from bait.ledger.ledger import Ledger
from wnodes_lrms.errors import ConflictError, WnodesError
from wnodes_lrms.log import ids
from wnodes_lrms.model import State
from wnodes_lrms.volumes import Consistency

NOTE = "guests that may be frozen"  # of the ledger
_INSISTING = 15.0  # seconds; see thaw_left()
_AGAIN = 0.5  # seconds between two attempts
_THAWED = (State.STOPPED, State.FAILED)  # it boots anew, which a hibernated one does not

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Freezer:
    """Freezes and thaws the guests of a node."""

    ledger: Ledger
    hypervisor: Hypervisor
    _busy: set[str] = field(init=False, default_factory=set)  # frozen, or being told to thaw
    _unheard: set[str] = field(init=False, default_factory=set)  # of which that is in the log
    _guard: threading.Lock = field(init=False, default_factory=threading.Lock)

    def moment(self, machine: str) -> "Moment":
        """The moment of a copy, to be entered once."""
        return Moment(self, machine)

    def thaw_left(self) -> None:
        """Begin to thaw all guests that may be frozen, though no copy is being made of them.

        It is called again and again as long as the bait runs.
        """
        for machine in self._noted():
            threading.Thread(target=self._insist, args=(machine,), daemon=True).start()

    def _insist(self, machine: str) -> None:
        """Tell a guest to thaw until it has heard: one that was too late with its answer stands
        still meanwhile."""
        until = time.monotonic() + _INSISTING
        try:
            while machine in self._noted():
                self.thaw(machine)
                if time.monotonic() > until:
                    return
                time.sleep(_AGAIN)
        except WnodesError as error:  # of the ledger's; it is tried again
            log.warning("its guest may be frozen: %s", error, extra=ids("", machine))

    def freeze(self, machine: str) -> bool:
        """Whether the guest says that its file systems hold still now; if not, why is logged."""
        with self._guard:
            if machine in self._busy:
                return False
            self._note({*self._noted(), machine})
            self._busy.add(machine)
        try:
            frozen = self.hypervisor.freeze(machine)
        except WnodesError as error:  # it may do so yet
            log.info("its guest is not frozen: %s", error, extra=ids("", machine))
            self._let(machine)
            self.thaw_left()
            return False
        if not frozen:
            self._let(machine, over=True)
        return frozen

    def thaw(self, machine: str, *, own: bool = False) -> bool:
        """Whether the guest says that some were frozen until now, and go on. `own`: of one that
        this Freezer has frozen. What may not have been heard stays in the note."""
        with self._guard:
            if machine in self._busy and not own:
                return False
            self._busy.add(machine)
        thawed, over = None, False
        try:
            thawed = self.hypervisor.thaw(machine)
            over = thawed is not None
        except ConflictError:
            row = self.ledger.get(machine)
            over = row is None or row.state in _THAWED
        except WnodesError as error:
            if machine not in self._unheard:
                log.warning("its guest may be frozen: %s", error, extra=ids("", machine))
                self._unheard.add(machine)
        finally:
            self._let(machine, over=over)
        return bool(thawed)

    def _let(self, machine: str, *, over: bool = False) -> None:
        with self._guard:
            self._busy.discard(machine)
            if over:
                self._unheard.discard(machine)
                try:
                    self._note({*self._noted()} - {machine})
                except WnodesError as error:  # it is told to thaw once more
                    log.warning("%s", error, extra=ids("", machine))

    def _noted(self) -> Collection[str]:
        return (self.ledger.note(NOTE) or "").split()

    def _note(self, machines: Collection[str]) -> None:
        self.ledger.set_note(NOTE, " ".join(sorted(machines)) or None)


@dataclass(eq=False)
class Moment:
    """A context that lasts while the moment of a copy is taken; afterwards it says what that was
    like."""

    freezer: Freezer
    machine: str
    at: float = 0.0  # seconds since the epoch
    consistency: Consistency = Consistency.CRASH
    _frozen: bool = False

    def __enter__(self) -> "Moment":
        self._frozen = self.freezer.freeze(self.machine)
        self.at = time.time()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # One that was not frozen any more has written meanwhile.
        if self._frozen and self.freezer.thaw(self.machine, own=True):
            self.consistency = Consistency.FROZEN
