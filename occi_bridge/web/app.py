"""The OCCI service as an ASGI application: HTTP on this side, the operations behind it.

An answer to a GET that has been rendered already goes out from the event loop; all else
runs in threads, so that nobody waits for somebody else's request.
"""

import asyncio
import logging
import re
from collections.abc import Hashable, Sequence
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from occi_bridge.identity.user import Capability, DeniedError, User
from occi_bridge.occi import negotiate, render
from occi_bridge.occi.messages import OcciError
from occi_bridge.occi.render import Answer
from occi_bridge.web import bearer, body, routes
from occi_bridge.web.cache import Cache
from occi_bridge.web.interfaces import Authenticator, Service
from occi_bridge.web.request import Call, NotAllowedError, accept
from occi_bridge.web.revisions import Revisions
from wnodes_lrms.tls import cross_site

_HEADERS = 128 * 1024  # bytes; user data may come in a header
_RETRY = 10  # seconds after which one whom nobody could judge may ask again
# What an answer to a GET depends on, of the request's headers.
_VARIES = frozenset({b"accept", b"host", b"category", b"x-occi-attribute"})
_HOST = re.compile(r"[A-Za-z0-9.-]{1,255}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")

_log = logging.getLogger(__name__)


def application(
    service: Service, authenticator: Authenticator, others: Sequence[Route] = ()
) -> ASGIApp:
    """The whole service. `others` are routes that are not OCCI's, at paths of their own."""
    return _Occi(service, authenticator, others)


class _Occi:
    def __init__(
        self, service: Service, authenticator: Authenticator, others: Sequence[Route]
    ) -> None:
        self._service = service
        self._authenticator = authenticator
        self._others = frozenset(route.path for route in others)
        self._router = Router(list[BaseRoute](others))
        self._cache = Cache()
        self._revisions = Revisions(service)
        self._rendering: dict[Hashable, asyncio.Future[Answer]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        foreign = _foreign(scope)
        if scope["type"] != "http" or (scope["path"] in self._others and not foreign):
            await self._router(scope, receive, send)
            return
        try:
            if foreign:
                raise OcciError(403, foreign)
            answer = await self._answer(scope, receive)
        except body.Gone:
            return
        except OcciError as fault:
            answer = _fault(scope, fault)
        except DeniedError as fault:
            retry = _RETRY if fault.status == 503 else None
            more = bearer.challenges(fault)
            answer = _fault(scope, OcciError(fault.status, fault.reason, retry), more)
        except Exception:
            _log.exception("%s %s failed", scope["method"], scope["path"])
            answer = _fault(scope, OcciError(500, "a fault of the service; it has been logged"))
        shown = b"" if scope["method"] == "HEAD" else answer.body
        start = {"type": "http.response.start", "status": answer.status}
        await send({**start, "headers": answer.headers})
        await send({"type": "http.response.body", "body": shown})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        varies = []
        size = 0
        for header in scope["headers"]:
            name, value = header
            size += len(name) + len(value)
            if name in _VARIES:
                varies.append(header)
            elif name == b"user-agent" and b"OCCI/" in value:
                negotiate.check_agent(value.decode("latin-1"))
        if size > _HEADERS:
            raise OcciError(431, f"the headers have more than {_HEADERS} bytes")
        chain = scope.get("extensions", {}).get("wnodes.chain", ())
        address = (scope.get("client") or ("",))[0]
        token = bearer.token(scope["headers"], scope["query_string"])
        user = await self._authenticator.user(chain, address, token)
        if scope["method"] not in {"GET", "HEAD"}:
            content = await body.whole(scope, receive)
            call = _call(scope, user, content)
            answer = await run_in_threadpool(routes.answer, self._service, call)
            _log.info("%s %s by %s: %d", call.method, call.path, user.subject, answer.status)
            return answer
        user.require(Capability.READ)
        revision = await self._revisions.now()
        key = (
            *(user.key, user.groups, user.account, user.grant),
            *(scope["path"], scope["query_string"], scope["scheme"], tuple(varies)),
        )
        return self._cache.get(revision, key) or await self._rendered(scope, user, revision, key)

    async def _rendered(self, scope: Scope, user: User, revision: int, key: Hashable) -> Answer:
        """The answer to a GET; however many ask for the same at once, it is rendered once."""
        running = self._rendering.get((revision, key))
        if not running:
            call = _call(scope, user, b"")
            work = run_in_threadpool(routes.answer, self._service, call)
            running = asyncio.ensure_future(work)
            self._rendering[revision, key] = running
            running.add_done_callback(lambda _: self._rendering.pop((revision, key)))
        answer = await asyncio.shield(running)
        if await self._revisions.now() == revision:
            self._cache.put(revision, key, answer)
        return answer


def _foreign(scope: Scope) -> str | None:
    """What is to be said to a page of another site that makes a user's browser ask for this."""
    if scope["type"] != "http":
        return None
    foreign = cross_site.refusal(scope["method"], scope.get("scheme", "http"), scope["headers"])
    if foreign:
        address = (scope.get("client") or ("",))[0]
        _log.warning('refused: address=%s status=403 reason="%s"', address, foreign)
    return foreign


def _call(scope: Scope, user: User, content: bytes) -> Call:
    headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        raise OcciError(400, "one Host header is needed, with the name of this service")
    query = scope["query_string"].decode("latin-1")
    return Call(
        user=user,
        method=scope["method"],
        path=scope["path"],
        query=dict(parse_qsl(query, keep_blank_values=True)),
        headers=headers,
        content=content,
        base=f"{scope['scheme']}://{hosts[0]}",
    )


def _fault(scope: Scope, fault: OcciError, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    """An error with these headers, in JSON if the client likes that best, else as text."""
    try:
        media = negotiate.accepted(accept(scope["headers"]), negotiate.INSTANCE)
    except OcciError:
        media = negotiate.PLAIN
    more = [*headers]
    if isinstance(fault, NotAllowedError):
        more.append((b"allow", fault.methods.encode()))
    if fault.status in {408, 413, 431}:  # the rest of the request is not read
        more.append((b"connection", b"close"))
    return render.error(media, fault, tuple(more))
