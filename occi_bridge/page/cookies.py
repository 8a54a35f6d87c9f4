"""The page's two cookies, and the token in its forms. Pure.

Names with __Host- are taken by browsers only over TLS, for one host and all of its paths, and never
from a neighbouring name (RFC 6265bis, 4.1.3.2). They don't tell ports of a host apart.
"""

import base64
import hmac
import re
from collections.abc import Iterable

SESSION = "__Host-wnodes"
LOGIN = "__Host-wnodes-login"  # of a login that has begun
_LOGIN_LIFE = 600  # seconds to come back from the issuer

_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
_ATTEMPT = re.compile(r"([a-z0-9]{1,16})\.([A-Za-z0-9_-]{43})")


def session(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The secret of the session that a browser has; None without one, or with two."""
    found = _values(headers, SESSION)
    return found[0] if len(found) == 1 and _SECRET.fullmatch(found[0]) else None


def attempt(headers: Iterable[tuple[bytes, bytes]], way: str) -> str | None:
    """The secret of the login that this browser has begun this way."""
    found = _values(headers, LOGIN)
    match = _ATTEMPT.fullmatch(found[0]) if len(found) == 1 else None
    return match[2] if match and match[1] == way else None


def opened(secret: str) -> str:
    """Set-Cookie of a new session. It ends with the browser, if not before."""
    return f"{SESSION}={secret}; Path=/; Secure; HttpOnly; SameSite=Lax"


def begun(way: str, secret: str) -> str:
    """Set-Cookie of a login that begins. Lax, as the user comes back from another site."""
    return f"{LOGIN}={way}.{secret}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={_LOGIN_LIFE}"


def gone(name: str) -> str:
    """Set-Cookie that takes a cookie away."""
    return f"{name}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"


def form_token(secret: str) -> str:
    """What a form of this session has in it, and another site can't know."""
    digest = hmac.digest(secret.encode(), b"form", "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def is_form_token(secret: str, given: str) -> bool:
    """Whether a form is of this session."""
    return hmac.compare_digest(form_token(secret).encode(), given.encode())


def _values(headers: Iterable[tuple[bytes, bytes]], name: str) -> list[str]:
    pairs = (
        part.strip().partition("=")
        for header, value in headers
        if header == b"cookie"
        for part in value.decode("latin-1").split(";")
    )
    return [value for key, _, value in pairs if key == name]
