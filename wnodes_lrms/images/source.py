"""Where image files come from: a path that the node can read, or an http(s) URL (see web.py)."""

import errno
import hashlib
import os
import queue
import stat
import threading
from collections.abc import Callable, Iterator

from wnodes_lrms.errors import WnodesError
from wnodes_lrms.images.content import HEAD

_CHUNK = 1 << 20
_LOOK = 0.2  # seconds between two looks whether anybody still wants the bytes


Fits = Callable[[int], None]


def any_size(_size: int) -> None:
    """For callers that only look at the bytes."""


def read(source: str, fits: Fits = any_size, *, credentials: str | None = None) -> Iterator[bytes]:
    """The bytes of a file or an http(s) URL, in pieces.

    `fits` is told how many are to come, where that is known, before the first does, and may raise.
    `credentials` is the file of passwords for web servers, see web.py. Raises WnodesError if it is
    unreachable, no regular file, or longer than it was said to be.
    """
    if source.startswith("/"):
        try:
            yield from _of_file(source, fits)
        except OSError as error:
            raise WnodesError(f"image source {source}: {error.strerror}") from error
        return
    from wnodes_lrms.images import web  # what it imports takes 8 MiB: most sites' images are files

    yield from web.read(source, fits, credentials)


def _of_file(source: str, fits: Fits) -> Iterator[bytes]:
    """The same of a file. A pipe or a device has no end, so it is refused at once."""
    number = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(number, "rb") as file:
        status = os.fstat(number)
        if stat.S_ISDIR(status.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is no regular file")
        fits(status.st_size)
        left = status.st_size
        while chunk := file.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise OSError(errno.EFBIG, "it grew while it was read")
            yield chunk


def read_watched(
    source: str,
    check: Callable[[], None],
    fits: Fits = any_size,
    *,
    credentials: str | None = None,
) -> Iterator[bytes]:
    """The same, with `check` called several times a second: it may raise to stop.

    The source is read in a thread of its own: a read that hangs can't be interrupted, and whoever
    waits for it must be able to leave.
    """
    pieces: queue.Queue[bytes | Exception | None] = queue.Queue(maxsize=4)
    unwanted = threading.Event()

    def put(piece: bytes | Exception | None) -> None:
        while not unwanted.is_set():
            try:
                pieces.put(piece, timeout=_LOOK)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for chunk in read(source, fits, credentials=credentials):
                put(chunk)
                if unwanted.is_set():
                    return
            put(None)
        except Exception as error:
            put(error)

    threading.Thread(target=work, name=f"reading {source}", daemon=True).start()
    try:
        while True:
            check()
            try:
                piece = pieces.get(timeout=_LOOK)
            except queue.Empty:
                continue
            if piece is None:
                return
            if isinstance(piece, Exception):
                raise piece
            yield piece
    finally:
        unwanted.set()


def sha256(
    source: str, credentials: str | None = None, look: Callable[[bytes], None] = lambda _head: None
) -> str:
    """The SHA-256 of all bytes, in hexadecimal. Raises WnodesError if unreachable.

    `look` is told the first bytes, as many as images/content.py looks at, before the others are
    read, and may raise.
    """
    pieces = read(source, credentials=credentials)
    head = b""
    for chunk in pieces:
        head += chunk
        if len(head) >= HEAD:
            break
    look(head)
    digest = hashlib.sha256(head)
    for chunk in pieces:
        digest.update(chunk)
    return digest.hexdigest()
