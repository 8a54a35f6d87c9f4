"""wnodes-lrms: a tar that may lie, written into an empty folder as files and folders only.

It comes from a machine, and the machine's image may be anybody's. What is in it is taken by name,
if it was declared, and nothing else: no links, no devices. How many bytes come is bounded by the
quota of who runs this. Standard library only.
"""

import contextlib
import os
import tarfile
from collections.abc import Iterator, Sequence
from typing import IO

# A job's links are followed as its results are packed (tar -h), and a link to a folder around it
# never ends. Below the 40 links that a path may have, busybox's tar would show nothing but width.
DEPTH = 32  # folders below a declared name
MEMBERS = 1_000_000  # files and folders
_AT_ONCE = 65536  # bytes read at once; so the longest header that says a name, or anything else
_REST = 1024**2  # bytes behind a tar's end: it fills its last record, of 10 KiB as a rule
_SHOWN = 10  # troubles that are said one by one

Parts = tuple[str, ...]  # a path below the working directory, name by name


class RefusedError(Exception):
    """Nothing of what has come is taken."""


class Troubles:
    """What could not be taken, in words: the first of them, and how many there are."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._count = 0

    def add(self, parts: Sequence[str], reason: str) -> None:
        self._count += 1
        if self._count <= _SHOWN:
            self._said.append(f"{shown('/'.join(parts))}: {reason}")

    def words(self) -> list[str]:
        more = self._count - len(self._said)
        return [*self._said, f"and {more} more of that kind"] if more else self._said


def split(name: str) -> Parts:
    """The parts of a path; `./a//b/` is `a/b`."""
    return tuple(part for part in name.split("/") if part not in ("", "."))


def shown(text: str) -> str:
    """A name as it can be shown to people, whatever characters are in it."""
    return "".join(char if char.isprintable() else "?" for char in text[:200]) or "."


class _Pipe:
    """A stream as tarfile wants its file, forward only, and never much of it in memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._at = 0

    def tell(self) -> int:
        return self._at

    def seek(self, position: int) -> None:
        if position < self._at:
            raise RefusedError("its tar leads backwards")
        while self._at < position:
            if not self.read(min(position - self._at, _AT_ONCE)):
                raise RefusedError("its tar is cut short")

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _AT_ONCE:
            raise RefusedError("its tar has a header without end")
        data = self._stream.read(size)
        self._at += len(data)
        return data


def unpack(stream: IO[bytes], folder: str, wanted: list[Parts], troubles: Troubles) -> None:
    """Write what was declared into the folder, which is empty and which nobody else can enter.

    What is not taken is added to `troubles`. Raises RefusedError.
    """
    umask = os.umask(0o077)
    os.umask(umask)
    pipe = _Pipe(stream)
    missing = set(wanted)
    count = 0
    for member in _members(pipe):
        count += 1
        if count > MEMBERS:
            raise RefusedError(f"it has more than {MEMBERS} files and folders")
        parts = split(member.name)
        above = [top for top in wanted if parts[: len(top)] == top]
        if member.name.startswith("/") or ".." in parts or "\0" in member.name or not above:
            troubles.add(parts, "was not declared")
            continue
        if len(parts) - len(above[0]) > DEPTH:
            raise RefusedError(
                f"{shown('/'.join(parts[:5]))}/… is more than {DEPTH} folders deep: "
                "is there a link to a folder around it?"
            )
        try:
            reason = _write(pipe, member, folder, parts, wanted, 0o777 & ~umask)
        except OSError as error:  # the disk is full, or the name is longer than it may be here
            reason = error.strerror or str(error)
        if reason:
            troubles.add(parts, reason)
        missing.difference_update(above)
    for top in sorted(missing):
        troubles.add(top, "has not come")
    left = _REST
    while data := stream.read(_AT_ONCE):  # else the packer would end by a broken pipe
        left -= len(data)
        if left < 0:
            raise RefusedError("its tar goes on behind its end")


def _members(pipe: _Pipe) -> Iterator[tarfile.TarInfo]:
    """What is in a tar, one after the other. Raises RefusedError."""
    try:
        tar = tarfile.TarFile(fileobj=pipe, encoding="utf-8", errors="surrogateescape")  # type: ignore[arg-type]
        while (member := tar.next()) is not None:
            # It would keep all of them, and what headers say of them.
            tar.members.clear()  # type: ignore[attr-defined]
            tar.pax_headers.clear()  # type: ignore[attr-defined]
            yield member
    except RefusedError:
        raise
    except Exception as error:  # whatever bytes that are meant to break it can do to tarfile
        raise RefusedError(f"its tar can't be read ({type(error).__name__})") from error


def _write(
    pipe: _Pipe,
    member: tarfile.TarInfo,
    folder: str,
    parts: Parts,
    wanted: list[Parts],
    allowed: int,
) -> str:
    """Write one member; why not, if it is neither file nor folder. Raises OSError, RefusedError.

    There is no link in the folder, for none is ever made: paths may be used as they are.
    """
    path = os.path.join(folder, *parts)
    if member.isdir():
        os.makedirs(path, exist_ok=True)
        if parts:
            os.chmod(path, member.mode & allowed | 0o700)
        return ""
    if member.issym():
        return "a link: not taken"
    if not (member.isreg() or member.islnk()):
        return "neither a file nor a folder: not taken"
    if member.issparse() or member.size < 0:
        return "a sparse file: not taken"
    if not parts:
        return "not a folder"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    first = split(member.linkname) if member.islnk() else None
    if first == parts:
        return ""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # the same name came before, as it does if it is declared twice
    if first is not None:
        if ".." in first or not any(first[: len(top)] == top for top in wanted):
            return "the same as a file that was not declared: not taken"
        os.link(os.path.join(folder, *first), path, follow_symlinks=False)
        return ""
    _copy(pipe, member, path, allowed)
    return ""


def _copy(pipe: _Pipe, member: tarfile.TarInfo, path: str, allowed: int) -> None:
    """Write a new file with what the pipe has next; none is left behind if that fails."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(number, "wb") as file:
            left = member.size
            while left:
                data = pipe.read(min(left, _AT_ONCE))
                if not data:
                    raise RefusedError("its tar is cut short")
                if data.count(0) == len(data):  # a hole, in a file that has some
                    file.seek(len(data), os.SEEK_CUR)
                else:
                    file.write(data)
                left -= len(data)
            file.truncate()
            os.fchmod(number, member.mode & allowed)
            file.flush()
            with contextlib.suppress(OverflowError, ValueError):  # a time that is none
                os.utime(number, (member.mtime, member.mtime))
    except OSError:
        os.unlink(path)
        raise
