"""GET /whoami: how the service sees the client, and why it lets them do nothing if so.

POST /whoami, with a certificate and a token: they are the same person from now on. DELETE /whoami,
with the token: they are no more.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from occi_bridge.identity import linking
from occi_bridge.identity.user import ALL, DeniedError, Identity, Kind, User
from occi_bridge.occi.messages import OcciError
from occi_bridge.service.quota import Amount
from occi_bridge.web import bearer
from occi_bridge.web.interfaces import Link, Links, RenewableAuthenticator
from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.tls import names
from wnodes_lrms.tls.http_protocol import CHAIN

PATH = "/whoami"

log = logging.getLogger(__name__)


class Whoami:
    """The route's three methods."""

    def __init__(
        self,
        authenticator: RenewableAuthenticator,
        used: Callable[[User], Amount] | None = None,
        links: Links | None = None,
    ) -> None:
        """`used` tells what a user has; it may block."""
        self._authenticator = authenticator
        self._used = used
        self._links = links

    async def answer(self, request: Request) -> Response:
        """Whatever happens, the answer is JSON."""
        seen: dict[str, object] = {"account": None, "grant": None, "quota": None, "refused": None}
        seen["links"] = []
        chain = request.scope.get("extensions", {}).get(CHAIN, ())
        address = request.client.host if request.client else ""
        try:
            token = bearer.token(request.scope["headers"], request.scope["query_string"])
            user = await self._authenticator.user(chain, address, token)
            if request.method in {"POST", "DELETE"}:
                if request.method == "POST":
                    await self._link(chain, address, token, user)
                else:
                    await self._part(address, token, user)
                self._authenticator.look_again()
                user = await self._authenticator.user(chain, address, token)
        except DeniedError as error:
            seen |= _who(error.identity, None) | {"refused": error.reason}
            known = error.status == 403 and request.method in {"GET", "HEAD"}
            refused = JSONResponse(seen, 200 if known else error.status)
            refused.raw_headers += bearer.challenges(error)  # there may be two of one name
            return refused
        seen |= _who(user.identity, user) | await self._allowed(user)
        counted = user.identity.kind is Kind.CERTIFICATE
        if chain and not counted:
            seen["ignored"] = names.owner(chain)
        return JSONResponse(seen)

    async def _allowed(self, user: User) -> dict[str, object]:
        """What the user may have, and has."""
        grant = user.grant.model_dump()
        has: dict[str, object] = {}
        links: list[dict[str, object]] | None = []
        # If the database is away, who they are can be told all the same.
        if self._used:
            with suppress(OcciError):
                has = asdict(await run_in_threadpool(self._used, user))
        if self._links is not None:
            try:
                links = [_shown(each) for each in await run_in_threadpool(self._links.of, user.key)]
            except UnknownError:
                links = None
        limits = [name for name in asdict(Amount()) if name in grant]
        quota = {name: {"allowed": grant.pop(name), "used": has.get(name)} for name in limits}
        return {"account": user.account, "quota": quota, "grant": grant, "links": links}

    async def _link(
        self, chain: tuple[bytes, ...], address: str, token: bytes | None, user: User
    ) -> None:
        """Link the names of both credentials of a request. Raises DeniedError."""
        of_token = user.identity.kind is Kind.TOKEN
        if self._links is None or not (token and chain and of_token):
            raise DeniedError(400, "a certificate and a token are needed, in one request")
        holder = await self._authenticator.user(chain, address)
        if fault := linking.refusal(chain, token, user):
            raise DeniedError(403, fault, user.identity)
        try:
            await run_in_threadpool(self._links.make, user.subject, holder.subject)
        except RejectedError as error:
            raise DeniedError(409, str(error), user.identity) from error
        except UnknownError as error:
            raise DeniedError(503, error.told or str(error), user.identity) from error
        log.info('linked: sub="%s" dn="%s" address=%s', user.subject, holder.subject, address)

    async def _part(self, address: str, token: bytes | None, user: User) -> None:
        """Take the link of a token's subject away. Raises DeniedError."""
        if self._links is None or not token or user.identity.kind is not Kind.TOKEN:
            raise DeniedError(400, "the token is needed whose link is to go")
        if fault := linking.stale(token, user):
            raise DeniedError(403, fault, user.identity)
        try:
            if not await run_in_threadpool(self._links.remove, user.subject):
                raise DeniedError(404, f"{user.subject} is not linked", user.identity)
        except UnknownError as error:
            raise DeniedError(503, error.told or str(error), user.identity) from error
        log.info('parted: sub="%s" dn="%s" address=%s', user.subject, user.key, address)


def route(
    authenticator: RenewableAuthenticator,
    used: Callable[[User], Amount] | None = None,
    links: Links | None = None,
) -> Route:
    """The route. The answer is JSON: kind (certificate or token), subject, dn (null for a token),
    fqans (or groups), may (null, or the capabilities of a token that is limited to them), owner (of
    what they make), ignored (null, or the DN of a certificate that did not count), account, grant,
    quota ({what: {allowed, used}}), links ([{subject, dn, created (epoch seconds)}], all subjects
    that are one person with the user; null if that can't be told now), refused (null, or why). 200
    for everybody whose certificate or token is good, 401 for all others.
    """
    return Route(PATH, Whoami(authenticator, used, links).answer, methods=["GET", "POST", "DELETE"])


def _shown(link: Link) -> dict[str, object]:
    return {"subject": link.subject, "dn": link.dn, "created": link.created}


def _who(identity: Identity | None, user: User | None) -> dict[str, object]:
    if not identity:
        nobody = dict.fromkeys(("kind", "subject", "may", "owner", "ignored"))
        return {**nobody, "dn": "", "fqans": ()}
    token = identity.kind is Kind.TOKEN
    return {
        "kind": identity.kind,
        "subject": identity.subject,
        "dn": None if token else identity.subject,
        "fqans": identity.groups,
        "may": None if identity.may == ALL else sorted(identity.may),
        "owner": user.key if user else None,
        "ignored": None,
    }
