"""The bait's HTTPS service, for bridges and administrators.

Callers are known by their certificates (mutual TLS) and must be among `[api].clients`. JSON in and
out; an error is {"error": "one sentence"}. /openapi.json describes it.
"""

import logging
import threading
from collections.abc import Callable, Collection, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bait.frontend import leases as apileases
from bait.frontend import machines, models
from bait.frontend.consoles import Consoles
from bait.frontend.description import describe
from bait.frontend.ports import Cloud, NodeStatus, Tunnels
from wnodes_lrms.config.load import Config
from wnodes_lrms.console import LONGEST
from wnodes_lrms.errors import (
    AbsentError,
    ConflictError,
    RejectedError,
    UnknownError,
    WnodesError,
)
from wnodes_lrms.lrms.lease import Leases
from wnodes_lrms.tls import cross_site
from wnodes_lrms.tls.http_protocol import CHAIN
from wnodes_lrms.tls.names import dn_of
from wnodes_lrms.tls.server import Server, serve
from wnodes_lrms.version import VERSION

_STATUS: tuple[tuple[type[WnodesError], int], ...] = (
    (AbsentError, 404),
    (ConflictError, 409),
    (RejectedError, 422),
    (UnknownError, 503),
    (WnodesError, 500),
)
_FAULTS = {
    400: "The request is malformed.",
    403: "The caller is not one of the bait's clients.",
    404: "There is no such thing on this node.",
    409: "The state of the VM or volume does not allow it.",
    422: "Refused: by policy, for its signature, or by the batch system.",
    503: "The batch system, libvirt or the storage does not answer; nothing follows from that.",
}
_RETRY_AFTER = "5"  # seconds
_LONGEST_BODY = 262144  # bytes; the longest has an order in it
_PARTING = 10.0  # seconds for requests at hand when the bait stops

log = logging.getLogger(__name__)


class Handle:
    """The service while it runs."""

    def __init__(self, server: Server, wake: Callable[[], None]) -> None:
        self._server = server
        self._wake = wake
        self._thread = threading.Thread(target=server.run, name="api", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the service; requests at hand get a few seconds."""
        self._server.should_exit = True
        self._wake()  # who listens for news goes too
        self._thread.join(_PARTING)


def start(
    config: Config, node: str, cloud: Cloud, leases: Leases, tunnels: Tunnels, status: NodeStatus
) -> Handle:
    """Serve in a thread. Raises ConfigError if certificates or the address can't be had."""
    api = config.api
    app = application(config, node, cloud, leases, tunnels, status)
    server = serve(
        *(app, api.listen, api.certificate, api.key, api.ca_dir),
        proxies=False,
        require=True,
        messages=LONGEST,
    )
    log.info("API on %s for %d client(s)", api.listen, len(api.clients))
    return Handle(server, cloud.wake)


def _name(chain: Sequence[bytes]) -> str:
    try:
        return dn_of(chain[0]) if chain else "a client without certificate"
    except RejectedError as error:
        return f"a client whose name is not plain ({error})"


def application(
    config: Config, node: str, cloud: Cloud, leases: Leases, tunnels: Tunnels, status: NodeStatus
) -> ASGIApp:
    """The service as an ASGI application; the server tells it the callers' certificates."""
    endpoints = [
        *apileases.routes(config, node, cloud, leases),
        *machines.routes(cloud, node, tunnels, status),
    ]

    async def description(_request: Request) -> JSONResponse:
        title, summary = (
            f"wnodes-bait on {node}",
            "Leases, cloud VMs, volumes and state of one node.",
        )
        return JSONResponse(describe(title, summary, VERSION, endpoints, models.Fault, _FAULTS))

    app = Starlette(
        routes=[
            Route("/openapi.json", description),
            Consoles(cloud).route,
            *(each.route for each in endpoints),
        ],
        exception_handlers={WnodesError: _refused, HTTPException: _http, Exception: _internal},
    )
    return Gate(app, frozenset(config.api.clients))


class Gate:
    """Before the application: only clients that the configuration names, no pages of other sites,
    and bodies of a size."""

    def __init__(self, app: ASGIApp, clients: Collection[str]) -> None:
        self.app = app
        self.clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        method = scope.get("method", "WebSocket")  # so called, it is not among the safe methods
        chain = scope.get("extensions", {}).get(CHAIN, ())
        name = _name(chain)
        if name not in self.clients:
            log.warning("refused: %s is not among [api] clients", name)
            answer = _error(403, f"{name} is not among the clients of this bait")
            await answer(scope, receive, send)
            return
        scheme = scope.get("scheme", "http").replace("ws", "http")
        foreign = cross_site.refusal(method, scheme, scope["headers"])
        if foreign:
            log.warning("refused: %s by %s: %s", method, name, foreign)
            await _error(403, foreign)(scope, receive, send)
            return
        if method != "GET":
            log.info("%s %s by %s", method, scope["path"], name)
        await self.app(scope, _limited(receive), send)


def _limited(receive: Receive) -> Receive:
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > _LONGEST_BODY:
            raise HTTPException(413, f"the body has more than {_LONGEST_BODY} bytes")
        return message

    return limited


def _error(status: int, said: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": said}, status, headers)


async def _refused(request: HTTPConnection, error: Exception) -> JSONResponse:
    assert isinstance(error, WnodesError)  # noqa: S101 (registered for no other)
    if error.told:
        method = request.scope.get("method", "WebSocket")
        log.error("%s %s: %s: %s", method, request.url.path, _about(request), error)
    status = next(code for kind, code in _STATUS if isinstance(error, kind))
    return _error(
        status,
        " ".join(error.words(_about(request)).split()),
        {"Retry-After": _RETRY_AFTER} if status == 503 else None,
    )


def _about(request: HTTPConnection) -> str:
    """The id of what a request is about, under which the log has it."""
    given = getattr(request.state, "about", "") or next(iter(request.path_params.values()), "")
    return str(given) or request.url.path


async def _http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 (registered for no other)
    return _error(error.status_code, str(error.detail), dict(error.headers or {}))


async def _internal(_request: Request, _fault: Exception) -> JSONResponse:
    return _error(500, "internal fault of the bait, see its log")  # where the server puts it
