"""A pool in LVM: each volume is a logical volume of a thin pool of this node's, and stays on it.

A thin pool can be active on one node alone, on shared disks too. So this node's ledger knows every
VM that has a volume, and who only reads; that nobody else on the node has one open, LVM tells. What
is not called as ours are, in this pool and with our tag, is not touched.
"""

import logging
import re
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from bait.machine.hardware import BlockDevice
from bait.volumes import room
from bait.volumes.lvm import Contents, LogicalVolume, Lvm
from bait.volumes.removals import Removals
from wnodes_lrms.config.load import Pool as Settings
from wnodes_lrms.errors import AbsentError, ConflictError, RejectedError, WnodesError

TAG = "wnodes"
_PREFIX = "wnodes-"
_GONE = ".gone"  # of what is no volume any more
_OURS = re.compile(rf"{_PREFIX}([0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}})")
_GIB = 1 << 30
_METADATA = 90.0  # percent from which nothing new is made: a pool without any fails for all
_FOR_A_MOMENT = 5.0  # seconds that udev and LVM may look into a device that has changed
_LOOK = 0.25  # seconds between two looks whether they still do

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Copy:
    """A copy that is just made."""

    source: str  # volume
    size: int  # bytes


class Thin:
    """A pool in LVM: see Pool."""

    local = True
    forgets = 0.0  # a device that is open ends with its process

    def __init__(self, settings: Settings, *, wipe: bool = False) -> None:
        """`wipe`: what is deleted is discarded first, in a thread of its own."""
        self.lvm = Lvm(settings.group or "", settings.name)
        self.wipe = wipe
        self._coming: dict[str, _Copy] = {}  # by name
        # Of promises of room, and of names. No guest is waited for under it.
        self._guard = threading.Lock()
        self._removals = Removals(self._discard_all)

    def create(self, volume: str, size: int) -> None:
        """Make a volume of `size` GiB, or have it grow to that; one that has it is success."""
        name = _name(volume)
        with self._guard:
            found = self.lvm.look()
            there = _ours(found, name)
            has = there.size if there else 0
            if has >= size * _GIB:
                return
            self._check_left_alone(volume, name)
            self._check_room(found, size * _GIB - has)
            if there:
                self.lvm.extend(name, size * _GIB)
            else:
                self.lvm.create(name, size * _GIB, TAG)

    def delete(self, volume: str) -> None:
        """Remove a volume; one that is gone is success. Raises ConflictError for one in use."""
        self.check_unused(volume)
        name = _name(volume)
        with self._guard:
            self._check_left_alone(volume, name)
            if _ours(self.lvm.look(), name) is None:
                return
            if self.wipe:
                self.lvm.rename(name, name + _GONE)
            else:
                self.lvm.remove(name)
        if self.wipe:
            self._removals.begin()

    def sweep(self) -> None:
        """Discard and remove what is to be wiped. What can't be now is logged, and stays for the
        next time. Raises nothing."""
        self._removals.run()

    def _discard_all(self) -> bool:
        try:
            there = self.lvm.look().volumes.values()
        except WnodesError as error:
            log.warning("volumes that were deleted keep their room for now: %s", error)
            return True
        stay = [self._stays(each) for each in there if _is_gone(each)]
        return any(stay)

    def _stays(self, gone: LogicalVolume) -> bool:
        """Discard and remove it; whether that can't be now."""
        try:
            if gone.open:
                raise ConflictError("somebody has it open")
            if not gone.active:
                self.lvm.activate(gone.name)
            self.lvm.discard(gone.name)
            self.lvm.remove(gone.name)
            log.info("%s is discarded", gone.name)
        except WnodesError as error:
            log.warning("%s is not discarded yet: %s", gone.name, error)
            return True
        return False

    def check_unused(self, volume: str, *, readonly: bool = False) -> None:
        """Raises ConflictError where somebody has the device open; with `readonly` the ledger is
        all that is needed."""
        until = time.monotonic() + _FOR_A_MOMENT
        while not readonly:
            there = _ours(self.lvm.look(), _name(volume))
            if there is None or not there.open:
                return
            if time.monotonic() > until:
                raise ConflictError(f"volume {volume} is in use on its node")
            time.sleep(_LOOK)

    def claim(self, volume: str, *, readonly: bool) -> AbstractContextManager[None]:  # noqa: ARG002
        """Nothing: no other node can open it."""
        return nullcontext()

    def is_read(self, volume: str) -> bool:
        """Whether a copy of it is just made."""
        return any(copy.source == volume for copy in list(self._coming.values()))

    def copy(
        self,
        source: str,
        volume: str,
        moment: AbstractContextManager[object],
        by_qemu: Callable[[Path], None] | None = None,  # noqa: ARG002 (see Pool)
    ) -> None:
        """Make a volume that is a copy of another, whole or not at all.

        It is a snapshot, which shares what both have until one of them writes there; each may be
        removed without the other.
        """
        name = _name(volume)
        with self._guard:
            found = self.lvm.look()
            if _ours(found, name) or name in self._coming:
                raise ConflictError(f"volume {volume} is there already, or just being made")
            size = self._there(found, source).size
            self._check_room(found, size)
            self._coming[name] = _Copy(source, size)  # who has not begun to write by now waits
        try:
            with moment:
                self.lvm.snapshot(_name(source), name, TAG)
        finally:
            with self._guard:  # whoever counts what is promised finds it in one place or the other
                del self._coming[name]

    def list(self) -> dict[str, int]:
        """Every volume and its size in GiB."""
        volumes = self.lvm.look().volumes.values()
        ours = ((_OURS.fullmatch(each.name), each) for each in volumes if TAG in each.tags)
        return {name[1]: each.size // _GIB for name, each in ours if name}

    def has_room(self) -> bool:
        """Whether what is written into volumes finds room."""
        try:
            pool = self.lvm.look().pool
            return room.is_left(pool.free) and pool.metadata < 100
        except WnodesError:
            return False

    def size(self, volume: str) -> int:
        """Its size in GiB. Raises AbsentError if there is no such volume."""
        return self._there(self.lvm.look(), volume).size // _GIB

    def source(self, volume: str) -> BlockDevice:
        """What QEMU opens. Raises AbsentError if there is no such volume."""
        there = self._there(self.lvm.look(), volume)
        if not there.active:
            self.lvm.activate(there.name)
        return BlockDevice(self.lvm.path(there.name))

    def _there(self, found: Contents, volume: str) -> LogicalVolume:
        there = _ours(found, _name(volume))
        if there is None:
            raise AbsentError(f"there is no volume {volume} in {self.lvm.group}/{self.lvm.pool}")
        return there

    def _check_left_alone(self, volume: str, name: str) -> None:
        """Raises ConflictError while it is being copied, or made as a copy."""
        if name in self._coming or self.is_read(volume):
            raise ConflictError(f"volume {volume} is being copied: ask again")

    def _check_room(self, found: Contents, more: int) -> None:
        """Raises RejectedError where so many bytes more could not be written.

        A copy shares blocks with what it was made of, and needs its own for all of them in the end.
        """
        if not found.pool.zeroes:
            what = f"thin pool {self.lvm.group}/{self.lvm.pool}"
            said = f"{what} does not zero what it gives away: lvchange --zero y"
            raise RejectedError(said, told="the site's storage is not set up to be shared")
        if found.pool.metadata >= _METADATA:
            said = f"its thin pool's metadata is full to {found.pool.metadata:g} %"
            raise RejectedError(f"the site's storage has no room for that: {said}")
        coming = sum(copy.size for name, copy in self._coming.items() if name not in found.volumes)
        room.check_promise(found.pool.size - found.promised - coming, more)


def _name(volume: str) -> str:
    return f"{_PREFIX}{UUID(volume)}"


def _is_gone(each: LogicalVolume) -> bool:
    name = each.name.removesuffix(_GONE)
    return name != each.name and TAG in each.tags and _OURS.fullmatch(name) is not None


def _ours(found: Contents, name: str) -> LogicalVolume | None:
    """The volume of this name. Raises ConflictError for one that somebody else has made."""
    there = found.volumes.get(name)
    if there and TAG not in there.tags:
        raise ConflictError(f"logical volume {name} has no tag {TAG}: it is left alone")
    return there
