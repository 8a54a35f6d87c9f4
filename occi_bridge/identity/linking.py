"""When somebody has proven that a certificate and a token are both theirs. Pure but for the clock.

A link lasts, so it takes more than to come in: a proxy or a token that was stolen from a job must
not give what is somebody's to a thief for good.
"""

import json
import time

from occi_bridge.identity import jws
from occi_bridge.identity.user import ALL, User
from wnodes_lrms.tls import names

_FRESH = 600.0  # seconds since the token was issued


def refusal(chain: tuple[bytes, ...], token: bytes, user: User) -> str | None:
    """Why they may not be linked, in a sentence; None if they may. Both have been verified."""
    if names.is_proxy(names.parse(chain[0])):
        return "a proxy can't be linked: use the certificate itself"
    if user.identity.may != ALL:
        return "a token that is limited by scopes can't be linked"
    issued = float(json.loads(jws.read(token).payload)["iat"])
    if time.time() - issued > _FRESH:
        return f"the token is older than {_FRESH / 60:g} minutes: get another one"
    return None
