"""What a node's checks conclude of where users' volumes are, if that is no folder. Pure:
bait/checks/storage.py does the looking."""

from collections.abc import Iterator

from bait.volumes.lvm import Contents
from wnodes_lrms.doctor import Check, fault, ok, warning


def ceph(pool: str, free: int, written: int, promised: int) -> Check:
    """Room for users' volumes in a pool of Ceph's: bytes that are free, that volumes take, and that
    they have in all."""
    owed = max(0, promised - written)
    said = f"Ceph's pool {pool} has {free >> 30} GiB free, of which {owed >> 30} are promised"
    if free <= owed:
        return warning("volumes", f"{said}: no new one is made", "give the pool more room")
    return ok("volumes", said)


def thin_pool(name: str, found: Contents, *, wipe: bool) -> Iterator[Check]:
    """A thin pool for users' volumes, and what is in it. `wipe`: the site wants what is deleted to
    be gone."""
    pool, what = found.pool, "volumes"
    said = f"thin pool {name} has {pool.size >> 30} GiB, of which {found.promised >> 30}"
    said += f" are promised and {pool.size - pool.free >> 30} are taken"
    if pool.size <= found.promised:
        yield warning(what, f"{said}: no new one is made", "give it more: lvextend")
    else:
        yield ok(what, said)
    if not pool.zeroes:
        yield fault(
            what,
            f"{name} does not zero what it gives away: users would read each other's data",
            f"lvchange --zero y {name}; what was given away before stays as it is",
        )
    if not pool.fails:
        yield warning(
            what,
            f"{name} lets those who write hang for a minute when it is full",
            f"lvchange --errorwhenfull y {name}: then their VMs are held at once",
        )
    if pool.metadata >= 80:
        yield warning(
            what,
            f"the metadata of {name} is full to {pool.metadata:g} %; at 90 % no new one is made",
            f"lvextend --poolmetadatasize +1g {name}",
        )
    if wipe and pool.discards != "passdown":
        yield warning(
            what,
            f"wipe does nothing to the disks: {name} does not pass discards down to them",
            f"lvchange --discards passdown {name}, if the disks can discard; else encrypt them",
        )
