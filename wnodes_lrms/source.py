"""Where image files come from: a path that the node can read, or an http(s) URL."""

import errno
import hashlib
import os
import queue
import stat
import threading
from collections.abc import Callable, Iterator

import httpx

from wnodes_lrms.errors import WnodesError

_CHUNK = 1 << 20
_LOOK = 0.2  # seconds between two looks whether anybody still wants the bytes
_TIMEOUT = httpx.Timeout(30.0)  # seconds of silence, not of the whole download
_PLAIN = {"Accept-Encoding": "identity"}  # the checksum is of the file as it is stored


Fits = Callable[[int], None]


def any_size(_size: int) -> None:
    """For those who only look at the bytes."""


def read(source: str, fits: Fits = any_size) -> Iterator[bytes]:
    """The bytes of a file or an http(s) URL, in pieces.

    `fits` hears how many are to come before the first does, where that is told, and may raise.
    Raises WnodesError if it is unreachable, no regular file, or longer than it was said to be.
    """
    if source.startswith("/"):
        try:
            yield from _of_file(source, fits)
        except OSError as error:
            raise WnodesError(f"image source {source}: {error.strerror}") from error
        return
    try:
        with httpx.stream(
            "GET", source, timeout=_TIMEOUT, follow_redirects=True, headers=_PLAIN
        ) as answer:
            answer.raise_for_status()
            if "Content-Length" in answer.headers:  # httpx sees that it is kept to
                fits(int(answer.headers["Content-Length"]))
            yield from answer.iter_raw(_CHUNK)
    except httpx.HTTPStatusError as error:
        raise WnodesError(f"image source {source}: HTTP {error.response.status_code}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise WnodesError(f"image source {source}: {error}") from error


def _of_file(source: str, fits: Fits) -> Iterator[bytes]:
    """The same of a file. A pipe or a device has no end: it is not even waited for."""
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


def read_watched(source: str, check: Callable[[], None], fits: Fits = any_size) -> Iterator[bytes]:
    """The same, with `check` called several times a second: it may raise to stop.

    The source is read in a thread of its own: one that stands still can't be interrupted, and
    whoever waits for it must be able to leave.
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
            for chunk in read(source, fits):
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


def sha256(source: str) -> str:
    """The SHA-256 of all bytes, in hexadecimal. Raises WnodesError if unreachable."""
    digest = hashlib.sha256()
    for chunk in read(source):
        digest.update(chunk)
    return digest.hexdigest()
