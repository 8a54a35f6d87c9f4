"""A service in memory behind a real web server, and clients of it."""

import threading
from collections.abc import Callable, Iterator

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from occi_bridge.web.app import application
from tests.unit.occi_bridge.memory import Anyone, Memory, Users

BASE = "http://cloud.example.org:11443"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class To(httpx.HTTPTransport):
    """Brings all requests to one port of this machine, whatever host they are for."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(host="127.0.0.1", port=self._port)
        return super().handle_request(request)


class Live:
    """The web server, and the application of the test that runs now."""

    def __init__(self) -> None:
        self.app: ASGIApp = application(Memory(), Users())
        config = uvicorn.Config(
            self._call,
            port=0,
            http="httptools",
            interface="asgi3",
            log_level="critical",
            server_header=False,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
        self.port: int = self._server.servers[0].sockets[0].getsockname()[1]
        self.to = To(self.port)  # one for all: each would read the system's certificates

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        """In the place of TLS: a header that says who the client is."""
        names = [value.decode() for name, value in scope.get("headers", ()) if name == b"x-name"]
        await Anyone(self.app, "".join(names))(scope, receive, send)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(5)


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    live = Live()
    yield live
    live.close()


@pytest.fixture
def service(live: Live) -> Memory:
    service = Memory()
    live.app = application(service, Users())
    return service


@pytest.fixture
def user_client(service: Memory, live: Live) -> Callable[[str], httpx.Client]:
    """A client for the user of a name; for "", one without a certificate."""
    assert service

    def client(name: str) -> httpx.Client:
        return httpx.Client(base_url=BASE, transport=live.to, headers={"x-name": name})

    return client


@pytest.fixture
def client(user_client: Callable[[str], httpx.Client]) -> httpx.Client:
    return user_client("Ada")
