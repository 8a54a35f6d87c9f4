"""The form of a token before anybody has verified it: a JSON Web Signature (RFC 7515). Pure.

All of it is a stranger's. What two programs could read in two ways is refused: names that are there
twice, numbers that are none, other bytes than base64url's.
"""

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any

from wnodes_lrms.errors import RejectedError

LONGEST = 16384  # bytes; lists of entitlements are long
_NESTED = 100  # lists and objects in a part: Python takes milliseconds to make thousands of them
_FORM = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_TYPES = frozenset({"", "jwt", "at+jwt", "application/jwt", "application/at+jwt"})


@dataclass(frozen=True)
class Unverified:
    """A token as it is written. `issuer`, `key` and `algorithm` only tell how to verify it."""

    text: str
    issuer: str
    key: str
    algorithm: str
    payload: bytes


def read(token: bytes) -> Unverified:
    """A token's parts. Raises RejectedError for what is no token that could be verified."""
    if len(token) > LONGEST:
        raise RejectedError(f"the token has more than {LONGEST} bytes")
    if not _FORM.fullmatch(token):
        raise RejectedError("the token is not of the form header.claims.signature (a JWT)")
    head, body, _signature = token.split(b".")
    header = _object(_decoded(head), "the token's header")
    payload = _decoded(body)
    claims = _object(payload, "the token's claims")
    if "crit" in header:
        raise RejectedError("the token has critical extensions (crit): none is known here")
    if "b64" in header:
        raise RejectedError("the token's header has b64, which is for no token")
    kind = header.get("typ", "")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise RejectedError("the token's type (typ) is not that of an access token")
    return Unverified(
        token.decode(),
        _text(claims, "iss", "the token does not say who issued it (iss)"),
        _text(header, "kid", "the token does not say which key signed it (kid)"),
        _text(header, "alg", "the token does not say how it is signed (alg)"),
        payload,
    )


def once(data: bytes, what: str) -> dict[str, Any]:
    """A JSON object in which no name is twice. Raises RejectedError."""
    try:
        found = json.loads(data.decode(), object_pairs_hook=_pairs, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise RejectedError(f"{what} can't be read as JSON") from error
    if not isinstance(found, dict):
        raise RejectedError(f"{what} can't be read as a JSON object")
    return found


def _object(data: bytes, what: str) -> dict[str, Any]:
    """The same, of a stranger's: what would take long to read is refused before."""
    if data.count(b"[") + data.count(b"{") > _NESTED:
        raise RejectedError(f"{what} have more than {_NESTED} lists and objects")
    return once(data, what)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON's")


def _decoded(part: bytes) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except binascii.Error as error:
        raise RejectedError("the token is not base64url") from error


def _text(values: dict[str, Any], name: str, otherwise: str) -> str:
    value = values.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 1024:
        raise RejectedError(otherwise)
    return value
