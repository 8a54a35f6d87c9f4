"""What bait and bridge both have to know of volumes."""

from enum import StrEnum

LARGEST = 65536  # GiB of a volume
_ROOM = 20  # characters that virtio-blk has for it


class Consistency(StrEnum):
    """What a copy of a disk is like, by what went on while it was made."""

    OFFLINE = "offline"  # no VM wrote on it
    FROZEN = "frozen"  # a VM did, whose guest had written down all that it had in memory
    CRASH = "crash"  # a VM did: as after a power cut


def serial(volume: str) -> str:
    """The serial number by which a guest finds a volume (its id, a UUID), as in
    /dev/disk/by-id/virtio-<serial>: the names of devices follow the order in which they come."""
    return volume.replace("-", "")[:_ROOM]
