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
from occi_bridge.page.exchange import LOG_IN, PLAIN, Ask, Fault, Reply
from occi_bridge.page.login import Login, refused
from occi_bridge.page.new import New
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

Handler = Callable[[Ask], Awaitable[Reply]]
Route = tuple[str, re.Pattern[str], Handler]

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
    keys: Keys


def application(page: Page, pages: Pages) -> ASGIApp:
    """The whole page."""
    return _Application(page, pages)


class _Application:
    def __init__(self, page: Page, pages: Pages) -> None:
        self._host = page.url.removeprefix("https://")
        self._login = pages.login
        self._terminals = pages.terminals
        self._open: list[Route] = [
            ("GET", re.compile("/login"), pages.login.show),
            ("GET", re.compile("/login/(?P<way>[a-z0-9]{1,16})"), pages.login.begin),
            ("GET", re.compile("/login/(?P<way>[a-z0-9]{1,16})/back"), pages.login.finish),
            ("POST", re.compile("/logout"), pages.login.leave),
        ]
        self._closed: list[Route] = [
            ("GET", re.compile("/"), pages.vms.show),
            ("GET", re.compile("/vms"), pages.vms.rows),
            ("GET", re.compile(f"/vm/(?P<id>{_ID})"), pages.vms.one),
            ("GET", re.compile(f"/vm/(?P<id>{_ID})/now"), pages.vms.now),
            ("GET", re.compile(f"/vm/(?P<id>{_ID})/console"), pages.console.show),
            ("GET", re.compile(f"/vm/(?P<id>{_ID})/console/now"), pages.console.now),
            ("POST", re.compile(f"/vm/(?P<id>{_ID})/console/permit"), pages.terminals.permit),
            ("POST", re.compile(f"/vm/(?P<id>{_ID})/(?P<verb>[a-z]+)"), pages.vms.act),
            ("GET", re.compile("/new"), pages.new.show),
            ("POST", re.compile("/new"), pages.new.make),
            ("GET", re.compile("/volumes"), pages.volumes.show),
            ("POST", re.compile("/volumes"), pages.volumes.make),
            ("POST", re.compile("/volumes/delete"), pages.volumes.delete),
            ("GET", re.compile("/networks"), pages.networks.show),
            ("POST", re.compile("/networks"), pages.networks.make),
            ("POST", re.compile("/networks/delete"), pages.networks.delete),
            ("GET", re.compile("/keys"), pages.keys.show),
            ("POST", re.compile("/keys/forget"), pages.keys.forget),
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
        for handler, names in self._found(ask, self._open):
            ask = replace(ask, names=names)
            return await handler(await self._with_form(ask, scope, receive))
        for handler, names in self._found(ask, self._closed):
            visitor = await self._login.visitor(ask)
            if visitor is None and path == "/":
                return await self._login.show(ask)
            if visitor is None and ask.method == "POST":
                raise Fault(401, LOG_IN, login=True)  # a stranger's form is not read
            ask = replace(ask, names=names, visitor=visitor)
            reply = await handler(await self._with_form(ask, scope, receive))
            if method == "POST" and visitor:
                log.info("page: %s by %s: %d", path, visitor.user.subject, reply.status)
            return reply
        raise Fault(404, "there is nothing here")

    def _found(self, ask: Ask, routes: list[Route]) -> Iterator[tuple[Handler, dict[str, str]]]:
        method = "GET" if ask.method == "HEAD" else ask.method
        for verb, form, handler in routes:
            if verb == method and (match := form.fullmatch(ask.path)):
                yield handler, match.groupdict()

    async def _with_form(self, ask: Ask, scope: Scope, receive: Receive) -> Ask:
        """With a form that this session's own page has sent, where one is sent. Raises Fault."""
        if ask.method != "POST":
            return ask
        secret = cookies.session(ask.headers)
        if secret is None:
            raise Fault(401, LOG_IN, login=True)
        if ask.header(b"content-type").partition(";")[0].strip().lower() != _FORM:
            raise Fault(415, "only the page's own forms are taken")
        ask = replace(ask, content=await body.whole(scope, receive))
        if not cookies.is_form_token(secret, ask.form.one("token")):
            raise Fault(403, "this form is of another session: go back, load it anew, try again")
        return ask


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
    page = templates.page("fault", said=fault.said, login=fault.login)
    return replace(page, status=fault.status)
