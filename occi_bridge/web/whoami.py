"""GET /whoami: how the service sees the client, and why it lets them do nothing if so."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from occi_bridge.identity.authenticator import DeniedError, User
from occi_bridge.occi.messages import OcciError
from occi_bridge.service.quota import Amount
from occi_bridge.web.interfaces import Authenticator
from wnodes_lrms.tls.http_protocol import CHAIN

PATH = "/whoami"


def route(authenticator: Authenticator, used: Callable[[User], Amount] | None = None) -> Route:
    """The route. `used` tells what a user has; it may block.

    The answer is JSON: dn, fqans, account, grant, quota ({what: {allowed, used}}), refused (null,
    or why). 200 for everybody whose certificates TLS has taken, 401 for all others.
    """

    async def whoami(request: Request) -> Response:
        chain = request.scope.get("extensions", {}).get(CHAIN, ())
        address = request.client.host if request.client else ""
        seen: dict[str, object] = {"account": None, "grant": None, "quota": None, "refused": None}
        try:
            user = await authenticator.user(chain, address)
        except DeniedError as error:
            seen |= {"dn": error.dn, "fqans": error.fqans, "refused": error.reason}
            return JSONResponse(seen, 200 if chain else error.status)
        grant = user.grant.model_dump()
        has = {}
        if used:
            with suppress(OcciError):  # the database is away: who they are can be told all the same
                has = asdict(await run_in_threadpool(used, user))
        limits = [name for name in asdict(Amount()) if name in grant]
        seen |= {"dn": user.dn, "fqans": user.fqans, "account": user.account}
        seen["quota"] = {
            name: {"allowed": grant.pop(name), "used": has.get(name)} for name in limits
        }
        seen["grant"] = grant
        return JSONResponse(seen)

    return Route(PATH, whoami)
