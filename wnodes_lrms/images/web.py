"""Image files that come from web servers, by http(s).

Passwords for these are in a file of root's alone (netrc(5)), never in a URL. This module is
imported where there is such an image, and only then: the HTTP client and what comes with it would
be a tenth of a bait's memory.
"""

import netrc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from wnodes_lrms.errors import WnodesError

_CHUNK = 1 << 20
_TIMEOUT = httpx.Timeout(30.0)  # seconds of silence, not of the whole download
_PLAIN = {"Accept-Encoding": "identity"}  # the checksum is of the file as it is stored


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


def read(
    source: str, fits: Callable[[int], None], credentials: str | None = None
) -> Iterator[bytes]:
    """The bytes at a URL, in pieces; see source.read(). `credentials` is as login() takes it."""
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
