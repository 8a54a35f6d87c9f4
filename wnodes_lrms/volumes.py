"""What bait and bridge both have to know of volumes."""

LARGEST = 65536  # GiB of a volume
_ROOM = 20  # characters that virtio-blk has for it


def serial(volume: str) -> str:
    """The serial number by which a guest finds a volume (its id, a UUID), as in
    /dev/disk/by-id/virtio-<serial>: the names of devices follow the order in which they come."""
    return volume.replace("-", "")[:_ROOM]
