"""What a VM will be, as values."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from bait.network.cards import Card
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.images.catalogue import Image
from wnodes_lrms.model import Allocation, Owner


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


@dataclass(frozen=True)
class Drive:
    """A user's volume, as the guest sees it."""

    file: Path
    device: str
    serial: str


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
    shares: tuple[str, ...] = ()
    seeded: bool = True  # has a seed
    kept: bool = False  # the disk outlives the domain; devices come and go while it runs
