"""Watching a batch VM boot, from its domain's start until its SSH server answers."""

import logging
import time
from contextlib import closing, suppress

from bait.batch.greeting import Greeting
from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.machine.tasks import Task
from bait.machine.vms import NodeVms
from bait.reconcile.jobs import Jobs
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import CancelledError, ConflictError, UnknownError, WnodesError
from wnodes_lrms.log import ids
from wnodes_lrms.lrms.systems import SYSTEMS
from wnodes_lrms.model import State

_POLL = 0.05  # seconds between two looks at a booting guest
_LISTEN = 0.1  # seconds that one of them takes at most
_LOOK = 1.0  # seconds between two looks at its domain
_STEP_PATIENCE = 5.0  # seconds for the LRMS to make the job's control groups
_STILL = "the batch system has suspended its job: it boots on when that goes on"

log = logging.getLogger(__name__)


class Boot:
    """Watches the batch VMs of a node boot, each in a task."""

    def __init__(self, config: Config, ledger: Ledger, jobs: Jobs, vms: NodeVms) -> None:
        self.config = config
        self.charging = SYSTEMS[config.lrms].charging
        self.ledger = ledger
        self.jobs = jobs
        self.vms = vms

    def watch(self, row: Row, task: Task) -> None:
        """Its domain is there, held before its first step: go on from that until the VM is ready.

        Raises WnodesError if it does not boot, or not in time, CancelledError if told to stop.
        """
        booting = self.ledger.change(row.id, "booting", state=State.BOOTING, reason="")
        if booting:
            self._wait(booting, task)
            self.ledger.change(row.id, "ready", state=State.READY)
            log.info("ready at %s", booting.address, extra=ids(row.job, row.id))

    def said(self, row: Row) -> str:
        """What the guest said last, for a message."""
        return f"its console said: {self.vms.last_words(row.id)}"

    def _charge(self, row: Row) -> None:
        """Have the batch system count what QEMU uses as the job's. It runs without that, too.

        Memory is charged where it is touched first: so the guest has not run yet. Done again, it is
        written down only if it is news.
        """
        failed = False
        try:
            what = self._adopt(row, _STEP_PATIENCE)
        except WnodesError as error:
            failed, what = True, _not_charged(row, error)
        if what and all(event.what != what for event in self.ledger.events(row.id)):
            self.ledger.record(row.job, row.id, what)
            if failed:
                log.warning("%s", what, extra=ids(row.job, row.id))

    def _adopt(self, row: Row, patience: float) -> str | None:
        """Have QEMU charged to the job; what was done, in words. None: it is not to be charged.

        Raises WnodesError.
        """
        pid = self._charged(row)
        if pid is None or row.uid is None:
            return None
        return self.charging.adopt(pid, self.vms.node, row.uid, row.job, patience)

    def set_aside(self, row: Row) -> None:
        """Keep QEMU from being frozen with its job, which is suspended. Raises WnodesError."""
        if (pid := self._charged(row)) is not None:
            self.charging.set_aside(pid, self.vms.node, row.job)

    def put_back(self, row: Row) -> None:
        """Have QEMU charged to the job again, which goes on."""
        try:
            self._adopt(row, 0.0)
        except WnodesError as error:
            log.warning("%s", _not_charged(row, error), extra=ids(row.job, row.id))

    def _charged(self, row: Row) -> int | None:
        """The process that is to be charged to the job; None if there is none."""
        if self.config.machine.charge == "none":
            return None
        return self.vms.hypervisor.pid(row.id)

    def _wait(self, row: Row, task: Task) -> None:
        """Until it is ready. While its job is suspended it stands still, and no time counts: then
        it has all of its time anew, for nobody knows for how long it stood still unseen."""
        with closing(Greeting(str(row.address))) as greeting:
            self._listen(row, task, greeting)

    def _listen(self, row: Row, task: Task, greeting: Greeting) -> None:
        timeout = self.config.machine.ready_timeout
        runs = self._follow(row, None)
        deadline = time.monotonic() + timeout
        look = time.monotonic() + _LOOK
        while runs is False or not greeting.heard(_LISTEN):
            if task.cancelled.wait(0 if greeting.waits and runs else _POLL):
                raise CancelledError("cancelled")
            now = time.monotonic()
            if now > look:
                look = now + _LOOK
                if self._has_stopped(row):
                    raise WnodesError(f"the guest stopped while booting; {self.said(row)}")
                was, runs = runs, self._follow(row, runs)
                if was is False or runs is False:
                    deadline = time.monotonic() + timeout
            if now > deadline and not self._is_suspended(row):
                late = f"the guest did not answer on SSH within {timeout} s"
                raise WnodesError(f"{late}; {self.said(row)}")

    def _follow(self, row: Row, runs: bool | None) -> bool | None:
        """Have it run, or stand still, as its job does; which of both it does now.

        None: libvirt did not answer, so that is not known, and is to be tried again.
        """
        wanted = not self.jobs.suspended(row.job)
        if runs is None and not wanted:  # maybe that was said of an earlier run of the job
            wanted = not self._is_suspended(row)
        if wanted is runs:
            return runs
        try:
            with suppress(ConflictError):  # it has stopped, which the next look tells
                if wanted:
                    self._run(row)
                else:
                    self._hold(row)
        except WnodesError as error:
            if wanted and not isinstance(error, UnknownError):
                raise
            self._note(row, error.words(row.job), f"waits: {error}")
            return None
        return wanted

    def _run(self, row: Row) -> None:
        self._charge(row)
        self.vms.hypervisor.resume(row.id)
        self._note(row, "", "boots on")

    def _hold(self, row: Row) -> None:
        """Nothing is charged: who is put into the groups of a suspended job is frozen with it."""
        self.set_aside(row)
        self.vms.hypervisor.suspend(row.id)
        self._note(row, _STILL, f"stands still: {_STILL}")

    def _note(self, row: Row, reason: str, what: str) -> None:
        """Say why it does not boot, "" if it does: once, where that is news."""
        now = self.ledger.get(row.id)
        if now and now.state is State.BOOTING and now.reason != reason:
            self.ledger.change(row.id, what, reason=reason)
            log.info("%s", what, extra=ids(row.job, row.id))

    def _is_suspended(self, row: Row) -> bool:
        """Whether its job is, by a new answer of the batch system; its last, if it is away."""
        with suppress(UnknownError):
            self.jobs.live()
        return self.jobs.suspended(row.job)

    def _has_stopped(self, row: Row) -> bool:
        """Whether its domain is gone; a libvirt that is away does not say so."""
        try:
            return not self.vms.hypervisor.is_running(row.id)
        except UnknownError:
            return False


def _not_charged(row: Row, error: WnodesError) -> str:
    return f"not charged to its job: {error.words(row.job)}"
