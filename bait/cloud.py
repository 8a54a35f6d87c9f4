"""The cloud users' machines of a node: from a signed order in a lease job's hands to their end.

A machine runs inside the allocation of its lease. Without one it is at rest: its disk is kept,
and a new order for it is taken here.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from bait import metrics
from bait.admission import check
from bait.build import Builder, owner_of
from bait.cloudbuild import CloudBuilder, Plan
from bait.devices import Devices
from bait.drain import Drain
from bait.ledger import Ledger, Row
from bait.lrms import ask_allocation
from bait.plan import AT_REST, MAKING, Act, Action
from bait.saving import Saver
from bait.volumes import Pool
from bait.works import Work, Works
from wnodes_lrms import catalogue
from wnodes_lrms.catalogue import Image
from wnodes_lrms.config import Config
from wnodes_lrms.errors import (
    AbsentError,
    CancelledError,
    ConflictError,
    RejectedError,
    UnknownError,
    WnodesError,
)
from wnodes_lrms.lrms import Lrms
from wnodes_lrms.model import Allocation, Kind, State
from wnodes_lrms.order import Nic, Order, lease_named_in, public_keys, verify
from wnodes_lrms.policy import may_use

_NEWS = 5.0  # seconds after which a waiting lease job hears that the bait lives
_PRESS_AGAIN = 5.0  # seconds: a guest that still boots does not hear the power button
_LOOK = 0.2  # seconds between two looks at a guest that shuts down
_SHOWN = {
    State.READY: "running",
    State.STARTING: "building",
    State.HIBERNATED: "suspended",
    State.HIBERNATING: "stopping",
    State.ENDING: "stopping",
}
_RUNS = (State.READY, State.SUSPENDED)
_IN_LEASE = (*MAKING, *_RUNS, State.STOPPING, State.HIBERNATING)  # what is ended stays ended

log = logging.getLogger(__name__)


class Cloud:
    """The cloud machines of one node. Its methods are called from many threads."""

    def __init__(
        self,
        config: Config,
        node: str,
        ledger: Ledger,
        lrms: Lrms,
        builder: Builder,
        works: Works,
        volumes: Pool,
        drain: Drain,
    ) -> None:
        self.config = config
        self.node = node
        self.ledger = ledger
        self.lrms = lrms
        self.builder = CloudBuilder(builder)
        self.devices = Devices(ledger, self.builder, works, volumes)
        self.saver = Saver(config, ledger, self.builder)
        self.works = works
        self.volumes = volumes
        self.drain = drain
        self._admission = threading.Lock()  # two orders must not see the same machine at rest

    # What lease jobs ask

    def accept(self, token: str, job: str, uid: int) -> Iterator[dict[str, Any]]:
        """Take a lease job's order, and tell it how its machine is until that has ended.

        Asked again by the same job, it goes on telling. Raises RejectedError if the order is no
        good or does not fit the job's allocation, UnknownError if the LRMS does not answer,
        WnodesError if the node is drained.
        """
        known = self.ledger.lease(lease_named_in(token))
        if known is None or known.job != job:
            if refusal := self.drain.refusal():
                raise WnodesError(refusal)
            self._admit(
                verify(token, self.config.cluster, public_keys(self.config.api.order_keys)),
                job,
                uid,
            )
        elif self.lrms.allocation(job).uid != uid:
            raise RejectedError(f"job {job} is not yours")
        known = self.ledger.lease(lease_named_in(token))
        while known and known.reason is None:
            self.works.heard.note(job)
            row = self.ledger.get(known.machine)
            if row is None or row.lease != known.id:
                self.ledger.close_lease(known.id, "the machine has ended", 0)
            else:
                yield {"state": str(row.state)}
                with self.works.news:
                    self.works.news.wait(_NEWS)
            known = self.ledger.lease(known.id)
        if known:
            yield {"ended": known.reason, "code": known.code, "end": True}

    def ending(self, job: str, uid: int) -> None:
        """The LRMS is ending the lease: have the guest shut down while there is time."""
        for row in self.ledger.rows(job):
            if row.kind is not Kind.CLOUD or uid not in (0, row.uid):
                raise RejectedError(f"job {job} is not yours")
            if row.state is not State.HIBERNATING:  # that is its quickest end
                self._halt(row, True, "the batch system has ended its lease")

    def _admit(self, order: Order, job: str, uid: int) -> None:
        allocation = self.lrms.allocation(job)
        if allocation.uid != uid:
            raise RejectedError(f"job {job} is not yours")
        machine = str(order.machine)
        try:
            with self._admission:
                row = self._open(order, job, allocation)
        except RejectedError as error:
            self.ledger.refuse_lease(str(order.lease), machine, job, str(error))
            log.warning("%s", error, extra=_ids(job, machine))
            raise
        log.info(
            "order of %s %s accepted: %s, %d cores, %d MiB",
            *(order.dn, order.fqan, order.image, order.cores, order.memory),
            extra=_ids(job, machine),
        )
        self._work_now(row, self._make)

    def _open(self, order: Order, job: str, allocation: Allocation) -> Row:
        machine = str(order.machine)
        owner = owner_of(allocation.uid, allocation.gid)
        # Not the row that the lease job's own prolog made: if it is still there, it goes by itself.
        carries = any(row.kind is Kind.CLOUD for row in self.ledger.rows(job))
        old = self.ledger.get(machine)
        overhead = self.config.machine.memory_overhead
        check(order, allocation, owner.name, self.node, overhead, old, carries)
        row = Row(
            machine,
            job,
            0,
            State.REQUESTED,
            time.time(),
            uid=owner.uid,
            tag=order.image,
            cores=order.cores,
            memory=order.memory,
            address=old.address if old else None,
            digests=old.digests if old else "",
            kind=Kind.CLOUD,
            lease=str(order.lease),
            ends=time.time() + order.walltime,
            spec=order.model_dump_json(exclude_defaults=True),
        )
        if not self.ledger.open_lease(row):
            raise RejectedError("order refused: it has been used before")
        return row

    # What the bridge asks

    def machines(self) -> list[dict[str, Any]]:
        """All cloud machines here, as the API shows them."""
        return [self._shown(row) for row in self.ledger.rows() if row.kind is Kind.CLOUD]

    def machine(self, machine: str) -> dict[str, Any]:
        """One of them. Raises AbsentError."""
        return self._shown(self._row(machine))

    def outcomes(self) -> list[dict[str, Any]]:
        """How the last leases ended here."""
        return [
            {"lease": lease.id, "machine": lease.machine, "job": lease.job, "reason": lease.reason}
            for lease in self.ledger.ended_leases(200)
        ]

    def census(self) -> Counter[tuple[str, str]]:
        """How many machines of each kind and state this node has."""
        return Counter((str(row.kind), str(row.state)) for row in self.ledger.rows())

    def ping(self) -> None:
        """Ask libvirt something. Raises UnknownError if it does not answer."""
        self.builder.common.hypervisor.version()

    def stop(self, machine: str, method: str) -> None:
        """Shut the machine down, or end it at once (poweroff); its lease is freed."""
        self._halt(self._row(machine), method != "poweroff", "its user has stopped it")

    def restart(self, machine: str, method: str) -> None:
        """Start it anew: by its own shutdown, as by a reset button (warm), as a new one (cold)."""
        row = self._running(machine)
        self.ledger.record(row.job, row.id, f"restart ({method})")
        if method == "cold":
            again = self.ledger.move(row, "cold restart", (State.READY,), state=State.BUILDING)
            if again:
                self.builder.rest(row.id)
                self._work_now(again, self._make)
        elif method == "warm":
            self.builder.common.hypervisor.reset(row.id)
        else:
            self.builder.common.hypervisor.reboot(row.id)

    def suspend(self, machine: str, method: str) -> None:
        """Hold it in its lease, or write its memory down and free the lease (hibernate)."""
        row = self._row(machine)
        if row.state is State.HIBERNATED or (row.state, method) == (State.SUSPENDED, "suspend"):
            return
        if row.state not in _RUNS:
            raise ConflictError(f"the machine is {row.state}, not running")
        if method == "hibernate":
            held = self.ledger.move(row, "hibernating", _RUNS, state=State.HIBERNATING)
            if held:
                self._work_now(held, self._hibernate)
            return
        self._hold(row, State.SUSPENDED, self.builder.common.hypervisor.suspend)

    def resume(self, machine: str) -> None:
        """Let a machine that is held in its lease go on."""
        row = self._row(machine)
        if row.state is State.READY:
            return
        if row.state is not State.SUSPENDED:
            raise ConflictError(f"the machine is {row.state}, not suspended")
        self._hold(row, State.READY, self.builder.common.hypervisor.resume)

    def _hold(self, row: Row, state: State, act: Callable[[str], None]) -> None:
        """Suspend or resume it; what a libvirt that is away has not done, reconciliation does."""
        what = "suspended" if state is State.SUSPENDED else "resumed"
        if self.ledger.move(row, what, _RUNS, state=state):
            try:
                act(row.id)
            except UnknownError:
                raise
            except WnodesError as error:
                self.ledger.move(row, f"not {what}: {error}", (state,), state=row.state)
                raise

    def destroy(self, machine: str) -> None:
        """End it and remove its disk. Raises AbsentError if it is not here."""
        row = self._row(machine)
        self.ledger.change(row.id, "ending", state=State.ENDING)
        self._work_now(row, self._remove)

    def attach_volume(self, machine: str, volume: str) -> str:
        """Plug a volume in; the device that the guest sees."""
        return self.devices.attach_volume(self._running(machine), volume)

    def detach_volume(self, machine: str, volume: str) -> None:
        """Take a volume out; one that is not in is success."""
        self.devices.detach_volume(self._row(machine), volume)

    def attach_nic(self, machine: str, nic: Nic) -> dict[str, Any]:
        """Plug a card in; its addresses."""
        return self.devices.attach_nic(self._running(machine), nic)

    def detach_nic(self, machine: str, card: str) -> None:
        """Take a card out; one that is not in is success."""
        self.devices.detach_nic(self._row(machine), card)

    def save(self, machine: str, tag: str) -> None:
        """Begin to save its disk as an image."""
        self.saver.save(self._row(machine), tag)

    def delete_saved(self, tag: str) -> None:
        """Remove an image that a user has saved; one that is gone is success."""
        self.saver.delete(tag)

    def saved(self) -> dict[str, Any]:
        """The images that users have saved."""
        return self.saver.shown()

    # What the node asks

    def carry_out(self, action: Action, row: Row) -> None:
        """Do what the plan says of a cloud machine."""
        if action.act is Act.END:
            self._work(row, self._remove)
        elif action.act is Act.RESUME:
            self._work(row, self._make)
        elif action.act is Act.HIBERNATE:
            self._work(row, self._hibernate)
        elif action.act is Act.LOST:
            self.stopped(row)
        elif action.act is Act.SHUT_DOWN:
            self._halt(row, True, row.reason or action.why)
        elif action.act is Act.HALT:
            self._halt(row, False, row.reason or "its lease is over")
        elif action.act is Act.SWEEP:
            self.builder.rest(row.id)
        elif action.act is Act.WAKE and row.state is State.READY:
            self.builder.common.hypervisor.resume(row.id)
        elif action.act is Act.HOLD and row.state is State.SUSPENDED:
            self.builder.common.hypervisor.suspend(row.id)

    def release(self, row: Row) -> None:
        """The lease job has ended: its machine does not run any more when this returns."""
        if not self._end_now(row, "its lease has ended"):
            now = self.ledger.get(row.id)
            if now and now.state is State.ENDING:
                self.builder.common.destroy(row.id)

    def end(self, row: Row) -> None:
        """An administrator ends the machine; its disk is kept."""
        self._end_now(row, "an administrator has ended the machine")

    def stopped(self, row: Row) -> None:
        """The guest has shut itself down, or crashed.

        Told late, it may be about a domain that the machine had before: so libvirt is asked.
        """
        if row.state in _RUNS and not self.builder.common.hypervisor.is_running(row.id):
            now = self.ledger.get(row.id)
            if now and (now.lease, now.since) == (row.lease, row.since):
                self._halt(row, False, "the guest has shut itself down")

    def _end_now(self, row: Row, why: str) -> bool:
        """False if there is nothing to end, or its end was begun."""
        if not self.ledger.move(row, why, _IN_LEASE, state=State.STOPPING, reason=why):
            return False
        self.works.let_go(row.id)
        self._rest(row, why)
        return True

    # The work itself

    def _make(self, row: Row, work: Work) -> None:
        if row.state is State.STARTING and self.builder.begun(row.id, row.job):
            self._runs(row, work)  # a bait started it, and was killed before it said so
            return
        order = Order.model_validate_json(row.spec)
        allocation = ask_allocation(self.lrms, row.job, work.cancelled)
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
        building = self.devices.address(
            row,
            order,
            f"building from {image.tag}: {order.cores} cores, {order.memory} MiB",
            MAKING,
            state=State.BUILDING,
            digests=" ".join(needed),
        )
        if building is None:
            return
        while self.saver.reads(row.id):
            work.cancelled.wait(_LOOK)
            work.check()

        def step(what: str) -> None:
            log.info("%s", what, extra=_ids(row.job, row.id))
            self.ledger.record(row.job, row.id, what)

        def starting() -> None:
            work.check()
            if not self.ledger.move(row, "starting the domain", MAKING, state=State.STARTING):
                raise CancelledError("cancelled")

        drives = self.devices.take_volumes(order)
        plan = Plan(order, row.job, allocation.cpus, image, building.address, drives)
        self.builder.build(plan, work.steps(step), starting)
        self._runs(row, work)

    def _runs(self, row: Row, work: Work) -> None:
        self.ledger.move(row, "running", MAKING, state=State.READY, reason="")
        log.info("running", extra=_ids(row.job, row.id))
        metrics.BUILD.labels(row.kind).observe(time.monotonic() - work.began)
        self.works.tell()

    def _image(self, order: Order) -> Image:
        folder = self.config.cloud.saved if order.saved else self.config.images.catalogue
        return catalogue.read(Path(folder), order.image)

    def _halt(self, row: Row, polite: bool, why: str) -> None:
        """Begin to end the machine's domain, in the place of whatever is being done with it."""
        if polite and row.state is State.STOPPING and row.id in self.works.machines():
            return  # asked again, it has no more time than it had
        what = f"stopping: {why}"
        changed = self.ledger.move(row, what, _IN_LEASE, state=State.STOPPING, reason=why)
        if changed:
            self._work_now(changed, lambda row, work: self._shut_down(row, work, polite))

    def _shut_down(self, row: Row, work: Work, polite: bool) -> None:
        hypervisor = self.builder.common.hypervisor
        deadline = time.monotonic() + (self.config.cloud.shutdown_time if polite else 0)
        press = 0.0
        if polite:
            with suppress(ConflictError):  # it does not run
                hypervisor.resume(row.id)
        while time.monotonic() < deadline and hypervisor.is_running(row.id):
            if time.monotonic() > press:
                press = time.monotonic() + _PRESS_AGAIN
                hypervisor.shutdown(row.id)
            work.cancelled.wait(_LOOK)
            work.check()
        self._rest(row, row.reason)

    def _rest(self, row: Row, why: str) -> None:
        self.builder.rest(row.id)
        if self.builder.paths(row.id).ran.exists():
            self.ledger.rest(row, self._at_rest(row), why, 0)
        else:
            self.builder.common.destroy(row.id)  # a killed bait may have left half a disk
            self.ledger.forget(row, why)
        log.info("stopped: %s", why, extra=_ids(row.job, row.id))
        self.works.tell()
        self._drop_networks()

    def _at_rest(self, row: Row) -> State:
        """Memory that was written to its end is kept, whatever came in between."""
        return State.HIBERNATED if self.builder.paths(row.id).memory.exists() else State.STOPPED

    def _hibernate(self, row: Row, _work: Work) -> None:
        hypervisor, where = self.builder.common.hypervisor, self.builder.paths(row.id)
        new = where.memory.with_suffix(".new")
        if hypervisor.is_running(row.id):
            try:
                hypervisor.save(row.id, new)
            except UnknownError:
                raise  # it may be on its way
            except WnodesError as error:
                why = f"it could not be hibernated: {error}"
                hypervisor.resume(row.id)
                held = (State.HIBERNATING,)
                self.ledger.move(row, why, held, state=State.READY, reason=why)
                raise
        if new.exists():
            new.replace(where.memory)
        self.builder.rest(row.id)
        self.ledger.rest(row, self._at_rest(row), "its user has suspended it", 0)
        self.works.tell()
        self._drop_networks()

    def _remove(self, row: Row, _work: Work) -> None:
        self.builder.common.destroy(row.id)
        self.ledger.forget(row, "its user has deleted it")
        log.info("gone", extra=_ids(row.job, row.id))
        self._drop_networks()

    def _drop_networks(self) -> None:
        """Remove the isolated networks that no machine is on or will be."""
        active = [r for r in self.ledger.rows() if r.kind is Kind.CLOUD and r.state not in AT_REST]
        orders = (Order.model_validate_json(row.spec) for row in active)
        keep = {nic.network for order in orders for nic in order.nics}
        self.builder.common.hypervisor.drop_isolated(keep)

    def _work(self, row: Row, task: Callable[[Row, Work], None]) -> None:
        self.works.start(
            row.id, row.job, lambda work: task(row, work), lambda error: self._fail(row, error)
        )

    def _work_now(self, row: Row, task: Callable[[Row, Work], None]) -> None:
        self.works.instead(
            row.id, row.job, lambda work: task(row, work), lambda error: self._fail(row, error)
        )

    def _fail(self, row: Row, error: WnodesError) -> None:
        log.error("failed: %s", error, extra=_ids(row.job, row.id))
        now = self.ledger.get(row.id)
        if now is None or now.state not in MAKING or isinstance(error, UnknownError):
            return  # reconciliation goes on with what was begun
        reason = str(error).replace("\n", "; ")
        if self.builder.paths(row.id).ran.exists():
            self.ledger.rest(row, State.FAILED, reason, 1)
        else:
            self.ledger.forget(row, reason, 1)
        self.works.tell()

    def _row(self, machine: str) -> Row:
        row = self.ledger.get(machine)
        if row is None or row.kind is not Kind.CLOUD:
            raise AbsentError(f"no machine {machine} here")
        return row

    def _running(self, machine: str) -> Row:
        row = self._row(machine)
        if row.state is not State.READY:
            raise ConflictError(f"the machine is {row.state}, not running")
        return row

    def _shown(self, row: Row) -> dict[str, Any]:
        return {
            "id": row.id,
            "lease": row.lease,
            "job": row.job,
            "state": _SHOWN.get(row.state, str(row.state)),
            "reason": row.reason,
            "cores": row.cores,
            "memory": row.memory,
            "image": row.tag,
            "since": row.since,
            "node": self.node,
            **self.devices.shown(row),
        }


def _ids(job: str, machine: str) -> dict[str, str]:
    return {"job": job, "machine": machine}
