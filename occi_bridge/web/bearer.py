"""Bearer tokens in HTTP (RFC 6750): where one is in a request, and what is said of a bad one."""

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl

from occi_bridge.identity.user import DeniedError

_REALM = 'realm="OCCI"'
_QUOTABLE = re.compile(r"[^ !#-\[\]-~]")  # RFC 6750, 3: what error_description can't have
_LONGEST = 300  # characters of it


def token(headers: Iterable[tuple[bytes, bytes]], query: bytes) -> bytes | None:
    """The token of a request; None without one. Raises DeniedError 400.

    It has one place only, a header: what is in a URL is in logs and histories.
    """
    given = [value for name, value in headers if name == b"authorization"]
    if query and any(key == "access_token" for key, _ in parse_qsl(query.decode("latin-1"))):
        said = "a token in the URL is not taken, and may be in logs now: send it in Authorization"
        raise DeniedError(400, said, error="invalid_request")
    bearers = [value for value in given if value[:7].lower() == b"bearer "]
    if not bearers:
        return None
    if len(given) > 1:
        said = "there is more than one Authorization header"
        raise DeniedError(400, said, error="invalid_request")
    return bearers[0][7:].strip()


def challenges(denied: DeniedError) -> list[tuple[bytes, bytes]]:
    """The WWW-Authenticate headers that belong to a refusal."""
    found = []
    if denied.error:
        said = _QUOTABLE.sub("?", denied.reason)[:_LONGEST]
        found.append(f'Bearer {_REALM}, error="{denied.error}", error_description="{said}"')
    elif denied.status == 401:
        found.append(f"X509 {_REALM}")
        if denied.tokens:
            found.append(f"Bearer {_REALM}")
    return [(b"www-authenticate", each.encode()) for each in found]
