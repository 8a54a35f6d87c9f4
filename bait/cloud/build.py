"""Building a cloud VM: a disk that outlives its domain, and what its user wants in it."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from bait.cloud import disks
from bait.cloud import seed as cloudseed
from bait.cloud.freezing import Moment
from bait.cloud.offers import offered
from bait.hypervisor.operations import IsIt
from bait.machine import seed
from bait.machine.files import Paths, paths
from bait.machine.hardware import DiskLimit, Drive, Hardware
from bait.machine.vms import NodeVms
from bait.network.addresses import ipv6_of
from bait.network.cards import Card, site_card
from bait.network.surroundings import TunnelEnd, tunnel_end
from wnodes_lrms.errors import UnknownError, WnodesError
from wnodes_lrms.folders import PASSED, have
from wnodes_lrms.images.catalogue import Image
from wnodes_lrms.order import Nic, Order
from wnodes_lrms.resources import render


@dataclass(frozen=True)
class Plan:
    """All that decides what a cloud VM will be."""

    order: Order
    job: str
    cpus: tuple[int, ...]
    image: Image
    address: str | None  # on the node's own network
    volumes: tuple[Drive, ...]

    @property
    def id(self) -> str:
        """The VM."""
        return str(self.order.machine)


@dataclass(frozen=True)
class CloudBuilder:
    """Makes the cloud VMs of a node."""

    vms: NodeVms

    def paths(self, machine: str) -> Paths:
        """The files of the VM with this id."""
        return paths(self.vms.config, machine)

    def build(
        self, machine: Plan, step: Callable[[str], None], starting: Callable[[], None]
    ) -> None:
        """Start the VM, on the disk that it has or on a new one.

        On any error a new disk is gone again, an old one as it was. `step` is told what comes
        next, `starting` is called just before libvirt is asked for the domain; both may raise to
        stop. Raises WnodesError.
        """
        image, where = machine.image, self.paths(machine.id)
        with ExitStack() as undo:
            self.rest(machine.id)
            self.vms.fetch(image, step)
            old = where.ran.exists()
            # A disk goes only once its domain has: remove() sees to that.
            undo.callback(self.rest if old else self.vms.remove, machine.id)
            if not old:
                self.vms.new_disk(image, where, step)
            if machine.order.disk and not where.memory.exists():
                disks.grow(self.vms, where.disk, machine.order.disk)
            if not old and image.context == "guestfs":
                step("writing keys and data into the disk, by libguestfs")
                disks.inject(self.vms, machine.order, where)
            have(where.runtime, PASSED)
            self.vms.copy_kernel(image, where)
            if image.context != "guestfs":
                step("making the seed")
                self._seed(machine, where)
            hardware = self._hardware(machine)
            starting()
            self.vms.plug_in(hardware.nics, lambda: self._start(where, hardware, step))
            undo.pop_all()

    def _start(self, where: Paths, hardware: Hardware, step: Callable[[str], None]) -> None:
        where.ran.touch()
        if where.memory.exists():
            self.vms.start(where, hardware, step, lambda xml: self._wake(xml, where.memory))
        else:
            _used(where.memory).unlink(missing_ok=True)
            self.vms.start(where, hardware, step)

    def begun(self, machine: str, job: str) -> bool:
        """Whether the VM's domain runs already, in the allocation of this job."""
        domain = self.vms.hypervisor.domains().get(machine)
        if domain is None or domain.job != job:
            return False
        _used(self.paths(machine).memory).unlink(missing_ok=True)
        return True

    def rest(self, machine: str) -> None:
        """End the domain, and remove all but its disk and memory; success if that is done."""
        self.vms.end(machine)
        self.paths(machine).clear()

    def card(self, nic: Nic, address: str | None) -> Card:
        """The card on its network, which is made if it is an isolated one that is not there.

        Raises RejectedError if the node does not offer the network.
        """
        if nic.kind == "nat":
            if address is None:
                raise WnodesError(f"card {nic.id} has no address on the node's network")
            return self.vms.own_card(address)
        guest = self.vms.taps.other_card(nic)
        if nic.kind == "bridge":
            offer = offered(nic, self.vms.config.cloud.network)
            return site_card(guest, offer)
        network, end = self.vms.hypervisor.have_isolated(nic.network), self.tunnel_end()
        return Card(nic.mac, guest.tap, network=network, mtu=end.mtu if end else None)

    def disk_limit(self) -> DiskLimit:
        """What the site allows of each disk."""
        cloud = self.vms.config.cloud
        return DiskLimit(cloud.disk_rate << 20, cloud.disk_iops)

    def tunnel_end(self) -> TunnelEnd | None:
        """Where private networks leave this node for others; None if they don't."""
        network = self.vms.config.network.tunnels
        return tunnel_end(network) if network else None

    def plug(self, machine: str, device: Card | Drive) -> None:
        """Plug a card or a volume into the running VM; one that is in is success."""
        if isinstance(device, Card):
            self.vms.plug_in(
                [device],
                lambda: self.vms.hypervisor.attach(machine, _xml(device), _is(device)),
            )
        else:
            self.vms.hypervisor.attach(machine, _xml(device), _is(device))

    def unplug(self, machine: str, device: Card | Drive) -> None:
        """Ask the guest to let go of it. Raises ConflictError as long as it has not."""
        self.vms.hypervisor.detach(machine, _xml(device), _is(device))
        self.vms.shaper.sweep()

    def grow(self, machine: str, volume: Drive, size: int) -> None:
        """Have the guest see that a volume of its has `size` GiB; never fewer than it has."""
        self.vms.hypervisor.grow(machine, volume.device, size)

    def copy(self, volume: Drive, target: Path, moment: Moment) -> None:
        """Copy a volume of the running VM, as it is at this moment, into a file as large."""
        self.vms.hypervisor.backup(moment.machine, _is(volume), target, "raw", moment)

    def has(self, machine: str, device: Card | Drive) -> bool:
        """Whether the running VM has it."""
        return self.vms.hypervisor.has(machine, _is(device))

    def _wake(self, xml: str, memory: Path) -> None:
        """Let the VM go on from its memory, which is good once: then the disk changes.

        If nobody can tell whether it went on, it starts without the memory the next time.
        """
        used = memory.replace(_used(memory))
        try:
            self.vms.hypervisor.restore(xml, used)
        except UnknownError:
            raise
        except WnodesError:
            used.replace(memory)
            raise
        used.unlink()

    def _hardware(self, machine: Plan) -> Hardware:
        order = machine.order
        return Hardware(
            id=machine.id,
            name=machine.id,
            job=machine.job,
            restart=0,
            image=machine.image,
            cores=order.cores,
            memory=order.memory,
            cpus=machine.cpus,
            nics=tuple(self.card(nic, machine.address) for nic in order.nics),
            volumes=machine.volumes,
            limit=self.disk_limit(),
            seeded=machine.image.context != "guestfs",
            kept=True,
        )

    def _seed(self, machine: Plan, where: Paths) -> None:
        order = machine.order
        guest = cloudseed.CloudGuest(
            id=machine.id,
            hostname=order.hostname,
            ssh_keys=order.ssh_keys,
            user_data=order.user_data,
            interfaces=tuple(self.told(nic, machine.address) for nic in order.nics),
            host_key=seed.key_pair(),
        )
        seed.write(where.seed, cloudseed.files(guest, machine.image.context))

    def told(self, nic: Nic, own: str | None) -> seed.Interface:
        """The card as its guest is told of it; `own` is its address on the node's own network."""
        card, subnet = self.card(nic, own), self.vms.config.network.subnet
        if nic.kind == "nat":
            return seed.Interface(card.mac, f"{own}/{subnet.prefixlen}", str(subnet[1]))
        address6, gateway6 = nic.address6, None
        if nic.kind == "bridge":
            address6, gateway6 = ipv6_of(nic.mac, offered(nic, self.vms.config.cloud.network))
        return seed.Interface(
            card.mac,
            nic.address,
            nic.gateway if nic.address else None,
            address6,
            gateway6,
            # In a private network nobody answers: who has IPv6 there does not wait for it.
            dhcp=nic.address is None and (nic.kind == "bridge" or address6 is None),
            mtu=card.mtu,
        )

    def save(self, machine: str, moment: Moment | None, target: Path) -> None:
        """Copy the VM's disk into one file that needs no other; of one that runs, as it is at this
        moment. Raises WnodesError."""
        if moment:
            self.vms.hypervisor.backup(machine, _is_root, target, "qcow2", moment)
            return
        disks.copy(self.vms, self.paths(machine).disk, target)

    def strip(self, order: Order, disk: Path) -> bool:
        """Remove from a saved disk what its VM was known by; False where that can't be. Raises
        WnodesError."""
        return disks.strip(self.vms, order, disk, self.stripping(disk.stem))

    def stripping(self, tag: str) -> Path:
        """The folder of the program that strips a saved disk. Not its VM's: that may be deleted."""
        return Path(self.vms.config.bait.state_dir) / "stripping" / tag


def _used(memory: Path) -> Path:
    return memory.with_suffix(".used")


def _is(device: Card | Drive) -> IsIt:
    """What tells it among a domain's devices."""
    if isinstance(device, Card):
        return lambda element: element.find(f"mac[@address='{device.mac}']") is not None
    return lambda element: element.findtext("serial") == device.serial


def _is_root(element: Element) -> bool:
    return element.find("target[@dev='vda']") is not None


def _xml(device: Card | Drive) -> str:
    if isinstance(device, Card):
        return render("nic.xml.j2", xml=True, nic=device)
    return render("volume.xml.j2", xml=True, volume=device)
