"""A node's cache of image files: fetched once, verified, shared by all VMs, evicted by age.

A file is named by its SHA-256, so an image that changes in the catalogue is another file.
"""

import hashlib
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bait.privileges.ownership import let_read
from bait.privileges.sandbox import Limits, run_confined
from wnodes_lrms.errors import RejectedError, WnodesError
from wnodes_lrms.folders import PASSED, have
from wnodes_lrms.images import source
from wnodes_lrms.images.catalogue import Image, Part

_MIB = 1 << 20
_LOOKING = Limits(seconds=30.0, memory=1024, file=0)
_SPARE = 50  # one part in so many of a disk is left free
_LOOK = 0.2  # seconds between two looks whether whoever waits is still wanted

log = logging.getLogger(__name__)


class Cache:
    """The cache folder of one bait."""

    def __init__(
        self,
        folder: Path,
        limit: int,
        in_use: Callable[[], set[str]],
        reader: Callable[[], int | None],
        credentials: str | None = None,
    ) -> None:
        """`limit` is in MiB; `in_use` tells the digests that living VMs stand on, and
        `reader` the uid of who reads disks that nobody has looked at. `credentials` is the file of
        those that web servers ask for."""
        self.folder = folder
        self.limit = limit
        self._in_use = in_use
        self._reader = reader
        self._credentials = credentials
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        have(folder, PASSED)
        for left in folder.glob("*.part"):
            left.unlink()

    def path(self, part: Part) -> Path:
        """Where a verified copy of the file is or will be."""
        return self.folder / part.sha256

    def fetch(self, image: Image, check: Callable[[], None]) -> None:
        """Have all files of the image in the cache, verified.

        However many callers ask for a file at once, it is fetched once. `check` is called
        now and then and raises to stop. Raises WnodesError: source unreachable, wrong
        checksum, disk full, a disk that would read other files.
        """
        for part in image.parts:
            with self._only_one(part.sha256, check):
                if not self._is_here(part, check):
                    self._download(image, part, check)
        self._evict()

    def _is_here(self, part: Part, check: Callable[[], None]) -> bool:
        """Whether a good copy is here; it is the youngest then. One that is damaged is removed.

        A file that has not been written to since it was verified is as it was then: that costs a
        look at its inode. Any other is verified again.
        """
        path = self.path(part)
        if self._touch(path):
            return True
        try:
            stamp, digest = _stamp(path), hashlib.sha256()
            for chunk in source.read_watched(str(path), check):
                digest.update(chunk)
        except (FileNotFoundError, WnodesError):
            return False
        if digest.hexdigest() == part.sha256:
            _seen(path).write_text(stamp)
            return self._touch(path)
        log.warning("the copy of %s is damaged (%s): it is fetched again", part.source, path)
        path.unlink(missing_ok=True)
        return False

    def _touch(self, path: Path) -> bool:
        """Make a verified file the youngest; False if it is not there, or was written to.

        Under the lock of eviction: whoever fetches has said before that the file is in use, so an
        eviction that begins after this spares it, and one that began before shows here.
        """
        with self._guard:
            try:
                good = _seen(path).read_text() == _stamp(path)
                os.utime(_seen(path))
            except FileNotFoundError:
                return False
            return good

    def _download(self, image: Image, part: Part, check: Callable[[], None]) -> None:
        new = self.path(part).with_suffix(".part")
        digest = hashlib.sha256()

        def fits(size: int) -> None:
            self._need_room(image, part, size)

        try:
            with new.open("wb") as file:
                for chunk in source.read_watched(
                    part.source, check, fits, credentials=self._credentials
                ):
                    fits(len(chunk))  # others write there too, and not every server tells a size
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != part.sha256:
                raise WnodesError(
                    f"image {image.tag}: {part.source} has the checksum "
                    f"{digest.hexdigest()[:16]}…, the catalogue says {part.sha256[:16]}…: "
                    "mend the source or the catalogue"
                )
            if part is image.disk:
                refuse_references(new, image, self._reader())
            with self._guard:  # no eviction comes in between
                new.replace(self.path(part))
                _seen(self.path(part)).write_text(_stamp(self.path(part)))
        except OSError as error:
            raise WnodesError(
                f"image {image.tag}: {part.source} can't be copied to {self.folder}: "
                f"{error.strerror}"
            ) from error
        finally:
            new.unlink(missing_ok=True)

    def _need_room(self, image: Image, part: Part, size: int) -> None:
        """Have room for so many bytes more, if need be that of files which nobody uses.

        A part of the disk stays free: the ledger may be there, and those who look after it. Raises
        WnodesError.
        """
        lacking = size - _room(self.folder)
        if lacking > 0:
            self._evict(lacking)
            lacking = size - _room(self.folder)
        if lacking > 0:
            raise WnodesError(
                f"image {image.tag}: {part.source} can't be copied to {self.folder}: No space left "
                f"({-(-size // _MIB)} MiB more are to come, for {-(-lacking // _MIB)} is no room)"
            )

    def _evict(self, needed: int = 0) -> None:
        """Remove what nobody uses, the oldest first: down to the limit, and so many bytes."""
        with self._guard:
            used = self._in_use()
            files = {path: stat for path in self.folder.iterdir() if (stat := _stat(path))}
            size = sum(stat.st_size for path, stat in files.items() if path.suffix != ".seen")
            ages = {path: files.get(_seen(path), stat).st_mtime for path, stat in files.items()}
            for path in sorted(files, key=lambda path: ages[path]):
                if size <= self.limit * _MIB and needed <= 0:
                    break
                if path.name not in used and not path.suffix:
                    path.unlink()
                    _seen(path).unlink(missing_ok=True)
                    size -= files[path].st_size
                    needed -= files[path].st_size

    @contextmanager
    def _only_one(self, digest: str, check: Callable[[], None]) -> Iterator[None]:
        with self._guard:
            lock = self._locks.setdefault(digest, threading.Lock())
        while not lock.acquire(timeout=_LOOK):
            check()
        try:
            yield
        finally:
            lock.release()


def _seen(path: Path) -> Path:
    """Beside a verified file: what that was like then. It is as young as the file's last use."""
    return path.with_suffix(".seen")


def _stamp(path: Path) -> str:
    """What changes when root writes to a file, and nobody else can. Not its ctime: whom its access
    list lets in does not count."""
    stat = path.stat()
    return f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns}"


def _stat(path: Path) -> os.stat_result | None:
    """None if it is gone: another thread's download may just have got its name."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def refuse_references(disk: Path, image: Image, reader: int | None) -> None:
    """Refuse a disk that names other files: QEMU would read those of the node for the guest.

    The disk stays root's, and `reader` is let in: who owned it for a moment could keep it open, and
    write to it when it is everybody's. Raises WnodesError.
    """
    if reader is not None:
        let_read(disk, {reader})
    try:
        found = references(disk, image.format, reader)
    except RejectedError as error:
        raise RejectedError(f"image {image.tag}: {error}") from error
    except WnodesError as error:
        told = f"image {image.tag}: its disk is damaged, or not in the format {image.format}"
        raise WnodesError(
            f"image {image.tag}: its disk can't be read: {error}", told=told
        ) from error
    if found:
        raise WnodesError(f"image {image.tag}: its disk refers to another file: flatten it first")


def references(disk: Path, form: str, reader: int | None) -> set[str]:
    """The other files that a disk of this format names, as it names them. Raises RejectedError for
    one that is encrypted, WnodesError for one that can't be read.

    It may be anybody's work: it is looked at as the user `reader`, who must be able to read it.
    """
    info = _info(disk, form, reader)
    if info.get("encrypted"):
        raise RejectedError("its disk is encrypted, and a VM here can't open that")
    data = info.get("format-specific", {}).get("data", {})
    return {
        str(where[name])
        for where, name in ((info, "backing-filename"), (data, "data-file"))
        if name in where
    }


def virtual_size(disk: Path, form: str, reader: int | None) -> int:
    """Bytes that a disk can hold, looked at in the same way. Raises WnodesError."""
    return int(_info(disk, form, reader)["virtual-size"])


def _info(disk: Path, form: str, reader: int | None) -> dict[str, Any]:
    argv = ("qemu-img", "info", "--output=json", "-f", form, str(disk))
    found: dict[str, Any] = json.loads(run_confined(argv, reader, _LOOKING))
    return found


def _room(folder: Path) -> int:
    """Bytes that may be written there."""
    usage = shutil.disk_usage(folder)
    return usage.free - usage.total // _SPARE


def free_mib(folder: Path) -> int:
    """MiB that are free where the folder is."""
    return shutil.disk_usage(folder).free // _MIB
