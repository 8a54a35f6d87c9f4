"""Where image files come from: a path that the node can read, or an http(s) URL.

Passwords for web servers are in a file of root's alone (netrc(5)), never in a URL.
"""

import errno
import hashlib
import netrc
import os
import queue
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from wnodes_lrms.errors import WnodesError
from wnodes_lrms.images.content import HEAD

_CHUNK = 1 << 20
_LOOK = 0.2  # seconds between two looks whether anybody still wants the bytes
_TIMEOUT = httpx.Timeout(30.0)  # seconds of silence, not of the whole download
_PLAIN = {"Accept-Encoding": "identity"}  # the checksum is of the file as it is stored


Fits = Callable[[int], None]


def any_size(_size: int) -> None:
    """For callers that only look at the bytes."""


def login(credentials: str | None) -> httpx.Auth | None:
    """Who we are to web servers, by a file in the form of netrc(5); None: nobody.

    It is not sent on to another server after a redirect. Raises WnodesError, which quotes nothing
    of the file, if it can't be read, or if others can read it.
    """
    if credentials is None:
        return None
    try:
        status = Path(credentials).stat()
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o077:
            raise WnodesError(f"{credentials}: must be root's, with mode 0600")
        return httpx.NetRCAuth(credentials)
    except OSError as error:
        raise WnodesError(f"{credentials}: {error.strerror}") from error
    except (netrc.NetrcParseError, UnicodeDecodeError) as error:
        line = getattr(error, "lineno", None)
        at = f", line {line}" if line else ""
        raise WnodesError(f"{credentials}{at}: is not as netrc(5) has it") from None


def read(source: str, fits: Fits = any_size, *, credentials: str | None = None) -> Iterator[bytes]:
    """The bytes of a file or an http(s) URL, in pieces.

    `fits` is told how many are to come, where that is known, before the first does, and may raise.
    `credentials` is as login() takes it. Raises WnodesError if it is unreachable, no regular file,
    or longer than it was said to be.
    """
    if source.startswith("/"):
        try:
            yield from _of_file(source, fits)
        except OSError as error:
            raise WnodesError(f"image source {source}: {error.strerror}") from error
        return
    auth = login(credentials)
    try:
        with httpx.stream(
            "GET", source, timeout=_TIMEOUT, follow_redirects=True, headers=_PLAIN, auth=auth
        ) as answer:
            answer.raise_for_status()
            if "Content-Length" in answer.headers:  # httpx sees that it is kept to
                fits(int(answer.headers["Content-Length"]))
            yield from answer.iter_raw(_CHUNK)
    except httpx.HTTPStatusError as error:
        raise WnodesError(f"image source {source}: HTTP {error.response.status_code}") from error
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:  # the last: http_proxy is odd
        told = (
            f"image source {source}: it can't be fetched: its server does not answer as it should"
        )
        raise WnodesError(f"image source {source}: {error}", told=told) from error


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
