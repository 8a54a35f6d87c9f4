"""How long what a user shows is good for: read from it on this host, without any check of its
signature. That is for words alone; whether it counts is the service's to say.
"""

import base64
import json
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from wnodes_lrms.cli.credentials import Credentials
from wnodes_lrms.errors import RejectedError

_RENEW = "wnodes cloud login renews it"


def fault(shown: Credentials) -> str | None:
    """Why it can't be good any more, in a sentence; None where it can."""
    if shown.token:
        end = token_end(shown.token)
        if end is not None and end <= time.time():
            return f"the token has expired {ago(time.time() - end)} ago; {_RENEW}"
    if shown.files:
        end = certificate_end(shown.files[0])
        if end is not None and end <= time.time():
            return f"{shown.files[0]} has expired {ago(time.time() - end)} ago; {_RENEW}"
    return None


def end(shown: Credentials) -> float | None:
    """When it ends, in seconds since the epoch; None for what does not say so."""
    if shown.token:
        return token_end(shown.token)
    return certificate_end(shown.files[0]) if shown.files else None


def token_end(token: str) -> float | None:
    """When a token ends, in seconds since the epoch; None for one that does not say so."""
    try:
        return float(_claims(token)["exp"])
    except (IndexError, ValueError, KeyError, TypeError):
        return None


def token_name(token: str) -> str:
    """Whom a token is for, as issuer#subject; words in its place where it does not say so."""
    try:
        claims = _claims(token)
        return f"{claims['iss']}#{claims['sub']}"
    except (IndexError, ValueError, KeyError, TypeError):
        return "the user of a token that does not say whose it is"


def audiences(token: str) -> list[str]:
    """Whom a token may be shown to (RFC 7519, 4.1.3); none for one that does not say so."""
    try:
        told = _claims(token)["aud"]
    except (IndexError, ValueError, KeyError, TypeError):
        return []
    return [str(each) for each in told] if isinstance(told, list) else [str(told)]


def certificate_name(path: Path) -> str:
    """The name of the certificate in a file, in one line. Raises RejectedError."""
    from cryptography import x509  # takes long to import

    from wnodes_lrms.tls.names import dn_of

    try:
        return dn_of(x509.load_pem_x509_certificate(path.read_bytes()))
    except OSError as fault:
        raise RejectedError(f"{path} can't be used: {fault.strerror}") from fault
    except ValueError as fault:
        raise RejectedError(f"{path} can't be used: no certificate is in it") from fault


def certificate_end(path: Path) -> float | None:
    """When the first of the certificates in a file ends that ends: a proxy is no better than its
    user's own. None for what can't be read.
    """
    from cryptography import x509  # takes long to import

    try:
        found: Iterable[x509.Certificate] = x509.load_pem_x509_certificates(path.read_bytes())
        return min(each.not_valid_after_utc.timestamp() for each in found)
    except (OSError, ValueError):
        return None


def when(told: str, now: float) -> str:
    """A time as the service tells it (ISO 8601), in the reader's zone: 14:20 CET, with its day if
    that is not today. "" for what is no such time.
    """
    try:
        at = datetime.fromisoformat(told).astimezone()
        day = datetime.fromtimestamp(now, at.tzinfo).date()
    except (ValueError, OverflowError, OSError):
        return ""
    return at.strftime("%H:%M %Z" if at.date() == day else "%Y-%m-%d %H:%M %Z")


def ago(seconds: float) -> str:
    """A time in the two largest units that it has: 3 d 4 h, 1 h 59 min, 12 s."""
    left, words = int(seconds), []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if left >= length:
            words.append(f"{left // length} {unit}")
            left %= length
    return " ".join(words[:2]) or "0 s"


def _claims(token: str) -> Any:
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
