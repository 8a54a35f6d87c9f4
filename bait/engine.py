"""The engine: carries machines from a promise to their end, one thread a machine being made."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from bait.build import Blueprint, Builder, free_address, guest_memory, owner_of, paths
from bait.ledger import Ledger, Row
from bait.plan import Act, Action, Evidence, plan
from wnodes_lrms import catalogue
from wnodes_lrms.config import Config
from wnodes_lrms.errors import CancelledError, RejectedError, UnknownError, WnodesError
from wnodes_lrms.model import Allocation, State, machine_id
from wnodes_lrms.policy import may_use

_POLL = 0.05  # seconds between two looks at a booting guest
_LOOK = 1.0  # seconds between two looks at its domain
_NEWS = 5.0  # seconds after which a waiting starter hears that the bait lives
_END_PATIENCE = 8.0  # seconds that a release waits for a thread to let go of the machine
_GRACE = 60.0  # seconds, see plan.Evidence
_ASK_AGAIN = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)  # seconds between questions to an LRMS that is away

log = logging.getLogger(__name__)


class Lrms(Protocol):
    """What the engine asks the batch system. Both raise UnknownError if it does not answer."""

    def allocation(self, job: str) -> Allocation:
        """What the job was granted on this node."""

    def live_jobs(self) -> set[str]:
        """The jobs that hold an allocation on this node."""


class Work:
    """A thread that has a machine in hand, and the way to tell it to stop."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.thread: threading.Thread | None = None


class Engine:
    """All machines of one node. Its methods are called from many threads."""

    def __init__(self, config: Config, ledger: Ledger, lrms: Lrms, builder: Builder) -> None:
        self.config = config
        self.ledger = ledger
        self.lrms = lrms
        self.builder = builder
        self._works: dict[str, Work] = {}
        self._news = threading.Condition()
        builder.hypervisor.on_stop(self._stopped)

    def prepare(self, job: str, restart: int) -> None:
        """Begin a machine for the job; one that is begun already is success."""
        machine = machine_id(self.config.cluster, job, restart)
        row = Row(machine, job, restart, State.REQUESTED, time.time())
        if self.ledger.promise(row):
            self._work(row, self._make)

    def attach(self, job: str, uid: int) -> Iterator[dict[str, Any]]:
        """What a starter hears until its machine is ready or has failed.

        A job that no prolog announced (the bait was away) gets its machine now: all that counts
        is read from the LRMS. Raises RejectedError to anybody but the job's owner.
        """
        if not self.ledger.rows(job):
            allocation = self.lrms.allocation(job)
            if allocation.uid != uid:
                raise RejectedError(f"job {job} is not yours")
            self.prepare(job, allocation.restart)
        told = time.monotonic()
        while True:
            rows = self.ledger.rows(job)
            if not rows:
                yield {"state": "failed", "message": "the job has ended", "retry": False}
                return
            row = rows[-1]
            if row.uid not in (None, uid):
                raise RejectedError(f"job {job} is not yours")
            if row.state is State.FAILED:
                yield {"state": "failed", "message": row.reason, "retry": row.retry}
                return
            if row.uid is not None and row.state is State.READY:
                yield self._handover(row)
                return
            if time.monotonic() - told > _NEWS:
                told = time.monotonic()
                yield {"state": str(row.state)}
            with self._news:
                self._news.wait(_LOOK)

    def release(self, job: str) -> None:
        """End every machine of the job; when this returns nothing of them is left.

        Raises WnodesError if that can't be done now; the next reconciliation goes on with it.
        """
        for row in self.ledger.rows(job):
            self._end(row)

    def end(self, machine: str) -> None:
        """End one machine, as an administrator asks; its job hears of it and is held.

        Raises RejectedError if there is none.
        """
        row = self.ledger.get(machine)
        if row is None:
            raise RejectedError(f"no machine {machine} here")
        self._let_go(row)
        self._fail(row, RejectedError("an administrator has destroyed the machine"))

    def reconcile(self) -> list[Action]:
        """Compare ledger, libvirt and LRMS, and do what follows."""
        actions = plan(self._evidence())
        for action in actions:
            try:
                self._carry_out(action)
            except WnodesError as error:
                log.warning("%s: %s", action.act, error, extra=_ids(action.job, action.machine))
        return actions

    def _evidence(self) -> Evidence:
        def ask(question: Callable[[], Any]) -> Any:
            try:
                return question()
            except UnknownError as error:
                log.warning("no answer, so nothing follows: %s", error)
                return None

        # The LRMS first: a job that it grants in between has its row afterwards, never before.
        return Evidence(
            live_jobs=ask(self.lrms.live_jobs),
            domains=ask(self.builder.hypervisor.domains),
            rows=tuple(self.ledger.rows()),
            worked_on=frozenset(self._works),
            now=time.time(),
            grace=_GRACE,
        )

    def _carry_out(self, action: Action) -> None:
        log.info("%s: %s", action.act, action.why, extra=_ids(action.job, action.machine))
        row = self.ledger.get(action.machine)
        if action.act is Act.DESTROY:
            self.ledger.record(action.job, action.machine, f"destroyed: {action.why}")
            self.builder.destroy(action.machine)
        elif row is None:
            return
        elif action.act is Act.END:
            self._end(row)
        elif action.act is Act.LOST:
            self._fail(row, WnodesError("the machine has vanished from libvirt"))
        elif action.act is Act.ADOPT and row.state is State.BOOTING:
            self._work(row, self._watch)
        elif action.act is Act.RESUME and row.state in (State.REQUESTED, State.BUILDING):
            self._work(row, self._make)

    def _work(self, row: Row, task: Callable[[Row, Work], None]) -> None:
        work = Work()

        def body() -> None:
            try:
                task(row, work)
            except CancelledError:
                log.info("stopped: its job has ended", extra=_ids(row.job, row.id))
            except WnodesError as error:
                self._fail(row, error)
            except OSError as error:  # a full disk, mostly
                where = error.filename or "a file of the machine"
                self._fail(row, WnodesError(f"{where}: {error.strerror}"))
            except Exception:
                log.exception("internal fault", extra=_ids(row.job, row.id))
                self._fail(row, WnodesError("internal fault of the bait, see its log"))
            finally:
                self._works.pop(row.id, None)
                self._tell()

        work.thread = threading.Thread(target=body, name=f"job {row.job}", daemon=True)
        with self._news:
            if self._works.setdefault(row.id, work) is work:  # never two threads for one machine
                work.thread.start()

    def _make(self, row: Row, work: Work) -> None:
        allocation = self._ask_allocation(row.job, work)
        if (allocation.job, allocation.restart) != (row.job, row.restart):
            raise RejectedError(f"the LRMS now runs restart {allocation.restart} of this job")
        owner = owner_of(allocation.uid, allocation.gid)
        self.ledger.change(row.id, "allocation read", uid=owner.uid, tag=allocation.tag)
        image = catalogue.read(_catalogue(self.config), allocation.tag)
        groups = [name for name, _number in owner.groups]
        if not may_use(self.config.allow, image.tag, owner.name, groups, allocation.account):
            raise RejectedError(f"user {owner.name} may not use image {image.tag} at this site")
        memory = guest_memory(allocation, image, self.config.machine.memory_overhead)
        with self._news:  # two machines must not see the same address free
            address = free_address(
                self.config.network.subnet,
                {r.address for r in self.ledger.rows() if r.address and r.id != row.id},
            )
            self.ledger.change(
                row.id,
                f"building from {image.tag}: {allocation.cores} cores, {memory} MiB, {address}",
                state=State.BUILDING,
                cores=allocation.cores,
                memory=memory,
                address=str(address),
                digests=" ".join(part.sha256 for part in image.parts),
            )
        said = ""

        def step(what: str) -> None:
            nonlocal said
            if work.cancelled.is_set():
                raise CancelledError("cancelled")
            if what != said:
                said = what
                log.info("%s", what, extra=_ids(row.job, row.id))
                self.ledger.record(row.job, row.id, what)

        self.builder.build(Blueprint(row.id, allocation, owner, image, memory, address), step)
        if work.cancelled.is_set():
            raise CancelledError("cancelled")
        booting = self.ledger.change(row.id, "booting", state=State.BOOTING)
        if booting:
            self._watch(booting, work)

    def _ask_allocation(self, job: str, work: Work) -> Allocation:
        for pause in (*_ASK_AGAIN, None):
            try:
                return self.lrms.allocation(job)
            except UnknownError:
                if pause is None:
                    raise
                if work.cancelled.wait(pause):
                    break
        raise CancelledError("cancelled")

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
                if not self.builder.hypervisor.is_running(row.id):
                    raise WnodesError(f"the guest stopped while booting; {self._words(row)}")
            if now > deadline:
                raise WnodesError(
                    f"the guest did not answer on SSH within {self.config.machine.ready_timeout} s"
                    f"; {self._words(row)}"
                )
        self.ledger.change(row.id, "ready", state=State.READY)
        log.info("ready at %s", row.address, extra=_ids(row.job, row.id))

    def _words(self, row: Row) -> str:
        return f"its console said: {self.builder.last_words(row.id)}"

    def _handover(self, row: Row) -> dict[str, Any]:
        image = catalogue.read(_catalogue(self.config), row.tag)
        return {
            "state": "ready",
            "machine": row.id,
            "image": row.tag,
            "address": row.address,
            "folder": str(paths(self.config, row.id).handover),
            "shares": list(self.config.share.directories if image.trusted else ()),
        }

    def _fail(self, row: Row, error: WnodesError) -> None:
        log.error("failed: %s", error, extra=_ids(row.job, row.id))
        reason = str(error).replace("\n", "; ")
        self.ledger.change(
            row.id, f"failed: {reason}", state=State.FAILED, reason=reason, retry=error.retry
        )
        try:
            self.builder.destroy(row.id)
        except WnodesError as left:
            log.warning("left for later: %s", left, extra=_ids(row.job, row.id))
        self._tell()

    def _end(self, row: Row) -> None:
        self.ledger.change(row.id, "ending", state=State.ENDING)
        self._let_go(row)
        self.builder.destroy(row.id)
        self.ledger.forget(row, "gone")
        log.info("gone", extra=_ids(row.job, row.id))
        self._tell()

    def _let_go(self, row: Row) -> None:
        """Have the thread that makes the machine stop; UnknownError if it hangs."""
        with self._news:
            work = self._works.get(row.id)
        if work and work.thread:
            work.cancelled.set()
            work.thread.join(_END_PATIENCE)
            if work.thread.is_alive():
                raise UnknownError(f"machine {row.id} is still being made: libvirt hangs?")

    def _stopped(self, machine: str) -> None:
        try:
            row = self.ledger.get(machine)
            if row and row.state is State.READY:
                self._fail(row, WnodesError("the machine has stopped; " + self._words(row)))
        except WnodesError as error:  # the next reconciliation sees it too
            log.warning("stopped: %s", error, extra=_ids("", machine))

    def _tell(self) -> None:
        with self._news:
            self._news.notify_all()


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
