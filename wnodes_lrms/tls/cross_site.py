"""Requests that a page of another site has made a browser send, with its user's certificate.

Browsers tell where a request comes from: Sec-Fetch-Site (W3C Fetch Metadata) and Origin (RFC 6454;
sent with all but GET and HEAD). Other clients send neither. Pure.
"""

from collections.abc import Iterable

_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, 9.2.1: they change nothing
_OWN = frozenset({b"same-origin", b"none"})  # none: the user's own doing, as a bookmark


def refusal(method: str, scheme: str, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Why a request may not be carried out, in a sentence; None where it may.

    Names of headers are in lower case.
    """
    if method in _SAFE:
        return None
    headers = list(headers)
    ours = {_origin(scheme.encode() + b"://" + value) for name, value in headers if name == b"host"}
    for name, value in headers:
        foreign = (name == b"sec-fetch-site" and value.strip().lower() not in _OWN) or (
            name == b"origin" and {_origin(value)} != ours
        )
        if foreign:
            said = f"{name.decode()}: {ascii(value.decode('latin-1'))[1:-1][:100]}"
            return f"a page of another site may not ask for this ({said})"
    return None


def _origin(text: bytes) -> bytes:
    """As browsers write it: in lower case, without the port that https has anyway."""
    text = text.strip().lower()
    return text.removesuffix(b":443") if text.startswith(b"https://") else text
