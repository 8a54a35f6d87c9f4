"""The lease jobs of a node: their processes wait here for an order, and then beside their VM.

A lease job carries nothing but its lease's id, for others may see what a job has. Its process says
that it is there; the bridge whose lease it is learns of that, asks another bait where the batch
system has placed the job, and then hands the order in: signed, for this job on this node.
"""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bait.cloud.admission import check
from bait.cloud.lifecycle import Lifecycle
from bait.cloud.nics import Nics
from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.machine.calls import Call
from bait.machine.owner import owner_of
from bait.machine.tasks import Tasks
from bait.reconcile.drain import Drain
from bait.reconcile.jobs import Jobs
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import ConflictError, RejectedError, WnodesError
from wnodes_lrms.log import ids
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.lrms.lease import account_of
from wnodes_lrms.model import Allocation, Kind, State
from wnodes_lrms.order import Order, public_keys, verify

# Seconds after which a lease job hears that the bait lives, and is heard: while it waits for an
# order, and beside its VM, of whose end it is told at once.
_NEWS = 5.0
_BESIDE = 15.0
# Seconds that an allocation may wait for its order: the bridge may just be restarted, or away.
_PATIENCE = 600.0
_ENDED = "the batch system has ended its lease"

log = logging.getLogger(__name__)


@dataclass
class _Waiter:
    """A process of a lease job that has no order yet."""

    lease: str
    uid: int
    pid: int
    call: Call
    until: float  # on the monotonic clock
    halted: bool = False  # the batch system is about to end it

    @property
    def over(self) -> str:
        """Why it need not wait any more."""
        return _ENDED if self.halted or self.call.over else ""


@dataclass(eq=False)
class LeaseJobs:
    """The lease jobs of one node. Its methods are called from many threads."""

    config: Config
    node: str
    ledger: Ledger
    jobs: Jobs
    tasks: Tasks
    drain: Drain
    lifecycle: Lifecycle
    nics: Nics
    _waiting: dict[JobId, _Waiter] = field(init=False, default_factory=dict)  # by job
    # Two orders must not see the same VM at rest.
    _admission: threading.Lock = field(init=False, default_factory=threading.Lock)

    # What the jobs' processes ask

    def attend(self, lease: str, job: JobId, uid: int, pid: int = 0) -> Iterator[dict[str, Any]]:
        """Tell a lease job, this process, how its VM is until that has ended; before there is one,
        wait for it.

        Asked again by the same job, it goes on telling. Raises RejectedError if the job is not the
        caller's, or can carry no lease, UnknownError if the LRMS does not answer, WnodesError if
        the node is drained.
        """
        known = self.ledger.lease(lease)
        if known is None:
            if refusal := self.drain.refusal():
                raise WnodesError(refusal)
            account_of(self._owner(job, uid), self.config.cloud.accounts)
            with self.tasks.calls.of(job) as call:
                waiter = _Waiter(lease, uid, pid, call, time.monotonic() + _PATIENCE)
                yield from self._until_ordered(waiter, job)
            known = self.ledger.lease(lease)
        else:
            self._owner(job, uid)
        if known and known.job != job:
            raise RejectedError(f"lease {lease} is job {known.job}'s")
        while known and known.reason is None:
            news = self.tasks.changed("", 0)
            self.tasks.heard.note(job, pid)
            row = self.ledger.get(known.machine)
            if row is None or row.lease != known.id:
                self.ledger.close_lease(known.id, "the VM has ended", 0)
            else:
                yield {"state": str(row.state)}
                self.tasks.changed(news, _BESIDE)
            known = self.ledger.lease(known.id)
        if known:
            yield {"ended": known.reason, "code": known.code, "end": True}

    def ending(self, job: JobId, uid: int) -> None:
        """The LRMS is ending the lease: have the guest shut down while there is time."""
        with self._admission:
            waiter = self._waiting.get(job)
            if waiter and uid in (0, waiter.uid):
                waiter.halted = True
                self.tasks.tell()
        for row in self.ledger.rows(job):
            if row.kind is not Kind.CLOUD or uid not in (0, row.uid):
                raise RejectedError(f"job {job} is not yours")
            if row.state is not State.HIBERNATING:  # that is its quickest end
                self.lifecycle.halt(row, True, _ENDED)

    def _owner(self, job: JobId, uid: int) -> str:
        """The name of the user who calls. Raises RejectedError if the job is somebody else's."""
        allocation = self.jobs.granted(job, uid)
        return owner_of(allocation.uid, allocation.gid).name

    def _until_ordered(self, mine: _Waiter, job: JobId) -> Iterator[dict[str, Any]]:
        """Stay until there was an order, accepted or refused, or until there is none to come."""
        with self._admission:
            self._waiting[job] = mine  # an older one is of a connection that is lost
        self.tasks.tell()
        try:
            while True:
                news = self.tasks.changed("", 0)
                if self.ledger.lease(mine.lease):
                    return
                why = mine.over or self.drain.refusal()
                if time.monotonic() > mine.until:
                    why = f"no bridge has given an order for it in {_PATIENCE / 60:g} minutes"
                if why:
                    yield {"ended": why, "code": 1, "end": True}
                    return
                self.tasks.heard.note(job, mine.pid)
                yield {"state": "waiting"}
                self.tasks.changed(news, _NEWS)
        finally:
            with self._admission:
                if self._waiting.get(job) is mine:
                    del self._waiting[job]

    # What a bridge asks

    def waiting(self) -> list[dict[str, Any]]:
        """The lease jobs here that wait for an order, each with the lease that it says it is."""
        with self._admission:
            return [{"lease": each.lease, "job": job} for job, each in self._waiting.items()]

    def hand_in(self, lease: str, token: str) -> None:
        """Obey an order: make its VM in the job that waits for it. Asked again, success.

        Raises RejectedError if the order is no good or does not fit the job's allocation,
        ConflictError if that job does not wait for it, UnknownError if the LRMS does not answer.
        """
        order = verify(Order, token, self.config.cluster, public_keys(self.config.api.order_keys))
        if str(order.lease) != lease:
            raise RejectedError("order refused: it is for another lease")
        known = self.ledger.lease(lease)
        if known is None:
            self._admit(order)
        elif known.job != order.job:
            raise RejectedError("order refused: it has been used before")

    def _admit(self, order: Order) -> None:
        job, machine = self.jobs.lrms.job_id(order.job), str(order.machine)
        if refusal := self.drain.refusal():
            raise ConflictError(refusal)
        allocation = self.jobs.lrms.allocation(job) if job in self._waiting else None
        try:
            with self._admission, self.tasks.news:  # nor two cards the same address free
                waiter = self._waiting.get(job)
                if (
                    allocation is None
                    or waiter is None
                    or (waiter.lease, waiter.uid) != (str(order.lease), allocation.uid)
                    or waiter.over
                ):
                    raise ConflictError(f"job {job or 'none'} does not wait for this order here")
                with self.tasks.calls.holding(waiter.call):
                    row = self._open(order, job, allocation)
        except ConflictError:
            raise
        except RejectedError as error:
            self.ledger.refuse_lease(str(order.lease), machine, job, error.words(machine))
            log.warning("%s", error, extra=ids(job, machine))
            self.tasks.tell()
            raise
        log.info(
            "order of %s %s accepted: %s, %d cores, %d MiB",
            *(order.dn, order.fqan, order.image, order.cores, order.memory),
            extra=ids(job, machine),
        )
        self.lifecycle.start_now(row, self.lifecycle.make)
        self.tasks.tell()

    def _open(self, order: Order, job: JobId, allocation: Allocation) -> Row:
        machine = str(order.machine)
        owner = owner_of(allocation.uid, allocation.gid)
        # Not the row that the lease job's own prolog made: if it is still there, it goes by itself.
        carries = any(row.kind is Kind.CLOUD for row in self.ledger.rows(job))
        old = self.ledger.get(machine)
        overhead = self.config.machine.memory_overhead
        check(order, allocation, owner.name, self.node, overhead, old, carries)
        try:
            self.nics.vet(order.nics, machine)
        except RejectedError as error:
            raise RejectedError(f"order refused: {error}") from error
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
