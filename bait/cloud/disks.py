"""Cloud users' disks: programs look at them, and write on them, confined as other users."""

import importlib
import json
import logging
import os
import re
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from bait.cloud.inject import Injection
from bait.cloud.strip import STRIPPED
from bait.machine import seed
from bait.machine.files import Paths
from bait.machine.images import free_mib, references, virtual_size
from bait.machine.vms import NodeVms
from bait.privileges.removal import remove_as_owner
from bait.privileges.sandbox import Limits, guestfs_user, lent, onlooker, run_confined
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.folders import PASSED, have
from wnodes_lrms.order import Order

# Under emulation the appliance alone takes 26 to 43 s; its own disk is 4 GiB.
_INJECTION = Limits(seconds=600.0, memory=8192, file=8192)
_GROWING = Limits(seconds=60.0, memory=4096, file=1 << 24)
log = logging.getLogger(__name__)

_DIGEST = re.compile("[0-9a-f]{64}")
_LONGEST = 300  # characters of what a program says that are logged
# No lease holds the memory that an appliance takes for a disk that is saved.
_strips = threading.BoundedSemaphore(2)


def inject(vms: NodeVms, order: Order, where: Paths) -> None:
    """Write host name, keys and user data into a new disk, by libguestfs. Raises WnodesError."""
    key = seed.key_pair().private
    wanted = (order.hostname, order.ssh_keys, order.user_data, key, vms.kvm)
    injection = Injection(str(where.disk), *wanted)
    _by_guestfs("inject", asdict(injection), where.disk, where.disks / "guestfs", _INJECTION)
    _bases(vms, where.disk)


def strip(vms: NodeVms, order: Order, disk: Path, own: Path) -> bool:
    """Remove from a saved disk, by libguestfs, what its VM was known by: see strip.py.

    `own` is a folder that is made for the time. False where this node has no libguestfs, where that
    finds no system on the disk, or where something stays. Raises WnodesError if the disk may be
    damaged.
    """
    try:
        guestfs_user()
        importlib.import_module("guestfs")
    except (WnodesError, ImportError) as error:
        log.warning("%s keeps its SSH host keys: no libguestfs here: %s", disk.name, error)
        return False
    limits = replace(_INJECTION, file=(disk.stat().st_size >> 20) + _INJECTION.file)
    what = {"disk": str(disk), "ssh_keys": order.ssh_keys, "kvm": vms.kvm}
    have(own.parent, PASSED)
    with _strips:
        told = _by_guestfs("strip", what, disk, own, limits).strip()
    if told != STRIPPED:
        log.warning("%s is not stripped: %s", disk.name, told[:_LONGEST])
    uid = onlooker()
    with lent(uid, disk):
        found = references(disk, "qcow2", uid)
    if found:
        raise WnodesError(f"{disk} refers to another file", told="its disk refers to another file")
    return told == STRIPPED


def _by_guestfs(
    program: str, what: dict[str, object], disk: Path, own: Path, limits: Limits
) -> str:
    """Run one of our programs that use libguestfs on a disk; what it says."""
    uid = guestfs_user()
    with suppress(FileNotFoundError):
        remove_as_owner(own)  # a bait that was killed has left it
    own.mkdir(mode=0o700)
    os.chown(own, uid, -1)
    try:
        with lent(uid, disk):
            return run_confined(
                (sys.executable, "-I", "-m", f"bait.cloud.{program}"),
                uid,
                limits,
                data=json.dumps(what).encode(),
                environment=dict.fromkeys(("HOME", "TMPDIR", "LIBGUESTFS_CACHEDIR"), str(own)),
            )
    finally:
        remove_as_owner(own)


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
