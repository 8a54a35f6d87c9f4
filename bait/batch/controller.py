"""The batch controller: carries a batch job's VM from a promise to its end."""

import logging
import threading
import time
from collections.abc import Callable

from bait.batch.boot import Boot
from bait.batch.preparation import Preparation
from bait.hypervisor.domain import PANICKED
from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.ledger.states import MAKING
from bait.machine.allocation import ask_allocation
from bait.machine.calls import Call
from bait.machine.tasks import Task, Tasks
from bait.machine.vms import NodeVms
from bait.reconcile import pausing
from bait.reconcile.drain import Drain
from bait.reconcile.jobs import Jobs
from bait.reconcile.plan import Act, Action
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import RejectedError, WnodesError
from wnodes_lrms.log import ids
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.lrms.systems import SYSTEMS
from wnodes_lrms.model import State, machine_id

log = logging.getLogger(__name__)


class BatchController:
    """The VMs of one node's batch jobs. Its methods are called from many threads."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        jobs: Jobs,
        vms: NodeVms,
        tasks: Tasks,
        drain: Drain,
    ) -> None:
        self.config = config
        self.charging = SYSTEMS[config.lrms].charging
        self.ledger = ledger
        self.jobs = jobs
        self.lrms = jobs.lrms
        self.vms = vms
        self.tasks = tasks
        self.drain = drain
        self.boot = Boot(config, ledger, jobs, vms)
        self.preparation = Preparation(config, ledger, jobs.lrms, vms, tasks, self.boot)

    def announce(self, job: JobId) -> None:
        """Begin a VM for a job whose LRMS does not tell its hook which run of the job it is.

        That is asked for, by a thread of its own: a hook does not wait.
        """
        threading.Thread(target=self._begin_announced, args=(job,), daemon=True).start()

    def _begin_announced(self, job: JobId) -> None:
        try:
            with self.tasks.calls.of(job) as call:
                granted = ask_allocation(self.lrms, job, threading.Event())
                if granted.tag:
                    self.begin(job, granted.restart, call)
        except WnodesError as error:  # its starter asks again, and tells the user
            log.warning("not prepared: %s", error, extra=ids(job))

    def prepare(self, job: JobId, restart: int) -> None:
        """Begin a VM for the job; one that is begun already is success.

        Raises WnodesError if the node is drained.
        """
        with self.tasks.calls.of(job) as call:
            self.begin(job, restart, call)

    def begin(self, job: JobId, restart: int, call: Call) -> None:
        """The same, for a call that came a while ago.

        Raises WnodesError if the node is drained, or the job has ended since the call came.
        """
        machine = machine_id(self.config.cluster, job, restart)
        if (refusal := self.drain.refusal()) and self.ledger.get(machine) is None:
            raise WnodesError(refusal)
        row = Row(machine, job, restart, State.REQUESTED, time.time())
        with self.tasks.calls.holding(call):
            promised = self.ledger.promise(row)
        if promised:
            self._start(row, self.preparation.make)

    def release(self, row: Row) -> None:
        """The job has ended: nothing of its VM is left when this returns.

        Raises WnodesError if that can't be done now; the next reconciliation goes on with it.
        """
        self.ledger.change(row.id, "ending", state=State.ENDING)
        self.tasks.stop(row.id)
        self.vms.remove(row.id)
        if self.config.machine.charge == "cgroup" and row.uid is not None:
            self.charging.clear(self.vms.node, row.uid, row.job)
        self.ledger.forget(row, "gone")
        log.info("gone", extra=ids(row.job, row.id))
        self.tasks.tell()

    def end(self, row: Row) -> None:
        """End the VM, as an administrator asks; its job hears of it and is held."""
        self.tasks.stop(row.id)
        self._fail(row, RejectedError("an administrator has destroyed the VM"))

    def carry_out(self, action: Action, row: Row) -> None:
        """Do what the plan says of a batch VM."""
        if action.act is Act.END:
            self.release(row)
        elif action.act is Act.LOST:
            self._fail(row, WnodesError("the VM has vanished from libvirt"))
        elif action.act is Act.PANIC:
            self.panicked(row)
        elif action.act is Act.EVICT:
            self._fail(row, WnodesError(self.drain.refusal() or action.why))
        elif action.act is Act.SWEEP:
            self.vms.remove(row.id)
        elif action.act is Act.PAUSE:
            self.boot.set_aside(row)
            pausing.follow(self.ledger, self.vms.hypervisor, action, row)
            self.tasks.tell()
        elif action.act is Act.CONTINUE:
            pausing.follow(self.ledger, self.vms.hypervisor, action, row)
            self.boot.put_back(row)
            self.tasks.tell()
        elif action.act is Act.WAKE:
            self.vms.hypervisor.resume(row.id)
            self.boot.put_back(row)
        elif action.act is Act.ADOPT and row.state in (State.STARTING, State.BOOTING):
            self._start(row, self.boot.watch)
        elif action.act is Act.RESUME and row.state in MAKING:
            self._start(row, self.preparation.make)

    def stopped(self, row: Row, how: str) -> None:
        """The VM's domain has stopped; told late, it may be an earlier one."""
        runs = row.state in (State.READY, State.PAUSED)
        if runs and not self.vms.hypervisor.is_running(row.id):
            self._fail(row, WnodesError(f"{how}; {self.boot.said(row)}"))

    def panicked(self, row: Row) -> None:
        """The guest's kernel has panicked: its job can't go on in it."""
        runs = row.state in (State.READY, State.PAUSED)
        if runs and self.vms.hypervisor.has_panicked(row.id):
            self._fail(row, WnodesError(f"{PANICKED}; {self.boot.said(row)}"))

    def slept(self, row: Row) -> None:
        """The guest has put itself to sleep: its job waits for it, so it is woken."""
        if row.state is State.READY and self.vms.hypervisor.is_asleep(row.id):
            self.vms.hypervisor.resume(row.id)

    def stuck(self, row: Row) -> None:
        """There was no room for what the guest wrote: the next look lets it try again."""

    def let_go(self, row: Row) -> None:
        """The guest has let go of a device: nobody has asked it to."""

    def _start(self, row: Row, do: Callable[[Row, Task], None]) -> None:
        self.tasks.start(
            row.id, row.job, lambda task: do(row, task), lambda error: self._fail(row, error)
        )

    def _fail(self, row: Row, error: WnodesError) -> None:
        log.error("failed: %s", error, extra=ids(row.job, row.id))
        reason = error.words(row.job)
        failed = self.ledger.change(
            row.id, f"failed: {reason}", state=State.FAILED, reason=reason, retry=error.retry
        )
        if failed is None:
            return  # its job has ended meanwhile, and so does all that it had
        try:
            self.vms.remove(row.id)
        except WnodesError as left:
            log.warning("left for later: %s", left, extra=ids(row.job, row.id))
        self.tasks.tell()
