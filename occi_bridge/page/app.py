"""The page as an ASGI application: which request is answered how, and what stands before all.

It is on a port of its own, on which no browser is asked for a certificate.
"""

import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace

from starlette.types import ASGIApp, Receive, Scope, Send

from occi_bridge.identity.user import DeniedError
from occi_bridge.occi.messages import OcciError
from occi_bridge.page import cookies, protection, templates
from occi_bridge.page.belongings import Belongings
from occi_bridge.page.console import Console
from occi_bridge.page.exchange import ANOTHER, LOG_IN, PLAIN, Ask, Fault, Form, Reply
from occi_bridge.page.images import Images
from occi_bridge.page.login import Login, refused
from occi_bridge.page.new import New
from occi_bridge.page.read_only import Followed, ReadOnly
from occi_bridge.page.ssh_keys import Keys
from occi_bridge.page.terminal import Terminals
from occi_bridge.page.vms import Vms
from occi_bridge.web import body
from wnodes_lrms.config.load import Page
from wnodes_lrms.errors import UnknownError

_FORM = "application/x-www-form-urlencoded"
_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_CONSOLE = re.compile(f"/vm/(?P<id>{_ID})/console/typed")
_OURS = "a fault of the service; it has been logged"

_SMALL = 8 * 1024  # bytes of a form that has no text to paste
_LARGE = 256 * 1024  # a key, and data for the first boot, each byte as three

Handler = Callable[[Ask], Awaitable[Reply]]


@dataclass(frozen=True)
class Route:
    """What answers which requests. Forms have `most` bytes.

    `again` shows a form of another session once more, filled in, and does nothing else; without it
    such a form is refused.
    """

    method: str
    path: re.Pattern[str]
    handler: Handler
    most: int = _SMALL
    again: Handler | None = None


def _get(path: str, handler: Handler) -> Route:
    return Route("GET", re.compile(path), handler)


def _post(path: str, handler: Handler, most: int = _SMALL, again: Handler | None = None) -> Route:
    return Route("POST", re.compile(path), handler, most, again)


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pages:
    """All of the pages."""

    login: Login
    vms: Vms
    console: Console
    terminals: Terminals
    new: New
    volumes: Belongings
    networks: Belongings
    images: Images
    keys: Keys
    usage: ReadOnly
    site: Followed


def application(page: Page, pages: Pages) -> ASGIApp:
    """The whole page."""
    return _Application(page, pages)


class _Application:
    def __init__(self, page: Page, pages: Pages) -> None:
        self._host = page.url.removeprefix("https://")
        self._login = pages.login
        self._terminals = pages.terminals
        self._open: list[Route] = [
            _get("/login", pages.login.show),
            _get("/login/(?P<way>[a-z0-9]{1,16})", pages.login.begin),
            _get("/login/(?P<way>[a-z0-9]{1,16})/back", pages.login.finish),
            _post("/logout", pages.login.leave),
        ]
        self._closed: list[Route] = [
            _get("/", pages.vms.show),
            _get("/vms", pages.vms.rows),
            _get(f"/vm/(?P<id>{_ID})", pages.vms.one),
            _get(f"/vm/(?P<id>{_ID})/now", pages.vms.now),
            _get(f"/vm/(?P<id>{_ID})/console", pages.console.show),
            _get(f"/vm/(?P<id>{_ID})/console/now", pages.console.now),
            _post(f"/vm/(?P<id>{_ID})/console/permit", pages.terminals.permit),
            _post(f"/vm/(?P<id>{_ID})/(?P<verb>[a-z]+)", pages.vms.act),
            _get("/new", pages.new.show),
            _post("/new", pages.new.make, _LARGE, pages.new.again),
            _get("/volumes", pages.volumes.show),
            _get("/volumes/now", pages.volumes.now),
            _post("/volumes", pages.volumes.make, again=pages.volumes.again),
            _post("/volumes/delete", pages.volumes.delete),
            _post("/volumes/(?P<verb>resize|snapshot)", pages.volumes.act),
            _get("/networks", pages.networks.show),
            _get("/networks/now", pages.networks.now),
            _post("/networks", pages.networks.make, again=pages.networks.again),
            _post("/networks/delete", pages.networks.delete),
            _get("/images", pages.images.show),
            _get("/images/now", pages.images.now),
            _post("/images/delete", pages.images.delete),
            _get("/keys", pages.keys.show),
            _post("/keys/forget", pages.keys.forget),
            _get("/usage", pages.usage.show),
            _get("/site", pages.site.show),
            _get("/site/now", pages.site.now),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        if scope["type"] != "http":
            return
        try:
            reply = await self._reply(scope, receive)
        except body.Gone:
            return
        except (Fault, DeniedError, OcciError, UnknownError) as error:
            reply = _shown(_fault(error), scope)
        except Exception:
            log.exception("page: %s %s failed", scope["method"], scope["path"])
            reply = _shown(Fault(500, _OURS), scope)
        kept = scope["path"].startswith("/static/") and reply.status == 200
        shown = b"" if scope["method"] == "HEAD" else reply.body
        await _send(send, "http", reply, shown, kept=kept)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request for a WebSocket: a console's, or none."""
        try:
            ask = await self._terminals.admit(self._ask_for_socket(scope), scope)
        except (Fault, DeniedError, OcciError, UnknownError) as error:
            fault = _fault(error)
            log.warning(
                'page: no console: address=%s status=%d reason="%s"',
                *(_address(scope), fault.status, fault.said),
            )
            reply = Reply(fault.said.encode(), fault.status, PLAIN)
            await _send(send, "websocket.http", reply, reply.body, kept=False)
        else:
            await self._terminals.carry(ask, receive, send)

    def _ask_for_socket(self, scope: Scope) -> Ask:
        """Raises Fault where it is asked for at another host, by another site, or elsewhere."""
        if refusal := protection.refusal("GET", self._host, scope["headers"]):
            raise Fault(*refusal)
        match = _CONSOLE.fullmatch(scope["path"])
        if not match:
            raise Fault(404, "there is nothing here")
        return _asked(scope, "GET", match.groupdict())

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        headers, method, path = scope["headers"], scope["method"], scope["path"]
        if refusal := protection.refusal(method, self._host, headers):
            log.warning(
                'page: refused: address=%s status=%d reason="%s"', _address(scope), *refusal
            )
            raise Fault(*refusal)
        if path.startswith("/static/"):
            return templates.static(path.removeprefix("/static/"))
        ask = _asked(scope, method, {})
        for route, names in self._found(ask, self._open):
            return await self._answer(route, replace(ask, names=names), scope, receive)
        for route, names in self._found(ask, self._closed):
            visitor = await self._login.visitor(ask)
            if visitor is None and path == "/":
                return await self._login.show(ask)
            if visitor is None and ask.method == "POST":
                kept = await self._kept(route, ask, scope, receive)
                raise Fault(401, LOG_IN, login=True, kept=kept)
            ask = replace(ask, names=names, visitor=visitor)
            reply = await self._answer(route, ask, scope, receive)
            if method == "POST" and visitor:
                log.info("page: %s by %s: %d", path, visitor.user.subject, reply.status)
            return reply
        raise Fault(404, "there is nothing here")

    def _found(self, ask: Ask, routes: list[Route]) -> Iterator[tuple[Route, dict[str, str]]]:
        method = "GET" if ask.method == "HEAD" else ask.method
        for route in routes:
            if route.method == method and (match := route.path.fullmatch(ask.path)):
                yield route, match.groupdict()

    async def _kept(self, route: Route, ask: Ask, scope: Scope, receive: Receive) -> Form | None:
        """What was filled in while the session ended; None where that is not worth the reading.

        A stranger's form is not read.
        """
        if route.again is None or cookies.session(ask.headers) is None or not _is_form(ask):
            return None
        return replace(ask, content=await body.whole(scope, receive, route.most)).form

    async def _answer(self, route: Route, ask: Ask, scope: Scope, receive: Receive) -> Reply:
        """Of a form only if this session's own page has sent it. Raises Fault."""
        if ask.method != "POST":
            return await route.handler(ask)
        secret = cookies.session(ask.headers)
        if secret is None:
            raise Fault(401, LOG_IN, login=True)
        if not _is_form(ask):
            raise Fault(415, "only the page's own forms are taken")
        ask = replace(ask, content=await body.whole(scope, receive, route.most))
        if cookies.is_form_token(secret, ask.form.one("token")):
            return await route.handler(ask)
        if route.again and ask.header(b"origin"):  # a browser's, and so of this very site
            return await route.again(ask)
        raise Fault(403, f"{ANOTHER}go back, load it anew, try again")


def _is_form(ask: Ask) -> bool:
    return ask.header(b"content-type").partition(";")[0].strip().lower() == _FORM


def _asked(scope: Scope, method: str, names: dict[str, str]) -> Ask:
    return Ask(
        method=method,
        path=scope["path"],
        headers=scope["headers"],
        address=_address(scope),
        names=names,
        query=scope["query_string"].decode("latin-1"),
    )


async def _send(send: Send, kind: str, reply: Reply, shown: bytes, *, kept: bool) -> None:
    headers = protection.headers(reply.headers, kept=kept)
    headers.append((b"content-type", reply.media.encode()))
    if reply.status != 304:
        headers.append((b"content-length", str(len(reply.body)).encode()))
    start = {"type": f"{kind}.response.start", "status": reply.status, "headers": headers}
    await send(start)
    await send({"type": f"{kind}.response.body", "body": shown})


def _address(scope: Scope) -> str:
    return str((scope.get("client") or ("",))[0])


def _fault(error: Fault | DeniedError | OcciError | UnknownError) -> Fault:
    if isinstance(error, Fault):
        return error
    if isinstance(error, DeniedError):
        return refused(error)
    if isinstance(error, OcciError):
        return Fault(error.status, error.message)
    log.error("page: %s", error)
    return Fault(503, error.told or str(error))


def _shown(fault: Fault, scope: Scope) -> Reply:
    if (b"accept", b"text/plain") in scope["headers"]:  # a script of the page's
        return Reply(fault.said.encode(), fault.status, PLAIN)
    secret = cookies.session(scope["headers"])
    page = templates.page(
        "fault",
        said=fault.said,
        login=fault.login,
        kept=fault.kept.filled_in if fault.kept else [],
        path=scope["path"],
        leave="" if fault.login or not secret else cookies.form_token(secret),
    )
    return replace(page, status=fault.status)
