"""The cloud controller: carries a cloud user's VM from a signed order to its end.

A VM runs inside the allocation of its lease. Without one it is at rest: its disk is kept,
and a new order for it is taken here.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from bait.cloud.attachments import Attachments
from bait.cloud.build import CloudBuilder
from bait.cloud.copies import Copies
from bait.cloud.devices import Orders
from bait.cloud.freezing import Freezer
from bait.cloud.guest_events import GuestEvents
from bait.cloud.isolated import IsolatedNetworks
from bait.cloud.lease_jobs import LeaseJobs
from bait.cloud.lifecycle import Lifecycle
from bait.cloud.nics import Nics
from bait.cloud.power import Power
from bait.cloud.restarts import Restarts
from bait.cloud.saving import Saver
from bait.cloud.shown import shown, usages_shown
from bait.hypervisor.consoles import ConsoleThread, Listener
from bait.hypervisor.domain import FULL
from bait.hypervisor.events import UNSEEN
from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.machine.tasks import Tasks
from bait.machine.vms import NodeVms
from bait.network.cards import guests
from bait.reconcile import pausing
from bait.reconcile.drain import Drain
from bait.reconcile.jobs import Jobs
from bait.reconcile.plan import Act, Action
from bait.volumes.pool import Pool
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import AbsentError, ConflictError
from wnodes_lrms.model import Kind, State
from wnodes_lrms.order import Nic, Order
from wnodes_lrms.rates import Flows


class CloudController:
    """The cloud VMs of one node. Its methods are called from many threads."""

    def __init__(
        self,
        config: Config,
        node: str,
        ledger: Ledger,
        jobs: Jobs,
        vms: NodeVms,
        tasks: Tasks,
        volumes: Pool,
        drain: Drain,
    ) -> None:
        self.config = config
        self.node = node
        self.ledger = ledger
        self.lrms = jobs.lrms
        self.builder = CloudBuilder(vms)
        orders = Orders(ledger, tasks)
        self.attachments = Attachments(ledger, self.builder, tasks, volumes, orders)
        self.nics = Nics(ledger, self.builder, tasks, orders)
        self.freezer = Freezer(ledger, vms.hypervisor)
        self.copies = Copies(ledger, self.builder, tasks, volumes, self.freezer)
        self.saver = Saver(config, ledger, self.builder, self.freezer)
        patience = config.cloud.shutdown_time
        self.restarts = Restarts(ledger, vms.hypervisor, tasks, patience)
        self.isolated = IsolatedNetworks(ledger, vms.hypervisor)
        parts = self.builder, tasks, self.attachments, self.nics, self.saver, self.restarts
        self.lifecycle = Lifecycle(config, ledger, jobs.lrms, *parts, self.isolated)
        self.power = Power(ledger, self.builder, self.lifecycle)
        self.guest_events = GuestEvents(ledger, vms.hypervisor, tasks, self.lifecycle)
        self.tasks = tasks
        self.volumes = volumes
        self.drain = drain
        self.jobs = LeaseJobs(config, node, ledger, jobs, tasks, drain, self.lifecycle, self.nics)

    # What the bridge asks, beside the lease jobs

    def news(self, since: str, seconds: float) -> str:
        """A word that changes whenever something does; told once it is another than `since`, or
        after so many seconds."""
        return self.tasks.changed(since, seconds)

    def wake(self) -> None:
        """Answer all who listen for news."""
        self.tasks.tell()

    def machines(self) -> list[dict[str, Any]]:
        """All cloud VMs here, as the API shows them."""
        return [self._shown(row) for row in self.ledger.rows() if row.kind is Kind.CLOUD]

    def machine(self, machine: str) -> dict[str, Any]:
        """One of them. Raises AbsentError."""
        return self._shown(self._row(machine))

    def console(self, machine: str) -> str:
        """The end of what it wrote on its serial console. Raises AbsentError."""
        return self.builder.vms.console_end(self._row(machine).id)

    def console_of(self, machine: str, owner: str) -> Callable[[Listener], ConsoleThread]:
        """How its serial console is opened, to type into. Raises AbsentError, too, where the VM is
        not this owner's (a DN, as orders have it)."""
        row = self._row(machine)
        if not row.spec or Order.model_validate_json(row.spec).dn != owner:
            raise AbsentError(f"no VM {machine} of theirs here")
        return partial(self.builder.vms.hypervisor.console, row.id)

    def outcomes(self) -> list[dict[str, Any]]:
        """How the last leases ended here."""
        return [
            {"lease": lease.id, "machine": lease.machine, "job": lease.job, "reason": lease.reason}
            for lease in self.ledger.ended_leases(200)
        ]

    def draining(self) -> dict[str, Any] | None:
        """That this node is drained; None if it is not."""
        return self.drain.told()

    def usages(self, since: float) -> list[dict[str, Any]]:
        """What cloud VMs had of this node in leases that are open or ended since (epoch); of very
        many the newest."""
        return usages_shown(self.ledger.usages(Kind.CLOUD, since))

    def census(self) -> Counter[tuple[str, str]]:
        """How many VMs of each kind and state this node has."""
        return Counter((str(row.kind), str(row.state)) for row in self.ledger.rows())

    def flows(self) -> dict[tuple[str, str], Flows]:
        """What each limited card of this node carries, by its VM and its tap."""
        vms = self.builder.vms
        found = vms.shaper.flows()
        return {
            (row.id, guest.tap): found[guest.tap]
            for row in self.ledger.rows()
            for guest in guests([row], vms.taps)
            if guest.tap in found
        }

    def where(self, job: str) -> str | None:
        """The node on which the batch system runs a job; empty if it runs on none, or on several.
        None if the batch system says that it has no such job any more.

        Raises RejectedError for what is no job id, UnknownError if it does not answer.
        """
        return self.lrms.where(self.lrms.job_id(job))

    def ping(self) -> None:
        """Ask libvirt something. Raises UnknownError if it does not answer."""
        self.builder.vms.hypervisor.version()

    def stop(self, machine: str, method: str) -> None:
        """Shut the VM down, or end it at once (poweroff); its lease is freed."""
        self.lifecycle.halt(self._row(machine), method != "poweroff", "its user has stopped it")

    def restart(self, machine: str, method: str) -> None:
        """Start it anew: by its own shutdown, as by a reset button (warm), as a new one (cold)."""
        self.power.restart(self._running(machine), method)

    def suspend(self, machine: str, method: str) -> None:
        """Hold it in its lease, or write its memory down and free the lease (hibernate)."""
        self.power.suspend(self._row(machine), method)

    def resume(self, machine: str) -> None:
        """Let a VM that is held in its lease, or sleeps, go on."""
        self.power.resume(self._row(machine))

    def delete(self, machine: str) -> None:
        """Its user deletes it: end it and remove its disk. Raises AbsentError if it is not here."""
        row = self._row(machine)
        self.ledger.change(row.id, "ending", state=State.ENDING)
        self.lifecycle.start_now(row, self.lifecycle.remove)

    def have_volume(self, volume: str, size: int) -> None:
        """Have a volume of `size` GiB: made, or grown, also for a guest that has it."""
        self.attachments.have_volume(volume, size)

    def copy_volume(self, source: str, volume: str) -> dict[str, Any]:
        """Have a volume that is a copy of another: begin, or tell how far it is."""
        return self.copies.copy(source, volume)

    def delete_volume(self, volume: str) -> None:
        """Remove a volume; one that is gone is success. Raises ConflictError while a VM has it."""
        self.attachments.delete_volume(volume)

    def attach_volume(self, machine: str, volume: str, readonly: bool = False) -> str:
        """Plug a volume in; the device that the guest sees."""
        return self.attachments.attach_volume(self._running(machine), volume, readonly)

    def detach_volume(self, machine: str, volume: str) -> None:
        """Take a volume out; one that is not in is success."""
        self.attachments.detach_volume(self._row(machine), volume)

    def attach_nic(self, machine: str, nic: Nic) -> dict[str, Any]:
        """Plug a card in; its addresses."""
        return self.nics.attach_nic(self._running(machine), nic)

    def detach_nic(self, machine: str, card: str) -> None:
        """Take a card out; one that is not in is success."""
        self.nics.detach_nic(self._row(machine), card)
        self.isolated.drop_soon()

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
        """Do what the plan says of a cloud VM."""
        if action.act is Act.END:
            self.lifecycle.start(row, self.lifecycle.remove)
        elif action.act is Act.RESUME:
            self.lifecycle.start(row, self.lifecycle.make)
        elif action.act is Act.HIBERNATE:
            self.lifecycle.start(row, self.lifecycle.hibernate)
        elif action.act is Act.LOST:
            self.guest_events.stopped(row, UNSEEN)
        elif action.act is Act.SHUT_DOWN:
            self.lifecycle.halt(row, True, row.reason or action.why)
        elif action.act is Act.HALT:
            self.lifecycle.halt(row, False, row.reason or "its lease is over")
        elif action.act is Act.SWEEP:
            self.builder.rest(row.id)
        elif action.act is Act.PANIC:
            self.guest_events.panicked(row)
        elif action.act is Act.FULL:
            self.guest_events.stuck(row)
        elif action.act is Act.WAKE and row.reason == FULL and not self.attachments.has_room(row):
            pass  # it would stand still again at once
        elif action.act is Act.FOLLOW:
            self.guest_events.slept(row)
        elif action.act in (Act.PAUSE, Act.CONTINUE):
            pausing.follow(self.ledger, self.builder.vms.hypervisor, action, row)
            self.tasks.tell()
        elif action.act is Act.WAKE and row.state is State.READY:
            self.builder.vms.hypervisor.resume(row.id)
        elif action.act is Act.HOLD and row.state is State.SUSPENDED:
            self.builder.vms.hypervisor.suspend(row.id)

    def release(self, row: Row) -> None:
        """The lease job has ended: its VM does not run any more when this returns."""
        if not self.lifecycle.end_now(row, "its lease has ended"):
            now = self.ledger.get(row.id)
            if now and now.state is State.ENDING:
                self.builder.vms.remove(row.id)

    def end(self, row: Row) -> None:
        """An administrator ends the VM; its disk is kept."""
        self.lifecycle.end_now(row, "an administrator has ended the VM")

    def stopped(self, row: Row, how: str) -> None:
        """The VM's domain has stopped."""
        self.guest_events.stopped(row, how)

    def panicked(self, row: Row) -> None:
        """The guest's kernel has panicked, or runs anew after that."""
        self.guest_events.panicked(row)

    def stuck(self, row: Row) -> None:
        """The guest is held because there was no room for what it wrote, or goes on after that."""
        self.guest_events.stuck(row)

    def slept(self, row: Row) -> None:
        """The guest has put itself to sleep, or woken."""
        self.guest_events.slept(row)

    def let_go(self, row: Row) -> None:
        """The guest has let go of a device."""
        self.attachments.let_go(row)

    def _shown(self, row: Row) -> dict[str, Any]:
        return shown(row, self.node, self.nics.shown(row), self.attachments.shown(row))

    def _row(self, machine: str) -> Row:
        row = self.ledger.get(machine)
        if row is None or row.kind is not Kind.CLOUD:
            raise AbsentError(f"no VM {machine} here")
        return row

    def _running(self, machine: str) -> Row:
        row = self._row(machine)
        if row.state is not State.READY:
            raise ConflictError(f"the VM is {row.state}, not running")
        return row
