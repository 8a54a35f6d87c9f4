"""What a job gets for a VM: from its allocation, by policy and image, to a guest that boots."""

import ipaddress
import logging
import time
from collections.abc import Collection
from itertools import chain, repeat
from pathlib import Path

from bait import metrics
from bait.batch.boot import Boot
from bait.batch.build import BatchBuilder
from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.machine.allocation import ask_allocation
from bait.machine.hardware import Blueprint, guest_memory
from bait.machine.owner import owner_of
from bait.machine.progress import Progress
from bait.machine.tasks import Task, Tasks
from bait.machine.vms import NodeVms
from bait.network.addresses import free_address, host_of, site_address
from bait.network.cards import guests
from bait.network.surroundings import surroundings
from wnodes_lrms.addresses import QUARANTINE
from wnodes_lrms.config.load import TAG, Config, Offer
from wnodes_lrms.errors import CancelledError, RejectedError, UnknownError
from wnodes_lrms.images import catalogue
from wnodes_lrms.images.catalogue import Image
from wnodes_lrms.log import ids
from wnodes_lrms.lrms.interface import Lrms
from wnodes_lrms.model import Allocation, Owner, State
from wnodes_lrms.policy import may_use
from wnodes_lrms.provision import provision

_PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds before a VM is tried again for want of an answer

log = logging.getLogger(__name__)


class Preparation:
    """Prepares the batch VMs of a node, each in a task: decides what each is, and has it built."""

    def __init__(
        self, config: Config, ledger: Ledger, lrms: Lrms, vms: NodeVms, tasks: Tasks, boot: Boot
    ) -> None:
        self.config = config
        self.ledger = ledger
        self.lrms = lrms
        self.builder = BatchBuilder(vms)
        self.tasks = tasks
        self.boot = boot

    def make(self, row: Row, task: Task) -> None:
        """Make the VM; a source that is away is waited for, as long as a guest that boots.

        Then the job had better be requeued, and may run on another node. Raises WnodesError if it
        can't be made, CancelledError if told to stop.
        """
        deadline = time.monotonic() + self.config.machine.ready_timeout
        for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
            try:
                self._make(row, task)
                return
            except UnknownError as error:
                if time.monotonic() + pause > deadline:
                    raise
                log.warning("waits: %s", error, extra=ids(row.job, row.id))
                told = error.words(row.job)
                self.ledger.change(row.id, f"waits: {told}", reason=told)
                if task.cancelled.wait(pause):
                    raise CancelledError("cancelled") from error

    def _make(self, row: Row, task: Task) -> None:
        allocation = ask_allocation(self.lrms, row.job, task.cancelled)
        if (allocation.job, allocation.restart) != (row.job, row.restart):
            raise RejectedError(f"the LRMS now runs restart {allocation.restart} of this job")
        if not allocation.tag:
            self.ledger.withdraw(row)  # a lease: its process speaks for itself
            return
        blueprint = self._blueprint(row, allocation)
        if blueprint is None:
            return
        progress = Progress(self.ledger, row, task)
        self.builder.build(blueprint, progress.step, progress.starting)
        task.check()
        self.boot.watch(row, task)
        metrics.BUILD.labels(row.kind).observe(time.monotonic() - task.began)

    def _blueprint(self, row: Row, allocation: Allocation) -> Blueprint | None:
        """What the VM will be, written down before it is built; None if it is not to be any more.

        Raises RejectedError if its user may not have it.
        """
        owner = owner_of(allocation.uid, allocation.gid)
        by = f", named by {allocation.by}" if allocation.by else ""
        # What a user has written is no tag before it has the form of one.
        tag = allocation.tag if TAG.fullmatch(allocation.tag) else ""
        what = f"allocation read: image {tag or 'that has no tag'}{by}"
        self.ledger.change(row.id, what, uid=owner.uid, tag=tag)
        image = self._image(allocation, owner)
        memory = guest_memory(allocation, image, self.config.machine.memory_overhead)
        given = provision(
            self.config.batch,
            image.tag,
            allocation.partition,
            allocation.account,
            allocation.scratch,
        )
        scratch = f", scratch disk of {given.scratch} GiB" if given.scratch else ""
        offer = self.builder.vms.offer(given.network) if given.network else None
        own = surroundings().addresses if offer and offer.subnet else ()
        with self.tasks.news:  # two VMs must not see the same address free
            address = self._free_address(row)
            site_address = self._site_address(row, offer, own) if offer else None
            host = host_of(offer, site_address)
            network = f", network {given.network}" if offer else ""
            network += f" as {site_address}" if site_address else ""
            building = self.ledger.change(
                row.id,
                f"building from {image.tag}: {allocation.cores} cores, {memory} MiB,"
                f" {address}{network}{scratch}",
                state=State.BUILDING,
                cores=allocation.cores,
                memory=memory,
                address=str(address),
                digests=" ".join(part.sha256 for part in image.parts),
                inbound=given.rates.inbound,
                outbound=given.rates.outbound,
                network=given.network,
                site_address=site_address,
                site_mac=host.mac if host else None,
            )
        if building is None:
            return None
        return Blueprint(
            row.id, allocation, owner, image, memory, address, given, site_address, host
        )

    def _image(self, allocation: Allocation, owner: Owner) -> Image:
        image = catalogue.read(Path(self.config.images.catalogue), allocation.tag)
        groups = [name for name, _number in owner.groups]
        if not may_use(self.config.allow, image.tag, owner.name, groups, allocation.account):
            raise RejectedError(f"user {owner.name} may not use image {image.tag} at this site")
        return image

    def _free_address(self, row: Row) -> ipaddress.IPv4Address:
        used = {r.address for r in self.ledger.rows() if r.address and r.id != row.id}
        return free_address(self.config.network.subnet, used)

    def _site_address(self, row: Row, offer: Offer, own: Collection[str]) -> str | None:
        """The VM's address there, of those that this node has to give; `own` are the node's.

        Raises as network.addresses.site_address.
        """
        rows = {each.id: each for each in self.ledger.rows()}
        now = rows.pop(row.id, row)
        if now.network == offer.name and now.site_address:
            return now.site_address  # it is tried once more
        others = guests(rows.values(), self.builder.vms.taps)
        taken = {guest.address for guest in others}
        # A MAC that the site has registered for another address meanwhile is still its VM's.
        macs = {guest.mac for guest in others}
        taken |= {str(host.address) for host in offer.host if host.mac in macs}
        taken |= self.ledger.returned(offer.name, time.time() - QUARANTINE)
        found = site_address(offer, self.builder.vms.node, {*filter(None, taken), *own})
        return str(found) if found else None
