"""Cloud users' disks: programs look at them, and write on them, confined as other users."""

import json
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path

from bait.cloud.inject import Injection
from bait.machine.files import Paths
from bait.machine.images import free_mib, references, virtual_size
from bait.machine.vms import NodeVms
from bait.privileges.removal import remove_as_owner
from bait.privileges.sandbox import Limits, guestfs_user, lent, onlooker, run_confined
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.order import Order

# Under emulation the appliance alone takes 26 to 43 s; its own disk is 4 GiB.
_INJECTION = Limits(seconds=600.0, memory=8192, file=8192)
_GROWING = Limits(seconds=60.0, memory=4096, file=1 << 24)
_DIGEST = re.compile("[0-9a-f]{64}")


def inject(vms: NodeVms, order: Order, where: Paths) -> None:
    """Write host name, keys and user data into a new disk, by libguestfs. Raises WnodesError."""
    injection = Injection(str(where.disk), order.hostname, order.ssh_keys, order.user_data, vms.kvm)
    uid, own = guestfs_user(), where.disks / "guestfs"
    own.mkdir(mode=0o700)
    os.chown(own, uid, -1)
    try:
        with lent(uid, where.disk):
            run_confined(
                (sys.executable, "-I", "-m", "bait.cloud.inject"),
                uid,
                _INJECTION,
                data=json.dumps(asdict(injection)).encode(),
                environment=dict.fromkeys(("HOME", "TMPDIR", "LIBGUESTFS_CACHEDIR"), str(own)),
            )
    finally:
        remove_as_owner(own)
    _bases(vms, where.disk)


def copy(vms: NodeVms, disk: Path, target: Path) -> None:
    """Copy a disk that no VM runs on into one file that needs no other. Raises WnodesError."""
    uid = onlooker()
    for base in _bases(vms, disk):
        vms.let_in(base)
    target.touch(mode=0o600)
    limits = Limits(seconds=3600.0, memory=4096, file=free_mib(target.parent))
    argv = ("qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", str(disk), str(target))
    with lent(uid, disk, target):
        run_confined(argv, uid, limits)


def grow(vms: NodeVms, disk: Path, size: int) -> None:
    """Have a disk that no VM runs on hold `size` GiB at least; it never shrinks. Raises
    WnodesError."""
    uid = onlooker()
    for base in _bases(vms, disk):
        vms.let_in(base)
    with lent(uid, disk):
        if virtual_size(disk, "qcow2", uid) < size << 30:
            argv = ("qemu-img", "resize", "-q", "-f", "qcow2", str(disk), f"{size}G")
            run_confined(argv, uid, _GROWING)


def _bases(vms: NodeVms, disk: Path) -> list[Path]:
    """The image of the cache that a disk stands on; it must name no other file.

    QEMU or libguestfs wrote it, and a guest may have taken them over. Raises WnodesError.
    """
    uid = onlooker()
    with lent(uid, disk):
        found = [Path(name) for name in references(disk, "qcow2", uid)]
    for name in found:
        if name.parent != vms.cache.folder or not _DIGEST.fullmatch(name.name):
            raise WnodesError(
                f"{disk} refers to {name}, which is no image of this node's",
                told="its disk refers to a file that is no image",
            )
    return found
