"""wnodes-lrms: results that come back from a machine, put where the job's user has declared them.

They come as a tar that the machine's image makes. It is unpacked in a fresh folder that only the
job's owner can enter, and from there each file goes to its place by its own name, from folder to
folder, and never through a link. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

from untar import Parts, RefusedError, Troubles, split, unpack

Sent = Mapping[str, tuple[int, int]]  # by path: size, time of the last change in nanoseconds


def receive(
    stream: IO[bytes], workdir: str, names: Sequence[str], sent: Sent | None = None
) -> list[str]:
    """Put a tar of declared files and folders into the working directory.

    A file that was sent, comes as it was, and has changed here meanwhile stays as it is here: as
    do the job's own output, and what its neighbours write into a folder that went both ways.
    Returns what is wrong with it, in words for the user; nothing if all that was declared is there.
    Raises OSError if nothing can be made in the working directory.
    """
    troubles, wanted = Troubles(), [split(name) for name in names]
    private = tempfile.mkdtemp(prefix=".wnodes-results-", dir=workdir)
    with _folder(private) as source, _folder(os.path.realpath(workdir)) as target:
        fresh = f"/proc/self/fd/{source}"  # that very folder, whatever becomes of its name
        try:
            unpack(stream, fresh, wanted, troubles)
            _Mover(wanted, troubles, sent or {}).place(source, target, ())
            said = troubles.words()
        except RefusedError as refused:
            for entry in list(os.scandir(source)):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(f"{fresh}/{entry.name}", ignore_errors=True)
                else:
                    os.unlink(entry.name, dir_fd=source)
            said = [f"refused: {refused}"]
    try:
        os.rmdir(private)
    except OSError:
        said = [*said, f"what has no place is kept in {private}"]
    return said


class _Mover:
    """What has come, on its way into the working directory."""

    def __init__(self, wanted: Sequence[Parts], troubles: Troubles, sent: Sent) -> None:
        self.wanted = wanted
        self.troubles = troubles
        self.sent = sent

    def place(self, source: int, target: int, above: Parts) -> None:
        """Move all that is in one open folder into another, and go through no link on the way."""
        for name in sorted(os.listdir(source)):
            parts = (*above, name)
            try:
                mode = os.stat(name, dir_fd=source, follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    self._merge(source, target, stat.S_IMODE(mode), parts)
                elif self._newer(source, target, parts):
                    os.unlink(name, dir_fd=source)
                else:
                    _move(source, target, name)
            except OSError as error:
                self.troubles.add(parts, _reason(error))

    def _newer(self, source: int, target: int, parts: Parts) -> bool:
        """Whether a file has changed on the node since it was sent, and not in the machine.

        The job's own streams count as changed: who writes to them here has them open.
        """
        size, changed = self.sent.get("/".join(parts), (-1, 0))
        came = os.stat(parts[-1], dir_fd=source, follow_symlinks=False)
        if (came.st_size, int(came.st_mtime)) != (size, changed // 10**9):
            return False
        try:
            there = os.stat(parts[-1], dir_fd=target, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return stat.S_ISREG(there.st_mode) and (
            (there.st_size, there.st_mtime_ns) != (size, changed)
            or any(os.path.samestat(there, os.fstat(number)) for number in (1, 2))
        )

    def _merge(self, source: int, target: int, mode: int, parts: Parts) -> None:
        """Move a folder's content into the folder of that name, which is made if need be.

        A link in its place gives way if the name was declared, or is below one that was.
        """
        name = parts[-1]
        if any(parts[: len(top)] == top for top in self.wanted):
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISLNK(os.stat(name, dir_fd=target, follow_symlinks=False).st_mode):
                    os.unlink(name, dir_fd=target)
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, mode, dir_fd=target)
        with _folder(name, target) as into, _folder(name, source) as out:
            self.place(out, into, parts)
        with contextlib.suppress(OSError):  # what has no place stays in it
            os.rmdir(name, dir_fd=source)


def _move(source: int, target: int, name: str) -> None:
    """Move a file, also over another one or over a link, which is not followed."""
    with contextlib.suppress(FileNotFoundError):
        there = os.stat(name, dir_fd=target, follow_symlinks=False).st_mode
        if not (stat.S_ISREG(there) or stat.S_ISLNK(there)):
            raise FileExistsError(errno.EEXIST, "on the node that name is no file's")
    os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)


@contextlib.contextmanager
def _folder(name: str, at: int | None = None) -> Iterator[int]:
    """A folder, open while this lasts; one that a link leads to is none."""
    number = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
    try:
        yield number
    finally:
        os.close(number)


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOTDIR, errno.ELOOP):
        return "on the node that name is a link's or a file's, and no folder's"
    return error.strerror or str(error)
