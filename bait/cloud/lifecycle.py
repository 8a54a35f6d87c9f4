"""The life cycle of a cloud VM: made, shut down, hibernated, removed, each in a task of its own.

The ledger is written before each act, and whatever was begun can be begun again: so a bait that
was killed in between goes on from the VM's state.
"""

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bait import metrics
from bait.cloud.attachments import Attachments
from bait.cloud.build import CloudBuilder, Plan
from bait.cloud.isolated import IsolatedNetworks
from bait.cloud.nics import Nics
from bait.cloud.restarts import Restarts
from bait.cloud.saving import Saver
from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.ledger.states import MAKING, RUNS
from bait.machine.allocation import ask_allocation
from bait.machine.owner import owner_of
from bait.machine.progress import Progress
from bait.machine.tasks import Task, Tasks
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import ConflictError, RejectedError, UnknownError, WnodesError
from wnodes_lrms.images import catalogue
from wnodes_lrms.images.catalogue import Image
from wnodes_lrms.log import ids
from wnodes_lrms.lrms.interface import Lrms
from wnodes_lrms.model import State
from wnodes_lrms.order import Order
from wnodes_lrms.policy import may_use

_PRESS_AGAIN = 5.0  # seconds: a guest that still boots does not hear the power button
_LOOK = 0.2  # seconds between two looks at a guest that shuts down
_TAKE_AGAIN = 1.0  # seconds between two looks whether a volume is free
_IN_LEASE = (*MAKING, *RUNS, State.STOPPING, State.HIBERNATING)  # what is ended stays ended

_Taken = TypeVar("_Taken")

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Lifecycle:
    """The life cycle of one node's cloud VMs. Its methods are called from many threads."""

    config: Config
    ledger: Ledger
    lrms: Lrms
    builder: CloudBuilder
    tasks: Tasks
    attachments: Attachments
    nics: Nics
    saver: Saver
    restarts: Restarts
    isolated: IsolatedNetworks

    def end_now(self, row: Row, why: str) -> bool:
        """End it and let it rest; False if there is nothing to end, or its end was begun."""
        if not self.ledger.move(row, why, _IN_LEASE, state=State.STOPPING, reason=why):
            return False
        self.restarts.end(row.id)
        self.tasks.stop(row.id)
        self._rest(row, why)
        return True

    def make(self, row: Row, task: Task) -> None:
        """Make what the VM's order asks for, from wherever it has come to by now."""
        if row.state is State.STARTING and self.builder.begun(row.id, row.job):
            self._runs(row, task)  # a bait started it, and was killed before it said so
            return
        self.restarts.wait(row.id)
        order = Order.model_validate_json(row.spec)
        allocation = ask_allocation(self.lrms, row.job, task.cancelled)
        image = self._image(order)
        owner = owner_of(allocation.uid, allocation.gid)
        groups = [name for name, _number in owner.groups]
        if not order.saved and not may_use(
            self.config.allow, image.tag, owner.name, groups, allocation.account
        ):
            raise RejectedError(f"account {owner.name} may not use image {image.tag} at this site")
        if order.memory < image.min_memory:
            raise RejectedError(f"image {image.tag} needs {image.min_memory} MiB")
        # A disk that is there stays on the files that it was made from, whatever the tag is now.
        needed = row.digests.split() if self.builder.paths(row.id).ran.exists() else []
        needed += [part.sha256 for part in image.parts if part.sha256 not in needed]
        building = self.nics.address(
            row,
            order,
            f"building from {image.tag}: {order.cores} cores, {order.memory} MiB",
            MAKING,
            state=State.BUILDING,
            digests=" ".join(needed),
        )
        if building is None:
            return
        while self.saver.reads(row.id) or self.attachments.are_copied(order):
            task.cancelled.wait(_LOOK)
            task.check()

        drives = self._patiently(task, lambda: self.attachments.take_volumes(order))
        plan = Plan(order, row.job, allocation.cpus, image, building.address, drives)
        progress = Progress(self.ledger, row, task)
        with ExitStack() as claims:

            def starting() -> None:
                self._patiently(task, lambda: claims.enter_context(self.attachments.claimed(order)))
                progress.starting()

            self.builder.build(plan, progress.step, starting)
        self._runs(row, task)

    def _patiently(self, task: Task, take: Callable[[], _Taken]) -> _Taken:
        """Take a VM's volumes; a QEMU or a bait that was killed may seem to have them for a while.

        Raises ConflictError if another VM has one.
        """
        until = time.monotonic() + self.attachments.volumes.forgets
        while True:
            try:
                return take()
            except ConflictError:
                if time.monotonic() >= until:
                    raise
            task.cancelled.wait(_TAKE_AGAIN)
            task.check()

    def _runs(self, row: Row, task: Task) -> None:
        self.ledger.move(row, "running", MAKING, state=State.READY, reason="")
        log.info("running", extra=ids(row.job, row.id))
        metrics.BUILD.labels(row.kind).observe(time.monotonic() - task.began)
        self.tasks.tell()

    def _image(self, order: Order) -> Image:
        folder = self.config.cloud.saved if order.saved else self.config.images.catalogue
        return catalogue.read(Path(folder), order.image)

    def halt(self, row: Row, polite: bool, why: str) -> None:
        """Begin to end the VM's domain, in the place of whatever is being done with it."""
        if polite and row.state is State.STOPPING and row.id in self.tasks.machines():
            return  # asked again, it has no more time than it had
        what = f"stopping: {why}"
        changed = self.ledger.move(row, what, _IN_LEASE, state=State.STOPPING, reason=why)
        if changed:
            self.start_now(changed, lambda row, task: self._shut_down(row, task, polite))

    def _shut_down(self, row: Row, task: Task, polite: bool) -> None:
        hypervisor = self.builder.vms.hypervisor
        deadline = time.monotonic() + (self.config.cloud.shutdown_time if polite else 0)
        press = 0.0
        if polite:
            try:
                hypervisor.resume(row.id)
            except UnknownError:
                raise
            except WnodesError as error:  # it is ended in time, if it runs at all
                log.info("not woken: %s", error, extra=ids(row.job, row.id))
        while time.monotonic() < deadline and hypervisor.is_running(row.id):
            if time.monotonic() > press:
                press = time.monotonic() + _PRESS_AGAIN
                hypervisor.shutdown(row.id)
            task.cancelled.wait(_LOOK)
            task.check()
        self._rest(row, row.reason)

    def _rest(self, row: Row, why: str) -> None:
        self.builder.rest(row.id)
        if self.builder.paths(row.id).ran.exists():
            self.ledger.rest(row, self._at_rest(row), why, 0)
        else:
            self.builder.vms.remove(row.id)  # a killed bait may have left half a disk
            self.ledger.forget(row, why)
        log.info("stopped: %s", why, extra=ids(row.job, row.id))
        self.tasks.tell()
        self.isolated.drop_spare()

    def _at_rest(self, row: Row) -> State:
        """Memory that was written to its end is kept, whatever came in between."""
        return State.HIBERNATED if self.builder.paths(row.id).memory.exists() else State.STOPPED

    def hibernate(self, row: Row, _task: Task) -> None:
        """Write its memory down, and let it rest; where that can't be, it goes on."""
        hypervisor, where = self.builder.vms.hypervisor, self.builder.paths(row.id)
        new = where.memory.with_suffix(".new")
        if hypervisor.is_running(row.id):
            try:
                hypervisor.save(row.id, new)
            except UnknownError:
                raise  # it may be on its way
            except WnodesError as error:
                why = f"it could not be hibernated: {error.words(row.id)}"
                try:
                    hypervisor.resume(row.id)
                except ConflictError:  # it has ended meanwhile: it rests from now on
                    log.warning("%s", why, extra=ids(row.job, row.id))
                else:
                    held = (State.HIBERNATING,)
                    self.ledger.move(row, why, held, state=State.READY, reason=why)
                    raise
        if new.exists():
            new.replace(where.memory)
        self.builder.rest(row.id)
        self.ledger.rest(row, self._at_rest(row), "its user has suspended it", 0)
        self.tasks.tell()
        self.isolated.drop_spare()

    def remove(self, row: Row, _task: Task) -> None:
        """End it, with all that it has."""
        self.builder.vms.remove(row.id)
        self.ledger.forget(row, "its user has deleted it")
        log.info("gone", extra=ids(row.job, row.id))
        self.isolated.drop_spare()

    def start(self, row: Row, do: Callable[[Row, Task], None]) -> None:
        """Begin a task for the VM, unless it has one."""
        self.tasks.start(
            row.id, row.job, lambda task: do(row, task), lambda error: self._fail(row, error)
        )

    def start_now(self, row: Row, do: Callable[[Row, Task], None]) -> None:
        """Begin a task for the VM, in the place of the one that it may have, and of its restart."""
        self.restarts.end(row.id)
        self.tasks.replace(
            row.id, row.job, lambda task: do(row, task), lambda error: self._fail(row, error)
        )

    def _fail(self, row: Row, error: WnodesError) -> None:
        log.error("failed: %s", error, extra=ids(row.job, row.id))
        now = self.ledger.get(row.id)
        if now is None or now.state not in MAKING or isinstance(error, UnknownError):
            return  # reconciliation goes on with what was begun
        reason = error.words(row.id)
        if self.builder.paths(row.id).ran.exists():
            self.ledger.rest(row, State.FAILED, reason, 1)
        else:
            self.ledger.forget(row, reason, 1)
        self.tasks.tell()
