"""When somebody has proven that a certificate and a token are both theirs. Pure but for the clock.

A link lasts, so it takes more than to come in: no proxy, which jobs carry about, and no token that
is older, limited, or was ever meant for another service, which could have kept it. What remains:
whoever gets hold of a fresh token for this very service, with a certificate of their own that has
an account here, can bind its subject to that. So `whoami` shows links, and with a token alone one
is undone.
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
    if not user.identity.for_us_alone:
        return "only a token whose audience (aud) is this service alone can be linked"
    return stale(token, user)


def stale(token: bytes, user: User) -> str | None:
    """Why a token is not enough to change its subject's link; None if it is."""
    if user.identity.may != ALL:
        return "a token that is limited by scopes can't be linked, or parted"
    issued = float(json.loads(jws.read(token).payload)["iat"])
    if time.time() - issued > _FRESH:
        return f"the token is older than {_FRESH / 60:g} minutes: get another one"
    return None
