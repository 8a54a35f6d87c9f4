"""A pool in Ceph: each volume is an image of RBD, and follows its VM to any node.

QEMU locks an image only against writes at the same instant: two that have it open pass the lock to
and fro. So whether a volume is in use is told by who has its image open (its watchers), and whether
they write by a word in its metadata; and two nodes that are both about to open it are kept apart by
a lock on its header for that time, which ends by itself if its bait does.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from uuid import UUID, uuid4

from bait.machine.hardware import RbdImage
from bait.volumes import room, trash
from bait.volumes.ceph import Ceph
from bait.volumes.removals import Removals
from wnodes_lrms.config.load import Pool as Settings
from wnodes_lrms.errors import AbsentError, ConflictError, UnknownError, WnodesError

_GIB = 1 << 30
_OPENING = 60  # seconds that a claim holds at most, as a bait may be killed meanwhile
_ASKING = 30.0  # of which so many are for questions: the rest is for QEMU
_COPYING = 86400.0  # seconds for a copy
_COPY = ".copy"  # of an image that is to become a volume
_USE = "wnodes.use"  # of its metadata: "read" while those that have it open only read
_OURS = re.compile(rf"[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}({re.escape(_COPY)})?")

log = logging.getLogger(__name__)


class Rbd:
    """A pool in Ceph: see Pool."""

    local = False
    forgets = 75.0  # a claim ends after `_OPENING`, a watcher after 30

    def __init__(self, settings: Settings, node: str) -> None:
        self.ceph = Ceph(settings.conf, settings.user, settings.name)
        self.secret = settings.secret
        self.node = node
        self._claims: set[str] = set()  # cookies of those that are held
        self._promising = threading.Lock()  # of room, on this node
        self._coming: dict[str, int] = {}  # bytes of copies, whose images come after their moment
        self._removals = Removals(lambda: trash.empty(self.ceph, _OURS))

    def create(self, volume: str, size: int) -> None:
        """Make a volume of `size` GiB, or have it grow to that; one that has it is success."""
        name = self._image(volume)
        with self._promising:
            has = self._bytes(name)
            if has is None:
                self._check_room(size * _GIB)
                with suppress(ConflictError):  # another bait just has
                    self.ceph.rbd("create", "--size", f"{size}G", name)
            elif has < size * _GIB:
                self._check_room(size * _GIB - has)
                self.ceph.rbd("resize", "--no-progress", "--size", f"{size}G", name)

    def delete(self, volume: str) -> None:
        """Remove a volume; one that is gone is success. Raises ConflictError for one in use.

        It is in the pool's trash until all of it is removed, in a thread of its own.
        """
        self.check_unused(volume)
        with suppress(AbsentError):
            self._check_not_read(volume)
        for name in (self._image(volume), self._image(volume) + _COPY):
            with suppress(AbsentError):
                trash.discard(self.ceph, name)
        self._removals.begin()

    def _check_not_read(self, volume: str) -> None:
        """Raises ConflictError while a copy of a volume is being made: who reads a snapshot is no
        watcher, and reads zeroes once it is removed."""
        for snapshot in self.ceph.snapshots(self._image(volume)):
            half = snapshot + _COPY
            with suppress(AbsentError):
                if _OURS.fullmatch(half) and self.ceph.watchers(self.ceph.path(half)):
                    raise ConflictError(f"volume {volume} is being copied: ask again")

    def sweep(self) -> None:
        """Remove what deleted volumes and finished copies have left; whoever else does so goes on.
        What can't be removed now is logged and stays for the next time."""
        try:
            there = self.ceph.images()
            names = {image.name for image in there}
            for image in there:
                if image.snapshot in names and _is_volume(image.name):
                    self._drop(self.ceph.path(f"{image.name}@{image.snapshot}"))
        except WnodesError as error:
            log.warning("snapshots of copies that are made keep their room for now: %s", error)
        self._removals.run()

    def check_unused(self, volume: str, *, readonly: bool = False) -> None:
        """Raises ConflictError where a VM, of whatever node, has a volume; `readonly`: where one
        writes on it."""
        name = self._image(volume)
        try:
            in_use = self.ceph.watchers(name) and not (readonly and self._is_only_read(name))
        except AbsentError:
            return
        if in_use:
            raise ConflictError(f"volume {volume} is in use by a VM, on this node or another")

    @contextmanager
    def claim(self, volume: str, *, readonly: bool) -> Iterator[None]:
        """While a VM of this node opens a volume: none of another node does so meanwhile.

        Raises ConflictError where one has it, or is about to.
        """
        name = self._image(volume)
        header = f"rbd_header.{self.ceph.number(name)}"
        cookie, since = str(uuid4()), time.monotonic()
        self._claims.add(cookie)
        try:
            if not self._lock(header, cookie, shared=readonly):
                said = f"volume {volume} is just given to a VM of another node: ask again"
                raise ConflictError(said)
            self.check_unused(volume, readonly=readonly)
            self.ceph.rbd("image-meta", "set", name, _USE, "read" if readonly else "write")
            if time.monotonic() > since + _ASKING:
                raise ConflictError("the site's storage is slow at present: ask again")
            yield
        finally:
            self._claims.discard(cookie)
            with suppress(UnknownError):  # it ends by itself
                self.ceph.unlock(header, lambda its, _holder: its == cookie)

    def _lock(self, header: str, cookie: str, *, shared: bool) -> bool:
        """Whether an image is locked so; what a killed bait of this node has left is dropped."""

        def is_left(its: str, holder: str) -> bool:
            return holder == self.node and its not in self._claims

        mine = (header, cookie, self.node, _OPENING)
        return self.ceph.lock(*mine, shared=shared) or bool(
            self.ceph.unlock(header, is_left) and self.ceph.lock(*mine, shared=shared)
        )

    def is_read(self, volume: str) -> bool:  # noqa: ARG002 (see Pool)
        """Never: a copy is made of a snapshot, and who writes goes on."""
        return False

    def copy(
        self,
        source: str,
        volume: str,
        moment: AbstractContextManager[object],
        by_qemu: Callable[[Path], None] | None = None,
    ) -> None:
        """Make a volume that is a copy of another, whole or not at all.

        It is read from a snapshot, which is taken at that moment and is gone afterwards.
        """
        new = self._image(volume)
        half, snapshot = new + _COPY, f"{self._image(source)}@{UUID(volume)}"
        size = self.size(source)
        if self._bytes(new) is not None:
            raise ConflictError(f"volume {volume} is there already")
        with suppress(AbsentError):
            if self.ceph.watchers(half):
                raise ConflictError(f"volume {volume} is being made")
            trash.discard(self.ceph, half)  # a bait that was killed has left it
        with self._room_for(half, size * _GIB):
            self._drop(snapshot)
            with moment:
                self.ceph.rbd("snap", "create", "--no-progress", snapshot)
            try:
                if by_qemu is None:
                    self.check_unused(source, readonly=True)  # nobody has begun to write by then
                self.ceph.rbd("cp", "--no-progress", snapshot, half, deadline=_COPYING)
                self.ceph.rbd("rename", half, new)
            finally:
                try:
                    self._drop(snapshot)
                except WnodesError as error:  # the next attempt does, or the next sweep()
                    log.warning("a snapshot of %s keeps its room for now: %s", source, error)

    def list(self) -> dict[str, int]:
        """Every volume and its size in GiB."""
        return {
            image.name: image.size // _GIB
            for image in self.ceph.images()
            if not image.snapshot and _is_volume(image.name)
        }

    def size(self, volume: str) -> int:
        """Its size in GiB. Raises AbsentError if there is no such volume."""
        found = self._bytes(self._image(volume))
        if found is None:
            raise AbsentError(f"there is no volume {volume} in Ceph's pool {self.ceph.pool}")
        return found // _GIB

    def has_room(self) -> bool:
        """Whether what is written into volumes finds room."""
        try:
            return room.is_left(self.ceph.room()[0])
        except WnodesError:
            return False

    def source(self, volume: str) -> RbdImage:
        """What QEMU opens. Raises AbsentError if there is no such volume."""
        self.size(volume)
        return RbdImage(self._image(volume), self.ceph.conf, self.ceph.user, self.secret)

    def _image(self, volume: str) -> str:
        return self.ceph.path(str(UUID(volume)))

    def _bytes(self, name: str) -> int | None:
        try:
            return self.ceph.size(name)
        except AbsentError:
            return None

    def _is_only_read(self, name: str) -> bool:
        return self.ceph.metadata(name, _USE) == "read"

    @contextmanager
    def _room_for(self, half: str, size: int) -> Iterator[None]:
        """While a copy of so many bytes is made, under this name. Raises as below."""
        with self._promising:
            self._check_room(size)
            self._coming[half] = size
        try:
            yield
        finally:
            with self._promising:
                self._coming.pop(half, None)

    def _check_room(self, more: int) -> None:
        """Raises RejectedError where so many bytes more could not be written.

        Two nodes that ask at the same moment do not see each other's promise.
        """
        free, written = self.ceph.room()
        promised = self.ceph.promised()
        if self._coming:
            there = {self.ceph.path(image.name) for image in self.ceph.images()}
            promised += sum(size for half, size in self._coming.items() if half not in there)
        room.check_promise(free - max(0, promised - written), more)

    def _drop(self, snapshot: str) -> None:
        with suppress(AbsentError):
            self.ceph.rbd("snap", "rm", "--no-progress", snapshot)


def _is_volume(name: str) -> bool:
    return bool(_OURS.fullmatch(name)) and not name.endswith(_COPY)
