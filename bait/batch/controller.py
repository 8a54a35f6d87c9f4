"""The engine: carries a batch job's machine from a promise to its end."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from bait import metrics
from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.ledger.states import MAKING
from bait.machine.allocation import ask_allocation
from bait.machine.builder import Builder
from bait.machine.files import paths
from bait.machine.hardware import Blueprint, guest_memory
from bait.machine.owner import owner_of
from bait.machine.tasks import Work, Works
from bait.network.addresses import free_address
from bait.reconcile import pausing
from bait.reconcile.drain import Drain
from bait.reconcile.jobs import Jobs
from bait.reconcile.plan import Act, Action
from wnodes_lrms.config.load import TAG, Config
from wnodes_lrms.errors import (
    CancelledError,
    NotListedError,
    RejectedError,
    UnknownError,
    WnodesError,
)
from wnodes_lrms.images import catalogue
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.lrms.systems import SYSTEMS
from wnodes_lrms.model import Kind, State, machine_id
from wnodes_lrms.policy import may_use

_POLL = 0.05  # seconds between two looks at a booting guest
_LOOK = 1.0  # seconds between two looks at its domain
_PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds before a machine is tried again for want of an answer
_SURE = 20.0  # seconds for which the LRMS must not list a job, before that is an answer
_STEP_PATIENCE = 5.0  # seconds for the LRMS to make the job's control groups
_NEWS = 5.0  # seconds after which a waiting starter hears that the bait lives

_NONE = "the job asks for no machine, or has ended"
_OVER = (State.FAILED, State.ENDING)

log = logging.getLogger(__name__)


class Engine:
    """The machines of one node's batch jobs. Its methods are called from many threads."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        jobs: Jobs,
        builder: Builder,
        works: Works,
        drain: Drain,
    ) -> None:
        self.config = config
        self.charging = SYSTEMS[config.lrms].charging
        self.ledger = ledger
        self.jobs = jobs
        self.lrms = jobs.lrms
        self.builder = builder
        self.works = works
        self.drain = drain

    def announce(self, job: JobId) -> None:
        """Begin a machine for a job whose LRMS does not tell its hook which run of the job it is.

        That is asked for, by a thread of its own: a hook does not wait.
        """
        threading.Thread(target=self._begin_announced, args=(job,), daemon=True).start()

    def _begin_announced(self, job: JobId) -> None:
        try:
            granted = ask_allocation(self.lrms, job, threading.Event())
            if granted.tag:
                self.prepare(job, granted.restart)
        except WnodesError as error:  # its starter asks again, and tells the user
            log.warning("not prepared: %s", error, extra=_ids(job, ""))

    def prepare(self, job: JobId, restart: int) -> None:
        """Begin a machine for the job; one that is begun already is success.

        Raises WnodesError if the node is drained.
        """
        machine = machine_id(self.config.cluster, job, restart)
        if (refusal := self.drain.refusal()) and self.ledger.get(machine) is None:
            raise WnodesError(refusal)
        row = Row(machine, job, restart, State.REQUESTED, time.time())
        if self.ledger.promise(row):
            self._work(row, self._make_patiently)

    def attach(self, job: JobId, uid: int, pid: int = 0) -> Iterator[dict[str, Any]]:
        """What a starter, this process, hears until its machine is ready or has failed.

        A job that no prolog announced (the bait was away) gets its machine now, also if there is
        one left of an earlier run: all that counts is read from the LRMS. Raises RejectedError to
        anybody but the job's owner, NotListedError if the LRMS goes on not listing the job.
        """
        told, asked, said = time.monotonic(), False, ""
        deadline = told + self.config.machine.ready_timeout
        missed: float | None = None  # since when the LRMS has not listed it
        while True:
            row = next(reversed(self._rows(job)), None)
            if not asked and (row is None or row.state in _OVER):
                try:
                    self._have_begun(job, uid, row)
                    asked = True
                except UnknownError as error:
                    # To end now would make the job use up its tries while the LRMS is away.
                    now = time.monotonic()
                    missed = (missed or now) if isinstance(error, NotListedError) else None
                    if now > deadline or (missed and now - missed > _SURE):
                        raise
                    if str(error) != said:
                        said = str(error)
                        log.warning("its starter waits: %s", said, extra=_ids(job, ""))
                    yield {"state": State.REQUESTED, "waits": error.words(job)}
                    with self.works.news:
                        self.works.news.wait(_LOOK)
                continue
            if row is None:
                yield {"state": "failed", "message": _NONE, "retry": False}
                return
            if row.uid not in (None, uid):
                raise RejectedError(f"job {job} is not yours")
            if row.uid is not None:
                self.works.heard.note(job, pid)
            if row.state is State.FAILED:
                yield {"state": "failed", "message": row.reason, "retry": row.retry}
                return
            if row.uid is not None and row.state is State.READY:
                yield self._handover(row)
                return
            if time.monotonic() - told > _NEWS:
                told = time.monotonic()
                yield {"state": str(row.state), "waits": row.reason}
            with self.works.news:
                self.works.news.wait(_LOOK)

    def _have_begun(self, job: JobId, uid: int, last: Row | None) -> None:
        """Begin the machine of this run of the job, if it wants one, unless its last one is of
        this very run."""
        try:
            allocation = self.jobs.granted(job, uid)
        except UnknownError:
            if last is None:
                raise
            return
        if allocation.tag and (last is None or allocation.restart > last.restart):
            self.prepare(job, allocation.restart)

    def release(self, row: Row) -> None:
        """The job has ended: nothing of its machine is left when this returns.

        Raises WnodesError if that can't be done now; the next reconciliation goes on with it.
        """
        self.ledger.change(row.id, "ending", state=State.ENDING)
        self.works.let_go(row.id)
        self.builder.destroy(row.id)
        if self.config.machine.charge == "cgroup" and row.uid is not None:
            self.charging.clear(self.builder.node, row.uid, row.job)
        self.ledger.forget(row, "gone")
        log.info("gone", extra=_ids(row.job, row.id))
        self.works.tell()

    def end(self, row: Row) -> None:
        """End the machine, as an administrator asks; its job hears of it and is held."""
        self.works.let_go(row.id)
        self._fail(row, RejectedError("an administrator has destroyed the machine"))

    def carry_out(self, action: Action, row: Row) -> None:
        """Do what the plan says of a batch machine."""
        if action.act is Act.END:
            self.release(row)
        elif action.act is Act.LOST:
            self._fail(row, WnodesError("the machine has vanished from libvirt"))
        elif action.act is Act.EVICT:
            self._fail(row, WnodesError(self.drain.refusal() or action.why))
        elif action.act is Act.SWEEP:
            self.builder.destroy(row.id)
        elif action.act in (Act.PAUSE, Act.CONTINUE):
            pausing.follow(self.ledger, self.builder.hypervisor, action, row)
            self.works.tell()
        elif action.act is Act.WAKE:
            self.builder.hypervisor.resume(row.id)
        elif action.act is Act.ADOPT and row.state in (State.STARTING, State.BOOTING):
            self._work(row, self._adopt)
        elif action.act is Act.RESUME and row.state in MAKING:
            self._work(row, self._make_patiently)

    def stopped(self, row: Row, how: str) -> None:
        """The machine's domain has stopped; told late, it may be an earlier one."""
        runs = row.state in (State.READY, State.PAUSED)
        if runs and not self.builder.hypervisor.is_running(row.id):
            self._fail(row, WnodesError(f"{how}; {self._words(row)}"))

    def slept(self, row: Row) -> None:
        """The guest has put itself to sleep: its job waits for it, so it is woken."""
        if row.state is State.READY and self.builder.hypervisor.is_asleep(row.id):
            self.builder.hypervisor.resume(row.id)

    def _work(self, row: Row, task: Callable[[Row, Work], None]) -> None:
        self.works.start(
            row.id, row.job, lambda work: task(row, work), lambda error: self._fail(row, error)
        )

    def _make_patiently(self, row: Row, work: Work) -> None:
        """Make the machine; a source that is away is waited for, as long as a guest that boots.

        Then the job had better be requeued, and may run on another node.
        """
        deadline = time.monotonic() + self.config.machine.ready_timeout
        for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
            try:
                self._make(row, work)
                return
            except UnknownError as error:
                if time.monotonic() + pause > deadline:
                    raise
                log.warning("waits: %s", error, extra=_ids(row.job, row.id))
                told = error.words(row.job)
                self.ledger.change(row.id, f"waits: {told}", reason=told)
                if work.cancelled.wait(pause):
                    raise CancelledError("cancelled") from error

    def _make(self, row: Row, work: Work) -> None:
        allocation = ask_allocation(self.lrms, row.job, work.cancelled)
        if (allocation.job, allocation.restart) != (row.job, row.restart):
            raise RejectedError(f"the LRMS now runs restart {allocation.restart} of this job")
        if not allocation.tag:
            self.ledger.withdraw(row)  # a lease: its process speaks for itself
            return
        owner = owner_of(allocation.uid, allocation.gid)
        by = f", named by {allocation.by}" if allocation.by else ""
        # What a user has written is no tag before it has the form of one.
        tag = allocation.tag if TAG.fullmatch(allocation.tag) else ""
        what = f"allocation read: image {tag or 'that has no tag'}{by}"
        self.ledger.change(row.id, what, uid=owner.uid, tag=tag)
        image = catalogue.read(_catalogue(self.config), allocation.tag)
        groups = [name for name, _number in owner.groups]
        if not may_use(self.config.allow, image.tag, owner.name, groups, allocation.account):
            raise RejectedError(f"user {owner.name} may not use image {image.tag} at this site")
        memory = guest_memory(allocation, image, self.config.machine.memory_overhead)
        with self.works.news:  # two machines must not see the same address free
            address = free_address(
                self.config.network.subnet,
                {r.address for r in self.ledger.rows() if r.address and r.id != row.id},
            )
            building = self.ledger.change(
                row.id,
                f"building from {image.tag}: {allocation.cores} cores, {memory} MiB, {address}",
                state=State.BUILDING,
                cores=allocation.cores,
                memory=memory,
                address=str(address),
                digests=" ".join(part.sha256 for part in image.parts),
            )

        if building is None:
            return

        def step(what: str) -> None:
            log.info("%s", what, extra=_ids(row.job, row.id))
            self.ledger.record(row.job, row.id, what)

        def starting() -> None:
            work.check()
            if not self.ledger.change(row.id, "starting the domain", state=State.STARTING):
                raise CancelledError("cancelled")

        blueprint = Blueprint(row.id, allocation, owner, image, memory, address)
        self.builder.build(blueprint, work.steps(step), starting)
        work.check()
        self._adopt(row, work)
        metrics.BUILD.labels(row.kind).observe(time.monotonic() - work.began)

    def _adopt(self, row: Row, work: Work) -> None:
        """Its domain is there: go on from that."""
        booting = self.ledger.change(row.id, "booting", state=State.BOOTING, reason="")
        if booting:
            self._charge(booting)
            self._watch(booting, work)

    def _charge(self, row: Row) -> None:
        """Have the batch system count what QEMU uses as the job's. It runs without that, too."""
        pid = self.builder.hypervisor.pid(row.id)
        if self.config.machine.charge == "none" or pid is None or row.uid is None:
            return
        try:
            what = self.charging.adopt(pid, self.builder.node, row.uid, row.job, _STEP_PATIENCE)
        except WnodesError as error:
            what = f"not charged to its job: {error.words(row.job)}"
            log.warning("%s", what, extra=_ids(row.job, row.id))
        self.ledger.record(row.job, row.id, what)

    def _rows(self, job: str) -> list[Row]:
        return [row for row in self.ledger.rows(job) if row.kind is Kind.BATCH]

    def _watch(self, row: Row, work: Work) -> None:
        """Wait until the guest's SSH server answers."""
        deadline = time.monotonic() + self.config.machine.ready_timeout
        look = time.monotonic() + _LOOK
        while not _says_ssh(str(row.address)):
            if work.cancelled.wait(_POLL):
                raise CancelledError("cancelled")
            now = time.monotonic()
            if now > look:
                look = now + _LOOK
                if self._has_stopped(row):
                    raise WnodesError(f"the guest stopped while booting; {self._words(row)}")
            if now > deadline:
                raise WnodesError(
                    f"the guest did not answer on SSH within {self.config.machine.ready_timeout} s"
                    f"; {self._words(row)}"
                )
        self.ledger.change(row.id, "ready", state=State.READY)
        log.info("ready at %s", row.address, extra=_ids(row.job, row.id))

    def _has_stopped(self, row: Row) -> bool:
        """Whether its domain is gone; a libvirt that is away does not say so."""
        try:
            return not self.builder.hypervisor.is_running(row.id)
        except UnknownError:
            return False

    def _words(self, row: Row) -> str:
        return f"its console said: {self.builder.last_words(row.id)}"

    def _handover(self, row: Row) -> dict[str, Any]:
        image = catalogue.read(_catalogue(self.config), row.tag)
        where = paths(self.config, row.id)
        try:
            key, known_hosts = where.key.read_text(), where.known_hosts.read_text()
        except OSError as error:
            raise WnodesError(f"the machine's key is lost: {error}") from error
        return {
            "state": "ready",
            "machine": row.id,
            "image": row.tag,
            "address": row.address,
            "key": key,
            "known_hosts": known_hosts,
            "shares": list(self.config.share.directories if image.trusted else ()),
            "shutdown": self.drain.by(),
            "cores": row.cores,
            "memory": row.memory,
        }

    def _fail(self, row: Row, error: WnodesError) -> None:
        log.error("failed: %s", error, extra=_ids(row.job, row.id))
        reason = error.words(row.job)
        failed = self.ledger.change(
            row.id, f"failed: {reason}", state=State.FAILED, reason=reason, retry=error.retry
        )
        if failed is None:
            return  # its job has ended meanwhile, and so does all that it had
        try:
            self.builder.destroy(row.id)
        except WnodesError as left:
            log.warning("left for later: %s", left, extra=_ids(row.job, row.id))
        self.works.tell()


def _says_ssh(address: str) -> bool:
    """Whether an SSH server greets there. The connection is tried briefly and often."""
    try:
        with socket.create_connection((address, 22), timeout=_POLL * 2) as link:
            link.settimeout(5.0)
            return link.recv(4) == b"SSH-"
    except OSError:
        return False


def _catalogue(config: Config) -> Path:
    return Path(config.images.catalogue)


def _ids(job: str, machine: str) -> dict[str, str]:
    return {"job": job, "machine": machine}
