"""Where image files come from: a path that the node can read, or an http(s) URL."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx

from wnodes_lrms.errors import WnodesError

_CHUNK = 1 << 20
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
    except httpx.HTTPError as error:
        raise WnodesError(f"image source {source}: {error}") from error


def sha256(source: str) -> str:
    """The SHA-256 of all bytes, in hexadecimal. Raises WnodesError if unreachable."""
    digest = hashlib.sha256()
    for chunk in read(source):
        digest.update(chunk)
    return digest.hexdigest()
