"""Where image files come from: a path that the node can read, or an http(s) URL."""

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from wnodes_lrms.errors import WnodesError

_CHUNK = 1 << 20
_LOOK = 0.2  # seconds between two looks whether anybody still wants the bytes
_TIMEOUT = httpx.Timeout(30.0)  # seconds of silence, not of the whole download
_PLAIN = {"Accept-Encoding": "identity"}  # the checksum is of the file as it is stored


def read(source: str) -> Iterator[bytes]:
    """The bytes of a file or an http(s) URL, in pieces. Raises WnodesError if unreachable."""
    if source.startswith("/"):
        try:
            with Path(source).open("rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
        except OSError as error:
            raise WnodesError(f"image source {source}: {error.strerror}") from error
        return
    try:
        with httpx.stream(
            "GET", source, timeout=_TIMEOUT, follow_redirects=True, headers=_PLAIN
        ) as answer:
            answer.raise_for_status()
            yield from answer.iter_raw(_CHUNK)
    except httpx.HTTPStatusError as error:
        raise WnodesError(f"image source {source}: HTTP {error.response.status_code}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise WnodesError(f"image source {source}: {error}") from error


def read_watched(source: str, check: Callable[[], None]) -> Iterator[bytes]:
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
            for chunk in read(source):
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
