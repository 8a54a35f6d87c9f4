"""All VMs of a node: what concerns one of them goes to the controller of its kind.

Reconciliation gathers what ledger, libvirt, LRMS and kernel say, plans, and has the plan carried
out: each action in a thread of its own, so that one that hangs keeps no other waiting.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bait import metrics
from bait.hypervisor.domain import Domain
from bait.ledger.ledger import Ledger
from bait.ledger.records import Moved, Row
from bait.machine.files import paths
from bait.machine.tasks import Tasks
from bait.machine.vms import NodeVms
from bait.reconcile import markers, sparing
from bait.reconcile.doubts import Doubts, Line
from bait.reconcile.drain import Drain
from bait.reconcile.jobs import Jobs
from bait.reconcile.metering import Meter
from bait.reconcile.plan import Act, Action, Evidence, grounds, plan
from bait.reconcile.sources import Source
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import AbsentError, WnodesError
from wnodes_lrms.log import ids
from wnodes_lrms.lrms.systems import SYSTEMS
from wnodes_lrms.model import Kind, State

EVERY = 15.0  # seconds
_AT_ONCE = 5.0  # seconds that a reconciliation waits for its own actions
_HEARD = 45.0  # seconds: a starter speaks every 10, a lease job is heard every 15
_WEIGHED = (State.READY, State.STOPPING, State.HIBERNATING)
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

log = logging.getLogger(__name__)


class Controller(Protocol):
    """Controls one kind of VM. Every method raises WnodesError for what can't be done now."""

    def carry_out(self, action: Action, row: Row) -> None:
        """Do what the plan says."""

    def release(self, row: Row) -> None:
        """The VM's allocation is over: when this returns nothing of it runs."""

    def end(self, row: Row) -> None:
        """An administrator ends the VM; a cloud VM keeps its disk."""

    def stopped(self, row: Row, how: str) -> None:
        """The VM's domain has stopped, and the bait has not ended it; how, in words."""

    def panicked(self, row: Row) -> None:
        """The guest's kernel has panicked, or runs anew after that."""

    def slept(self, row: Row) -> None:
        """The guest has put itself to sleep, or has woken."""

    def stuck(self, row: Row) -> None:
        """The guest is held because there was no room for what it wrote, or goes on after that."""

    def let_go(self, row: Row) -> None:
        """The guest has let go of a device."""


@dataclass(frozen=True)
class _Node:
    """What the node itself has: libvirt's domains, None if it does not answer; the ledger's rows;
    the VMs with files here, and whether a user's disk is among them."""

    domains: dict[str, Domain] | None
    rows: tuple[Row, ...]
    folders: dict[str, bool]


class Reconciler:
    """The VMs of one node, of both kinds."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        jobs: Jobs,
        vms: NodeVms,
        tasks: Tasks,
        controllers: dict[Kind, Controller],
        drain: Drain,
    ) -> None:
        self.config = config
        self.ledger = ledger
        self.vms = vms
        self.tasks = tasks
        self.controllers = controllers
        self.drain = drain
        self.doubts = Doubts()
        self.meter = Meter(config, ledger, vms.hypervisor)
        self.notice = config.cloud.shutdown_time + EVERY
        self._jobs = Source("lrms", jobs.live)
        self._domains = Source("libvirt", vms.hypervisor.domains)
        self._looking = threading.Lock()  # one look at a time
        self._acting: dict[str, threading.Thread] = {}
        self._listed: Mapping[str, bool] | None = None  # what the LRMS said last
        self._listed_at = 0.0  # when, monotonic
        vms.hypervisor.on_stop(self.stopped)
        vms.hypervisor.on_panic(self.panicked)
        vms.hypervisor.on_flood(self.flooded)
        vms.hypervisor.on_sleep(self.slept)
        vms.hypervisor.on_stuck(self.stuck)
        vms.hypervisor.on_let_go(self.let_go)

    def heard(self) -> dict[str, float]:
        """When the batch system and libvirt answered last, seconds since the epoch; 0: never."""
        return {source.name: source.heard for source in (self._jobs, self._domains)}

    def release(self, job: str) -> Row | None:
        """End every VM of the job; when this returns nothing of them runs.

        The batch VM that had failed, if there was one: some LRMSs try its job again by that.
        Raises WnodesError if it can't be done now; the next reconciliation goes on with it.
        """
        self.tasks.calls.end(job)
        rows = self.ledger.rows(job)
        for row in rows:
            self.controllers[row.kind].release(row)
        failed = [row for row in rows if row.kind is Kind.BATCH and row.state is State.FAILED]
        return failed[-1] if failed else None

    def end(self, machine: str) -> None:
        """End one VM, as an administrator asks. Raises AbsentError if there is none."""
        row = self.ledger.get(machine)
        if row is None:
            raise AbsentError(f"no VM {machine} here")
        self.controllers[row.kind].end(row)

    def stopped(self, machine: str, how: str) -> None:
        """libvirt has told that a domain has stopped, and how, in words."""
        self._tell(machine, lambda controller, row: controller.stopped(row, how))

    def panicked(self, machine: str) -> None:
        """libvirt has told that a guest's kernel has panicked."""
        self._tell(machine, lambda controller, row: controller.panicked(row))

    def flooded(self, machine: str) -> None:
        """libvirt has told of a guest's crash again and again: it soon answers nobody any more, so
        the VM's process is ended without it. What becomes of the VM is decided as for any that
        has died."""
        processes = self.vms.hypervisor.processes
        if processes.of(machine) is None:
            return  # it has gone, or is another site's
        ended = "ended" if processes.kill(machine) else "its process does not end"
        row = self.ledger.get(machine)
        what = "its guest floods the node with crash events"
        log.error("%s: %s", what, ended, extra=ids(row.job if row else "", machine))

    def slept(self, machine: str) -> None:
        """libvirt has told that a guest has put itself to sleep, or has woken."""
        self._tell(machine, lambda controller, row: controller.slept(row))

    def stuck(self, machine: str) -> None:
        """libvirt has told that a guest is held because there was no room for what it wrote."""
        self._tell(machine, lambda controller, row: controller.stuck(row))

    def let_go(self, machine: str) -> None:
        """libvirt has told that a guest has let go of a device."""
        self._tell(machine, lambda controller, row: controller.let_go(row))

    def _tell(self, machine: str, tell: Callable[[Controller, Row], None]) -> None:
        try:
            row = self.ledger.get(machine)
            if row:
                tell(self.controllers[row.kind], row)
        except WnodesError as error:  # the next reconciliation sees it too
            log.warning("%s", error, extra=ids("", machine))

    def should_look(self) -> bool:
        """Whether the batch system seems to have suspended a job, or let one go on, since the last
        look."""
        return self.tasks.heard.speakers.contradict(self._listed or {})

    def look(self) -> list[Line]:
        """The plan as it is now, with what it rests on. Nothing is done."""
        with self._looking:
            return self._lines(self._evidence())

    def reconcile(self, *, sparing: bool = False) -> list[Line]:
        """Compare what the sources say, and do what follows; returns the plan.

        `sparing`: do not ask the batch system where its last answer will do.
        """
        with self._looking:
            evidence = self._evidence(sparing=sparing)
            lines = self._lines(evidence)
            self.doubts.remember(lines)
            due = [line.action for line in lines if not line.wait]
            threads = [self._begin(action) for action in due if action.act is not Act.REPORT]
        self.meter.tick(evidence.domains or ())
        deadline = time.monotonic() + _AT_ONCE
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return lines

    def _lines(self, evidence: Evidence) -> list[Line]:
        return [
            Line(
                action,
                self.doubts.wait(action, self.config.bait.grace),
                grounds(action.machine, action.job, evidence),
            )
            for action in plan(evidence)
        ]

    def _begin(self, action: Action) -> threading.Thread:
        thread = threading.Thread(target=self._carry_out, args=(action,), daemon=True)
        self._acting[action.machine] = thread
        thread.start()
        return thread

    def _carry_out(self, action: Action) -> None:
        try:
            row = self.ledger.get(action.machine)
            if action.act is Act.DESTROY and row is None:  # none has come meanwhile
                self.ledger.record(action.job, action.machine, f"destroyed: {action.why}")
                self.vms.remove(action.machine)
            elif row and action.act is not Act.DESTROY:
                if action.act is Act.LOST:
                    self.ledger.stop_clock(row.id, self._last_sign(row.id))
                self.controllers[row.kind].carry_out(action, row)
        except WnodesError as error:
            log.warning("%s: %s", action.act, error, extra=ids(action.job, action.machine))
        except Exception:
            log.exception("%s: internal fault", action.act, extra=ids(action.job, action.machine))

    def _evidence(self, *, sparing: bool = False) -> Evidence:
        node = self._node() if sparing else None
        if node is None or not self._last_listing_will_do(node):
            # The LRMS first: a job that it grants in between has its row afterwards, never before.
            self._listed_at, self._listed = time.monotonic(), self._jobs.look()
            node = self._node()
        speakers = self.tasks.heard.speakers
        speakers.keep({row.job for row in node.rows})
        self._acting = {id_: each for id_, each in self._acting.items() if each.is_alive()}
        return Evidence(
            live_jobs=self._listed,
            domains=node.domains,
            rows=node.rows,
            heard=self.tasks.heard.within(_HEARD),
            moving=speakers.moving(),
            processes=self.vms.hypervisor.processes.running(),
            folders=node.folders,
            worked_on=self.tasks.machines() | self._acting.keys(),
            now=time.time(),
            notice=self.notice,
            drain_by=self.drain.by(),
        )

    def _node(self) -> _Node:
        return _Node(self._domains.look(), tuple(self.ledger.rows()), self._folders())

    def _last_listing_will_do(self, node: _Node) -> bool:
        found = node.folders.keys() | (node.domains or {}).keys()
        return not self.should_look() and sparing.suffices(
            self._listed,
            time.monotonic() - self._listed_at,
            node.rows,
            found - {row.id for row in node.rows},
            self.tasks.heard.within(_HEARD),
        )

    def _folders(self) -> dict[str, bool]:
        """VMs that have files here, and whether these have a disk that a guest wrote on."""
        names: set[str] = set()
        for parent in (self.config.bait.state_dir, self.config.bait.run_dir):
            with suppress(FileNotFoundError):
                names.update(os.listdir(Path(parent, "machines")))  # noqa: PTH208 (names only)
        found = sorted(name for name in names if _ID.fullmatch(name))
        return {machine: paths(self.config, machine).ran.exists() for machine in found}

    def _last_sign(self, machine: str) -> float:
        """Seconds since the VM wrote on its disk or its console; 0 if it has neither."""
        where = paths(self.config, machine)
        written = [file.stat().st_mtime for file in (where.disk, where.console) if file.exists()]
        return max(0.0, time.time() - max(written)) if written else 0.0

    def moved(self, move: Moved) -> None:
        """A VM's state has changed: weigh it where the next tick may be too late."""
        metrics.moved(move)
        if folder := SYSTEMS[self.config.lrms].markers:
            markers.keep(folder(self.config), move)
        if move.kind is Kind.CLOUD and move.new in _WEIGHED:
            self.meter.weigh([move.machine])
