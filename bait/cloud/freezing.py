"""The moment that a copy of a running VM's disk is of: its guest's file systems hold still then.

An agent in the guest has to do that: QEMU's guest agent, by libvirt. Without one they do not.

The agent is the guest's: it is not waited for long, what it says is told to the copy's owner and
believed by nobody else, and the log has only the beginning of its errors. The ledger has a note of
the guests that may be frozen, written before one is asked. It is told to thaw until it has
answered, by the next bait too.
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
_INSISTING = 60.0  # seconds; afterwards it is told in each round
_AGAIN = 0.5  # seconds between two attempts
_TURN = 20.0  # seconds for another moment of the same guest to be over
_THAWED = (State.STOPPED, State.FAILED)  # it boots anew, which a hibernated one does not

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Freezer:
    """Freezes and thaws the guests of a node."""

    ledger: Ledger
    hypervisor: Hypervisor
    _busy: set[str] = field(init=False, default_factory=set)  # frozen, or being told to thaw
    _unheard: set[str] = field(init=False, default_factory=set)  # of which that is in the log
    _guard: threading.Condition = field(init=False, default_factory=threading.Condition)
    _telling: threading.Lock = field(init=False, default_factory=threading.Lock)

    def moment(self, machine: str) -> "Moment":
        """The moment of a copy, to be entered once."""
        return Moment(self, machine)

    def thaw_left(self) -> None:
        """Begin to tell all guests that may be frozen to thaw, though no copy is being made of
        them.

        It is called again and again as long as the bait runs. One is told after the other: while
        a guest does not answer it has a thread of libvirt's, which all others' VMs need too.
        """
        if self._noted():
            threading.Thread(target=self._tell_all, name="thaw", daemon=True).start()

    def _tell_all(self) -> None:
        if self._telling.acquire(blocking=False):  # otherwise they are just being told
            try:
                for machine in self._noted():
                    self.thaw(machine)
            except WnodesError as error:  # of the ledger's; it is tried again
                log.warning("guests may be frozen: %s", error)
            finally:
                self._telling.release()

    def freeze(self, machine: str) -> bool:
        """Whether the guest says that its file systems hold still now; if not, why is logged.

        One that is frozen for another copy is waited for. One that may be frozen since an earlier
        time is not asked before it has been heard.
        """
        with self._guard:
            self._guard.wait_for(lambda: machine not in self._busy, _TURN)
            noted = self._noted()
            if machine in self._busy or machine in noted:
                log.info("its guest may be frozen already", extra=ids("", machine))
                return False
            self._note({*noted, machine})
            self._busy.add(machine)
        frozen, over = False, False
        try:
            frozen = self.hypervisor.freeze(machine)
            over = not frozen
        except WnodesError as error:  # it may do so yet
            log.info("its guest is not frozen: %.500s", error, extra=ids("", machine))
        finally:
            if not frozen:
                self._let(machine, over=over)
        if not (frozen or over):
            self._begin_to_insist(machine)
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
                log.warning("its guest may be frozen: %.500s", error, extra=ids("", machine))
                self._unheard.add(machine)
        finally:
            self._let(machine, over=over)
        if own and not over:
            self._begin_to_insist(machine)
        return bool(thawed)

    def _begin_to_insist(self, machine: str) -> None:
        threading.Thread(target=self._insist, args=(machine,), name="thaw", daemon=True).start()

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

    def _let(self, machine: str, *, over: bool = False) -> None:
        with self._guard:
            self._busy.discard(machine)
            self._guard.notify_all()
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
