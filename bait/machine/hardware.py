"""What a VM will be, as values."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from bait.network.cards import Card
from wnodes_lrms.config.load import Host
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.images.catalogue import Image
from wnodes_lrms.model import Allocation, Owner
from wnodes_lrms.provision import NOTHING, Provision

SCRATCH_SERIAL = "wnodes-scratch"  # by which its guest finds the disk


def guest_memory(allocation: Allocation, image: Image, overhead: int) -> int:
    """MiB of the guest: the allocation less QEMU's own part.

    Raises RejectedError if that is less than the image needs.
    """
    memory = allocation.memory - overhead
    if memory < image.min_memory:
        raise RejectedError(
            f"the job has {allocation.memory} MiB, of which {overhead} are the hypervisor's: "
            f"image {image.tag} needs {image.min_memory} for itself; "
            f"ask for {image.min_memory + overhead} MiB or more"
        )
    return memory


@dataclass(frozen=True)
class Blueprint:
    """All that decides what a VM will be."""

    id: str
    allocation: Allocation
    owner: Owner
    image: Image
    memory: int  # MiB of the guest
    address: ipaddress.IPv4Address
    provision: Provision = NOTHING
    site_address: str | None = None  # on the network that it is provided with
    host: Host | None = None  # what the site has registered for that

    @property
    def hostname(self) -> str:
        """Its guest's host name."""
        return self.host.name.partition(".")[0] if self.host else f"vm-{self.allocation.job}"

    @property
    def site_mac(self) -> str | None:
        """The MAC that goes with its address there; None if it follows from the VM."""
        return self.host.mac if self.host else None


@dataclass(frozen=True)
class DiskLimit:
    """What a VM may read and write of a disk, together; 0: as much as it can."""

    rate: int = 0  # bytes a second
    iops: int = 0  # requests a second

    def __bool__(self) -> bool:
        return bool(self.rate or self.iops)


@dataclass(frozen=True)
class RbdImage:
    """An image of Ceph's, as QEMU opens it."""

    name: str  # POOL/IMAGE
    conf: str
    user: str
    secret: str | None  # in libvirt, with the user's key; None: the cluster asks for none
    protocol = "rbd"


@dataclass(frozen=True)
class BlockDevice:
    """A device of the node's, as QEMU opens it."""

    dev: str  # its path


@dataclass(frozen=True)
class Drive:
    """A user's volume, as the guest sees it."""

    source: Path | RbdImage | BlockDevice
    device: str
    serial: str
    limit: DiskLimit = DiskLimit()
    readonly: bool = False


@dataclass(frozen=True)
class Hardware:
    """What a domain is made of."""

    id: str
    name: str
    job: str
    restart: int
    image: Image
    cores: int
    memory: int  # MiB of the guest
    cpus: tuple[int, ...]
    nics: tuple[Card, ...]
    volumes: tuple[Drive, ...] = ()
    limit: DiskLimit = DiskLimit()  # of the root disk, and of the scratch disk
    shares: tuple[str, ...] = ()
    seeded: bool = True  # has a seed
    scratch: Path | None = None  # the scratch disk
    kept: bool = False  # the disk outlives the domain; devices come and go while it runs
