"""What batch and cloud VMs have in common: image, disk, kernel, domain, and their removal."""

import logging
import os
import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bait.hypervisor.domain import MARK
from bait.hypervisor.domains import Hypervisor
from bait.machine.files import Paths, paths
from bait.machine.hardware import SCRATCH_SERIAL, Hardware
from bait.machine.images import Cache
from bait.machine.room import need_room
from bait.machine.topology import Topology, read
from bait.machine.tuning import Tuning, tune
from bait.network.cards import Card, Taps
from bait.network.shaper import Shaper
from bait.network.surroundings import interfaces
from bait.privileges.ownership import let_read
from bait.privileges.sandbox import guestfs_user, onlooker
from wnodes_lrms.config.load import Config, Offer
from wnodes_lrms.errors import UnknownError, WnodesError
from wnodes_lrms.folders import PASSED, have
from wnodes_lrms.images.catalogue import Image
from wnodes_lrms.log import ids
from wnodes_lrms.resources import render, share_server
from wnodes_lrms.run import LOCAL, run

_CONSOLE_LINES = 3
_CONSOLE_END = 16384  # bytes in which they are looked for: a guest may write without end
_PORTS = 8  # free slots of a VM whose devices come and go

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NodeVms:
    """The VMs of a node: the steps by which those of both kinds are made, and taken away."""

    config: Config
    node: str
    kvm: bool
    hypervisor: Hypervisor
    cache: Cache
    admit: Callable[[], None]  # has the firewall know of a guest, by what the ledger has of it
    shaper: Shaper
    topology: Callable[[], Topology] = read  # of this machine, as it is at that moment
    interfaces: Callable[[], Collection[str]] = interfaces  # the same

    def fetch(self, image: Image, step: Callable[[str], None]) -> None:
        """Have all files of the image in the cache, its disk for those to read who need to."""
        self.cache.fetch(image, lambda: step(f"fetching image {image.tag}"))
        if image.context == "guestfs":
            guestfs_user()  # or who asks for it hears that there is none
        self.let_in(self.cache.path(image.disk))

    def let_in(self, disk: Path) -> None:
        """Let those read a disk of the cache who run VMs on it, or look at others that stand on it.

        Raises WnodesError.
        """
        readers = {self.hypervisor.qemu_user(), onlooker()}
        with suppress(WnodesError):
            readers.add(guestfs_user())
        if known := {uid for uid in readers if uid is not None and onlooker() is not None}:
            let_read(disk, known)

    def new_disk(self, image: Image, where: Paths, step: Callable[[str], None]) -> None:
        """Make the VM's folders, and in them an empty overlay on the image. Raises WnodesError."""
        step("making the disk")
        need_room(self.config, self.node)
        where.remove()
        have(where.disks, PASSED)
        have(where.runtime, PASSED)
        base = str(self.cache.path(image.disk))
        overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", image.format, "-b", base]
        run([*overlay, str(where.disk)], deadline=LOCAL)

    def copy_kernel(self, image: Image, where: Paths) -> None:
        """Copies of the image's kernel and of what that starts with, if it has any.

        Raises WnodesError if they can't be made.
        """
        for part, copy in ((image.kernel, where.kernel), (image.initrd, where.initrd)):
            if part is not None:
                try:
                    copy.unlink(missing_ok=True)  # of the last start, and maybe still open
                    copy.touch(mode=0o600)
                    shutil.copyfile(self.cache.path(part), copy)
                except OSError as error:
                    raise WnodesError(f"{copy}: {error.strerror}") from error

    def remove(self, machine: str) -> None:
        """End the VM and remove all it had; what is gone already is success.

        Raises WnodesError if something could not be removed or libvirt does not answer.
        """
        self.end(machine)
        paths(self.config, machine).remove()

    def plug_in(self, cards: Collection[Card], plug: Callable[[], None]) -> None:
        """Have these cards plugged in, by `plug`: the firewall knows them before, and they carry
        what they may. Raises WnodesError if that can't be had, and what `plug` raises."""
        here = self.interfaces()
        for card in cards:
            if card.bridge and card.bridge not in here:
                told = f"node {self.node} has lost the bridge of one of its networks"
                raise WnodesError(f"this node has no bridge {card.bridge}", told=told)
        self.admit()
        self.shaper.vet([card.tap for card in cards])
        plug()
        self.shaper.shape()

    def end(self, machine: str) -> None:
        """End the VM's domain; one that is gone is success. Raises WnodesError."""
        self.hypervisor.destroy(machine)
        self.shaper.sweep()

    def console_end(self, machine: str) -> str:
        """The end of the guest's serial console as it was written; "" where there is none."""
        try:
            with paths(self.config, machine).console.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _CONSOLE_END))
                return file.read(_CONSOLE_END).decode(errors="replace")
        except OSError:
            return ""

    def last_words(self, machine: str) -> str:
        """The end of the guest's serial console, in one line, for an error message."""
        text = self.console_end(machine)
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        printable = ("".join(c for c in line if c.isprintable()) for line in lines)
        return " | ".join(list(printable)[-_CONSOLE_LINES:]) or "nothing"

    @property
    def taps(self) -> Taps:
        """How this node calls its ends of the guests' cards."""
        return Taps.of(self.config.cluster, self.node)

    def offer(self, network: str) -> Offer:
        """The network of the site's of that name. Raises WnodesError if this node has it not."""
        for offer in self.config.cloud.network:
            if offer.name == network:
                return offer
        raise WnodesError(f"node {self.node} has no network {network}")

    def own_card(self, address: str) -> Card:
        """The card with this address on the node's own network."""
        guest = self.taps.own_card(address)
        return Card(guest.mac, guest.tap, network=self.config.network.name, alone=True)

    def start(
        self,
        where: Paths,
        hardware: Hardware,
        step: Callable[[str], None],
        begin: Callable[[str], None] | None = None,
    ) -> None:
        """Start the VM's domain, fitted to its cores. `begin` does it, given the XML.

        Huge pages that are free now may be somebody else's a moment later: a VM that does not
        start with them is started without, unless `step`, which is told so, raises to stop.
        Raises WnodesError.
        """
        begin = begin or self.hypervisor.create
        tuning = self.tuning(hardware)
        try:
            begin(self.domain(where, hardware, tuning))
        except UnknownError:
            raise
        except WnodesError as error:
            if tuning.page is None:
                raise
            log.info("with huge pages: %s", error, extra=ids(hardware.job, hardware.id))
            step("starting the domain without huge pages")
            begin(self.domain(where, hardware, replace(tuning, page=None)))

    def tuning(self, hardware: Hardware) -> Tuning:
        """How the VM is fitted to its cores, as the machine is at this moment."""
        return tune(self.topology(), hardware.cores, hardware.cpus, hardware.memory)

    def domain(self, where: Paths, hardware: Hardware, tuning: Tuning) -> str:
        """The domain's XML."""
        image = hardware.image
        return render(
            "domain.xml.j2",
            xml=True,
            mark=MARK,
            kvm=self.kvm,
            id=hardware.id,
            name=f"wnodes-{self.config.cluster}-{hardware.name}",
            cluster=self.config.cluster,
            node=self.node,
            job=hardware.job,
            restart=hardware.restart,
            image=image,
            cores=hardware.cores,
            memory=hardware.memory,
            tuning=tuning,
            kernel=image.kernel and where.kernel,
            initrd=image.initrd and where.initrd,
            disk=where.disk,
            base=self.cache.path(image.disk),
            seed=where.seed if hardware.seeded else None,
            scratch=hardware.scratch,
            scratch_serial=SCRATCH_SERIAL,
            console=where.console,
            nics=hardware.nics,
            volumes=hardware.volumes,
            limit=hardware.limit,
            shares=hardware.shares,
            virtiofsd=share_server(),
            kept=hardware.kept,
            ports=_PORTS + len(hardware.nics) + len(hardware.volumes) if hardware.kept else 0,
        )
