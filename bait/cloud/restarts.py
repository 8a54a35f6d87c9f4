"""Graceful restarts: a cloud VM's guest is asked to shut down, and starts anew, in its lease.

A guest that still boots does not hear its power button: so it is pressed again and again, until
libvirt says that the guest has started anew. Nobody presses it then, nor where that may have gone
unheard: what it was asked for once it does once.

The ledger has a note of the guests that are to start anew when they shut down, written before
libvirt is told so, with the time until which that holds. When it is over they end their VMs again
by shutting down: this bait sees to that, or the next one.
"""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from bait.hypervisor.domains import Hypervisor
from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.ledger.states import RUNS
from bait.machine.tasks import Task, Tasks
from wnodes_lrms.errors import UnknownError, WnodesError
from wnodes_lrms.log import ids
from wnodes_lrms.model import State
from wnodes_lrms.restarts import DEAF, TOLD, UNSEEN

NOTE = "guests that are to restart"  # of the ledger: each VM's id, and until when (epoch)
_PRESS_AGAIN = 5.0  # seconds between two presses
_LOOK = 0.2  # seconds between two looks whether it has restarted

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Restarts:
    """The graceful restarts of a node's cloud VMs, each in a thread: one a VM at most.

    They are no tasks: what its job or its lease is in for happens to the VM meanwhile.
    """

    ledger: Ledger
    hypervisor: Hypervisor
    news: Tasks
    patience: float  # seconds that a guest has to hear the button, and then to shut down
    _under_way: Tasks = field(init=False, default_factory=Tasks)
    _pressed: set[str] = field(init=False, default_factory=set)  # VMs, until it is over
    _guard: threading.Lock = field(init=False, default_factory=threading.Lock)

    def begin(self, row: Row) -> None:
        """Have its guest start anew; one that is about to has no more time than it had.

        Raises ConflictError if it sleeps or does not run, UnknownError if libvirt does not answer.
        """
        with self._guard:
            if row.id in self._pressed:
                return
            self._pressed.add(row.id)  # nobody begins to settle an earlier one
        try:
            self._under_way.stop(row.id)  # an earlier one whose end is being written down
            self._ask(row)
            self._under_way.start(
                row.id,
                row.job,
                lambda task: self._restart(row, task),
                lambda error: log.warning("not restarted: %s", error, extra=ids(row.job, row.id)),
            )
        except BaseException:
            with self._guard:
                self._pressed.discard(row.id)
            raise

    def _ask(self, row: Row) -> None:
        self._note(row.id, time.time() + 2 * self.patience)
        try:
            self.hypervisor.restart_at_poweroff(row.id)
        except UnknownError:
            raise  # it may be so
        except WnodesError:
            self._note(row.id, None)
            raise
        if row.reason in TOLD:
            self.ledger.move(row, "the restart begins", (State.READY,), reason="")

    def end(self, machine: str) -> None:
        """Something else was begun with the VM: what its guest does then ends it. Waits for
        nothing: libvirt may hang."""
        self._under_way.cancel(machine)
        with self._guard:
            self._pressed.discard(machine)
        self._note(machine, None)

    def wait(self, machine: str) -> None:
        """Wait until nobody presses a power button of the VM's, before it has a new one. Raises
        UnknownError if that hangs."""
        self._under_way.stop(machine)

    def settle_left(self) -> None:
        """Have all end by shutting down whose time is over, though nobody watches them.

        It is called again and again as long as the bait runs. One that stood still has its time
        from when it went on.
        """
        for machine, until in self._noted().items():
            row = self.ledger.get(machine)
            if row is None or row.state not in RUNS:
                self._note(machine, None)  # its domain has gone, or is on its way
            elif row.state is State.READY and time.time() > max(until, row.since + self.patience):
                self._begin_settling(row)

    def _begin_settling(self, row: Row) -> None:
        with self._guard:
            if row.id not in self._pressed:  # or it has just been asked for anew
                self._under_way.start(
                    row.id,
                    row.job,
                    lambda task: self._settle(row, task, UNSEEN),
                    lambda error: log.warning("%s", error, extra=ids(row.job, row.id)),
                )

    def _restart(self, row: Row, task: Task) -> None:
        try:
            restarted = self._press(row, task)
        finally:
            with self._guard:
                self._pressed.discard(row.id)
        if restarted:
            self.ledger.record(row.job, row.id, "the guest has started anew")
        if restarted is not None:
            self._settle(row, task, "" if restarted else DEAF)

    def _press(self, row: Row, task: Task) -> bool | None:
        """Press its button again and again; whether it has restarted, None if it stands still.
        Whichever press it hears, it has its time to shut down from then on."""
        with self.hypervisor.power_button(row.id) as button:
            due = time.monotonic()
            last, until = due + self.patience, due + 2 * self.patience
            while not button.restarted.is_set():
                if not button.is_connected:
                    raise UnknownError("libvirt was away, and may have told of its restart")
                now = time.monotonic()
                if (due <= now < last or now >= until) and not self._runs(row):
                    return None
                if now >= until:
                    return False
                if due <= now < last:
                    button.press()
                    due = time.monotonic() + _PRESS_AGAIN
                task.cancelled.wait(_LOOK)
                task.check()
        return True

    def _runs(self, row: Row) -> bool:
        now = self.ledger.get(row.id)
        return now is not None and (now.lease, now.state) == (row.lease, State.READY)

    def _settle(self, row: Row, task: Task, said: str) -> None:
        """Have it end by shutting down, and tell its user what there is to tell."""
        self.hypervisor.end_at_poweroff(row.id)
        task.check()
        if said:
            log.warning("%s", said, extra=ids(row.job, row.id))
            self._tell(row, said)
        self._note(row.id, None)

    def _tell(self, row: Row, said: str) -> None:
        """As the reason of its state, unless there is a better one."""
        now = self.ledger.get(row.id)
        if now and not now.reason and self.ledger.move(row, said, (State.READY,), reason=said):
            self.news.tell()
        else:
            self.ledger.record(row.job, row.id, said)

    def _noted(self) -> Mapping[str, float]:
        words = (self.ledger.note(NOTE) or "").split()
        return {id_: float(until) for id_, until in zip(words[::2], words[1::2], strict=True)}

    def _note(self, machine: str, until: float | None) -> None:
        with self._guard:
            old = self._noted()
            new = {id_: each for id_, each in old.items() if id_ != machine}
            new |= {} if until is None else {machine: until}
            if new != old:
                text = " ".join(f"{id_} {each:.0f}" for id_, each in sorted(new.items()))
                self.ledger.set_note(NOTE, text or None)
