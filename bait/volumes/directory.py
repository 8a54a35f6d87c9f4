"""A pool in a folder, of all nodes or of this one: each volume is a sparse file."""

import fcntl
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from bait.volumes import filelocks, room, wiping
from bait.volumes.removals import Removals
from wnodes_lrms.errors import AbsentError, ConflictError, WnodesError
from wnodes_lrms.folders import PASSED, have

_GIB = 1 << 30
_BLOCK = 512  # bytes of what stat(2) counts in
_COPY = ".copy"  # of a file that is to become a volume
_PIECE = 1 << 20  # bytes of a copy that are in memory


class Directory:
    """A pool in a folder: see Pool. QEMU's locks on a file hold that nobody else writes on it."""

    forgets = 0.0  # a lock ends with its process

    def __init__(self, folder: Path, *, wipe: bool = False, local: bool = False) -> None:
        """`wipe`: what is deleted is overwritten first, in a thread of its own. `local`: the folder
        is this node's alone."""
        self.folder = folder
        self.local = local
        self.wipe = wipe
        self._removals = Removals(self._wipe_all)
        self._guard = threading.Lock()

    def create(self, volume: str, size: int) -> None:
        """Make a volume of `size` GiB, or have it grow to that; one that has it is success."""
        path = self._file(volume)
        try:
            have(self.folder, PASSED)
            with self._alone():
                has = path.stat().st_size if path.exists() else 0
                if has < size * _GIB:
                    self._check_room(size * _GIB - has)
                    self._make(path, size * _GIB)
        except OSError as error:
            raise WnodesError(f"volume {volume}: {self.folder}: {error.strerror}") from error

    def delete(self, volume: str) -> None:
        """Remove a volume; one that is gone is success. Raises ConflictError for one in use."""
        self.check_unused(volume)
        try:
            self._remove(self._file(volume))
            self._drop_half(volume)
        except OSError as error:
            raise WnodesError(f"volume {volume}: {self.folder}: {error.strerror}") from error

    def _drop_half(self, volume: str) -> None:
        """Remove what somebody who was killed has begun to fill. Raises ConflictError if one still
        does."""
        half = self._file(volume).with_suffix(_COPY)
        with suppress(FileNotFoundError), half.open("r+b") as file:
            filelocks.hold(file, filelocks.FILLED, f"volume {volume} is being made")
            self._remove(half)

    def _remove(self, path: Path) -> None:
        if self.wipe and path.exists():
            # Another of this name, such as half a copy, may still be at it.
            path.replace(path.with_suffix(f".{secrets.token_hex(8)}{wiping.SUFFIX}"))
            self._removals.begin()
        path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Wipe what is to be wiped, to its end; whoever else does so goes on. Raises nothing."""
        self._removals.run()

    def _wipe_all(self) -> bool:
        stay = [wiping.wipe(path) for path in self.folder.glob(f"*{wiping.SUFFIX}")]
        return any(stay)

    def check_unused(self, volume: str, *, readonly: bool = False) -> None:
        """Raises ConflictError where a VM, of whatever node, has a volume; `readonly`: where one
        writes on it.

        That is told by QEMU's locks on the file, where the file system takes locks to other nodes.
        """
        try:
            with self._file(volume).open("rb") as file:
                in_use = filelocks.is_held(
                    file, filelocks.WRITTEN if readonly else filelocks.LOCKED
                )
        except FileNotFoundError:
            return
        except OSError as error:
            raise WnodesError(f"volume {volume}: {self.folder}: {error.strerror}") from error
        if in_use:
            raise ConflictError(f"volume {volume} is in use by a VM, on this node or another")

    def claim(self, volume: str, *, readonly: bool) -> AbstractContextManager[None]:  # noqa: ARG002
        """Nothing: QEMU's own locks hold that."""
        return nullcontext()

    @contextmanager
    def reading(self, volume: str) -> Iterator[BinaryIO]:
        """A volume that no VM writes on, and that none will while this lasts; others may read it.

        Raises ConflictError where one does.
        """
        with self.path(volume).open("rb") as file:
            filelocks.hold(file, filelocks.READ, f"volume {volume} is being made")
            filelocks.hold(file, filelocks.STAYS, f"volume {volume} is in use by a VM")
            self.check_unused(volume, readonly=True)
            yield file

    def is_read(self, volume: str) -> bool:
        """Whether somebody, on whatever node, holds the volume so."""
        try:
            with self._file(volume).open("rb") as file:
                return filelocks.is_held(file, filelocks.FILLED)
        except OSError:
            return False

    def copy(
        self,
        source: str,
        volume: str,
        moment: AbstractContextManager[object],
        by_qemu: Callable[[Path], None] | None = None,
    ) -> None:
        """Make a volume that is a copy of another, whole or not at all.

        A volume that no VM writes on is read from its file, and no VM, of whatever node, begins to
        write on it meanwhile.
        """
        size = self.size(source)
        if by_qemu:
            with self.filling(volume, size) as new:
                by_qemu(new)
            return
        with self.reading(source) as file:
            with moment:
                pass  # who has not begun to write by now waits: see is_read()
            with self.filling(volume, size) as new, new.open("r+b") as target:
                _copy(file, target)

    @contextmanager
    def filling(self, volume: str, size: int) -> Iterator[Path]:
        """A file of `size` GiB with nothing in it that becomes this volume, if all goes well.

        Raises ConflictError where the volume is there, or another fills it; RejectedError where
        there is no room.
        """
        path = self._file(volume)
        new = path.with_suffix(_COPY)
        with ExitStack() as undo:
            with self._alone():
                self._drop_half(volume)
                file = undo.enter_context(open(new, "a+b", opener=_private))
                filelocks.hold(file, filelocks.FILLED, f"volume {volume} is being made")
                if not _same(file, new):
                    raise ConflictError(f"volume {volume} has just been made")
                undo.callback(self._remove, new)
                if path.exists():
                    raise ConflictError(f"volume {volume} is there already")
                self._check_room(size * _GIB)
                file.truncate(size * _GIB)
            yield new
            os.fsync(file.fileno())
            new.chmod(0o600)
            with self._alone():  # who counts what is promised finds it under one name
                if path.exists():
                    raise ConflictError(f"volume {volume} has been made meanwhile")
                new.replace(path)

    def list(self) -> dict[str, int]:
        """Every volume and its size in GiB."""
        try:
            found = _there(self.folder.glob("*.raw"))
            return {path.stem: status.st_size // _GIB for path, status in found}
        except OSError as error:
            raise WnodesError(f"volumes: {self.folder}: {error.strerror}") from error

    def has_room(self) -> bool:
        """Whether what is written into volumes finds room."""
        try:
            return room.is_left(_free(self.folder))
        except OSError:
            return False

    def size(self, volume: str) -> int:
        """Its size in GiB. Raises AbsentError if there is no such volume."""
        try:
            return self.path(volume).stat().st_size // _GIB
        except OSError as error:
            raise WnodesError(f"volume {volume} can't be read: {error.strerror}") from error

    def source(self, volume: str) -> Path:
        """What QEMU opens. Raises AbsentError if there is no such volume."""
        return self.path(volume)

    def path(self, volume: str) -> Path:
        """Its file. Raises AbsentError if there is no such volume."""
        path = self._file(volume)
        if not path.exists():
            raise AbsentError(f"there is no volume {volume} in {self.folder}")
        return path

    def _make(self, path: Path, size: int) -> None:
        """A file of that size (bytes), with what is in it: whole or not at all."""
        if not path.exists():
            new = path.with_suffix(".new")
            new.unlink(missing_ok=True)
            new.touch(mode=0o600)
            os.truncate(new, size)
            new.replace(path)
        with path.open("r+b") as file:
            if os.fstat(file.fileno()).st_size < size:  # as another node may just have had it grow
                os.ftruncate(file.fileno(), size)

    def _check_room(self, more: int) -> None:
        """Raises RejectedError where so many bytes more could not be written."""
        files = [path for form in ("*.raw", f"*{_COPY}") for path in self.folder.glob(form)]
        status = (status for _path, status in _there(files))
        owed = sum(max(0, each.st_size - each.st_blocks * _BLOCK) for each in status)
        room.check_promise(_free(self.folder) - owed, more)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While this lasts no other bait promises room, where the file system has such locks."""
        with self._guard:
            # Not the folder: NFS takes the locks of files to the server, and not those of folders.
            folder = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                with suppress(OSError):
                    fcntl.flock(folder, fcntl.LOCK_EX)
                yield
            finally:
                os.close(folder)

    def _file(self, volume: str) -> Path:
        return self.folder / f"{UUID(volume)}.raw"


def _same(file: BinaryIO, path: Path) -> bool:
    """Whether the open file is the one that is at the path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    """Copy what is written in a file to the same places of another."""
    for begin, end in wiping.pieces(source.fileno()):
        at = begin
        while at < end and (data := os.pread(source.fileno(), min(_PIECE, end - at), at)):
            if data.strip(b"\0"):  # a file system without holes calls all of it written
                target.seek(at)
                target.write(data)
            at += len(data)  # it may be less than was asked for, see read(2)


def _there(paths: Iterable[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    """What the files are like, without those that somebody has just removed. Raises OSError."""
    for path in paths:
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        yield path, status


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _free(folder: Path) -> int:
    """Bytes that may be written there. Raises OSError."""
    return shutil.disk_usage(folder).free
