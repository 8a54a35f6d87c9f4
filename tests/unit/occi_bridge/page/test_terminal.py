"""Typing into a VM's console over TLS: who may, once, and what ends it.

The clients are WebSockets as browsers open them; a bait of tests/unit/occi_bridge/fake_baits.py
has the console, and answers in capitals.
"""

import asyncio
import contextlib
import logging
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from socket import create_connection
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from occi_bridge.identity import authenticator
from occi_bridge.identity.authenticator import Authenticator
from occi_bridge.identity.user import Capability
from occi_bridge.occi.messages import Entity
from occi_bridge.page import cookies, terminal
from occi_bridge.page.terminal import Limits
from occi_bridge.page.terminal_socket import PROTOCOL, SAID
from occi_bridge.store import heard, sessions, tables
from occi_bridge.store.heard import Heard
from occi_bridge.store.links import Links
from tests.unit import ca, issuers
from tests.unit.ca import Grid, Service
from tests.unit.issuers import LocalIssuer
from tests.unit.occi_bridge.fake_baits import FakeBait
from tests.unit.occi_bridge.local_bridge import LocalBridge
from tests.unit.occi_bridge.page import browser
from tests.unit.occi_bridge.page.browser import HOST, URL, Browser, Site
from wnodes_lrms.console import LONGEST, PIECE, End
from wnodes_lrms.log import set_up

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = [pytest.mark.integration, pytest.mark.anyio]

grid, issuer = ca.grid, issuers.issuer
QUICK = Limits(each=2, all=3, look=0.05)


class To(httpx.AsyncHTTPTransport):
    """Brings all requests to the service's port, whatever port they are for."""

    def __init__(self, service: Service) -> None:
        super().__init__(verify=service.context(None))
        self._port = service.port

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(port=self._port)
        return await super().handle_async_request(request)


@dataclass
class Place:
    """A page with a node, on a port. It has an event loop of its own, so that all requests go
    through that port, and the test has an authenticator of its own."""

    site: Site
    theirs: Authenticator  # the page's
    baits: list[FakeBait]
    service: Service

    def browser(self, name: str = "") -> Browser:
        """A browser; of somebody of this name who has logged in, if one is given."""
        made = self.site.browser(name)
        made.http = httpx.AsyncClient(
            transport=To(self.service), base_url=URL, cookies=made.http.cookies
        )
        return made

    async def vm(self, name: str = "grace") -> Entity:
        """A VM of somebody's that runs on the first node."""
        vm = await self.site.vm(name)
        uid = self.uid(vm)
        where = sa.update(tables.compute).where(tables.compute.c.uid == uid)
        running = where.values(state="running", node=self.baits[0].node)
        self.site.bridge.db.write(lambda link: link.execute(running))
        self.baits[0].typing[uid] = self.site.bridge.row(vm).owner
        return vm

    def uid(self, vm: Entity) -> str:
        return str(self.site.bridge.row(vm).uid)

    async def permit(self, who: Browser, vm: Entity) -> httpx.Response:
        """What the script of the page asks for."""
        token = cookies.form_token(who.cookie() or "")
        path = f"/vm/{vm.id}/console/permit"
        return await who.post(path, {"token": token}, {"Accept": "text/plain"})

    async def word(self, who: Browser, vm: Entity) -> str:
        answer = await self.permit(who, vm)
        assert answer.status_code == 200, answer.text
        return answer.text

    async def socket(
        self, who: Browser | None, vm: Entity, word: str, **headers: str
    ) -> ClientConnection:
        """The WebSocket, as a browser asks for it but for these headers; "" leaves one out."""
        cookie = f"{cookies.SESSION}={who.cookie()}" if who else ""
        sent = {"Cookie": cookie, "Origin": URL, "Sec-Fetch-Site": "same-origin"} | headers
        return await connect(
            f"wss://{HOST}/vm/{vm.id}/console/typed",
            host="127.0.0.1",
            port=self.service.port,
            ssl=self.service.context(None),
            server_hostname="localhost",
            additional_headers={name: value for name, value in sent.items() if value},
            subprotocols=[Subprotocol(each) for each in (PROTOCOL, word) if each],
            proxy=None,
        )

    async def console(self, who: Browser, vm: Entity) -> ClientConnection:
        """A console that is open."""
        return await self.socket(who, vm, await self.word(who, vm))

    async def refused(self, who: Browser | None, vm: Entity, word: str, **headers: str) -> int:
        """The status with which a WebSocket is refused."""
        with pytest.raises(InvalidStatus) as caught:
            await self.socket(who, vm, word, **headers)
        return caught.value.response.status_code


@contextlib.contextmanager
def serving(site: Site, own: Authenticator, baits: list[FakeBait]) -> Iterator[Place]:
    service = Service(site.app, site.grid, proxies=False, messages=LONGEST)
    yield Place(replace(site, authenticator=own), site.authenticator, baits, service)
    service.stop()


@pytest.fixture
async def place(
    grid: Grid,
    issuer: LocalIssuer,
    make_bridge: Callable[..., LocalBridge],
    file_url: str,
    baits: list[FakeBait],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> AsyncIterator[Place]:
    monkeypatch.setattr(authenticator, "_LOOK", 0.0)
    bridge = make_bridge(file_url, *baits)
    limits: Limits = getattr(request, "param", QUICK)
    async with browser.made(grid, issuer, bridge, limits) as site:
        for bait in baits:
            heard.told(bridge.db, bait.url, Heard(bait.node, time.time()), silent=False)
        own = Authenticator(issuer.bridge(), Links(bridge.db))
        with serving(site, own, baits) as place:
            yield place
        await own.close()


async def why(socket: ClientConnection) -> tuple[int | None, str | None]:
    """How it ends; waits for that."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await socket.recv()
    return socket.close_code, socket.close_reason


async def says(socket: ClientConnection, typed: bytes) -> None:
    """What is typed arrives, and what the guest answers comes back."""
    await socket.send(typed)
    answer = b""
    while len(answer) < len(typed):
        piece = await socket.recv()
        assert isinstance(piece, bytes)
        answer += piece
    assert answer == typed.upper()


async def test_its_owner_types_into_it(place: Place) -> None:
    grace, vm = place.browser("grace"), await place.vm()
    async with await place.console(grace, vm) as socket:
        assert socket.subprotocol == PROTOCOL
        await says(socket, b"hostname\r")
        await says(socket, bytes(range(64)) * 64)


async def test_a_permit_is_good_once(place: Place) -> None:
    grace, vm = place.browser("grace"), await place.vm()
    word = await place.word(grace, vm)
    async with await place.socket(grace, vm, word) as socket:
        await says(socket, b"a")
        assert await place.refused(grace, vm, word) == 403
        await says(socket, b"b")
    assert await place.refused(grace, vm, word) == 403


async def test_a_permit_is_for_one_session_and_one_vm(place: Place) -> None:
    grace, again, oscar = (place.browser(name) for name in ("grace", "grace", "oscar"))
    vm, other = await place.vm(), await place.vm()
    for who, where in ((again, vm), (oscar, vm), (None, vm), (grace, other)):
        word = await place.word(grace, vm)
        assert await place.refused(who, where, word) == (403 if who else 401)
        async with await place.socket(grace, vm, word) as socket:  # it was not used up by that
            await says(socket, b"a")
    for word in ("", "x", "x" * 43, f"{await place.word(grace, vm)}x"):
        assert await place.refused(grace, vm, word) == 403


async def test_a_permit_is_good_for_a_minute(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    grace, vm = place.browser("grace"), await place.vm()
    word = await place.word(grace, vm)
    monkeypatch.setattr(sessions, "TICKET", -1.0)
    assert await place.refused(grace, vm, word) == 403


async def test_a_permit_opens_no_session(place: Place) -> None:
    grace, vm = place.browser("grace"), await place.vm()
    stranger = place.browser()
    stranger.http.cookies.set(cookies.SESSION, await place.word(grace, vm))
    assert (await stranger.get("/vms")).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "https://localhost:11443"},
        {"Origin": "http://localhost:11444"},
        {"Origin": f"{URL}.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_another_origin(place: Place, headers: dict[str, str]) -> None:
    grace, vm = place.browser("grace"), await place.vm()
    word = await place.word(grace, vm)
    assert await place.refused(grace, vm, word, **headers) == 403
    async with await place.socket(grace, vm, word) as socket:
        await says(socket, b"a")


async def test_who_gets_a_permit(place: Place) -> None:
    grace, oscar, vm = place.browser("grace"), place.browser("oscar"), await place.vm()
    path = f"/vm/{vm.id}/console/permit"
    assert (await place.permit(oscar, vm)).status_code == 404
    assert (await place.browser().post(path, {})).status_code == 401
    assert (await grace.post(path, {"token": "x"})).status_code == 403
    assert (await grace.get(path)).status_code == 404
    waiting = await place.site.vm()
    answer = await place.permit(grace, waiting)
    assert (answer.status_code, answer.text) == (409, terminal._NOWHERE)
    assert (await place.permit(grace, vm)).headers["cache-control"] == "no-store"


async def test_a_vm_that_is_shared_is_its_owners(place: Place) -> None:
    """Who sees a VM because their group has made it does not type into it."""
    vm = await place.vm("oscar")
    group = (await place.site.user("grace")).group
    shared = sa.update(tables.entity).values(shared=group)
    place.site.bridge.db.write(lambda link: link.execute(shared))
    grace = place.browser("grace")
    answer = await place.permit(grace, vm)
    assert answer.status_code in (403, 404)


async def test_whom_no_capability_lets(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    grace, vm = place.browser("grace"), await place.vm()
    word = await place.word(grace, vm)
    known = place.theirs.known

    async def reading(identity: Any, address: str) -> Any:
        user = await known(identity, address)
        may = frozenset({Capability.READ, Capability.CREATE, Capability.CANCEL})
        return replace(user, identity=replace(user.identity, may=may))

    monkeypatch.setattr(place.theirs, "known", reading)
    assert (await place.permit(grace, vm)).status_code == 403
    assert "open-console" not in (await grace.get(f"/vm/{vm.id}/console")).text
    socket = await place.socket(grace, vm, word)
    code, said = await why(socket)
    assert (code, "compute.modify" in (said or "")) == (End.REFUSED, True)


async def test_it_ends_with_the_session(place: Place) -> None:
    grace, vm = place.browser("grace"), await place.vm()
    socket = await place.console(grace, vm)
    await says(socket, b"a")
    await grace.post("/logout", {"token": cookies.form_token(grace.cookie() or "")})
    assert await why(socket) == (End.REFUSED, "you are logged out")


async def test_it_ends_with_the_vm(place: Place) -> None:
    grace, vm = place.browser("grace"), await place.vm()
    bait = place.baits[0]
    for end, said in SAID.items():
        socket = await place.console(grace, vm)
        await says(socket, b"a")
        bait.hang_up(place.uid(vm), end)
        assert await why(socket) == (end, said)
    socket = await place.console(grace, vm)
    await says(socket, b"a")
    await grace.send(f"/vm/{vm.id}", f"/vm/{vm.id}/delete")
    assert (await why(socket))[0] in (End.REFUSED, End.STOPPED)


async def test_it_ends_with_the_service(place: Place) -> None:
    grace, vm = place.browser("grace"), await place.vm()
    socket = await place.console(grace, vm)
    await says(socket, b"a")
    await asyncio.to_thread(place.service.stop)
    assert (await why(socket))[0] == 1012  # the script of the page knows that code


@pytest.mark.parametrize("place", [Limits(look=0.05, idle=0.5)], indirect=True)
async def test_it_ends_when_nobody_types(place: Place) -> None:
    grace, vm = place.browser("grace"), await place.vm()
    socket = await place.console(grace, vm)
    code, said = await why(socket)
    assert (code, (said or "").startswith("nothing was typed")) == (End.REFUSED, True)


async def test_so_many_at_once(place: Place) -> None:
    """Of one user, and in all; who closes one can open another."""
    grace, oscar = place.browser("grace"), place.browser("oscar")
    vms = [await place.vm() for _ in range(3)]
    words = [await place.word(grace, vm) for vm in vms]
    first = await place.socket(grace, vms[0], words[0])
    second = await place.socket(grace, vms[1], words[1])
    assert (await why(await place.socket(grace, vms[2], words[2])))[0] == End.REFUSED
    answer = await place.permit(grace, vms[2])
    assert (answer.status_code, answer.text) == (429, "you have 2 consoles open: close one first")
    theirs = await place.console(oscar, await place.vm("oscar"))
    answer = await place.permit(oscar, await place.vm("oscar"))
    assert (answer.status_code, "too many" in answer.text) == (503, True)
    await first.close()
    while (await place.permit(grace, vms[2])).status_code != 200:
        await asyncio.sleep(0.02)
    for socket in (second, theirs):
        await says(socket, b"a")
        await socket.close()


@pytest.mark.parametrize(
    ("message", "code"), [(b"x" * (LONGEST + 1), 1009), ("text", End.NOT_BYTES), (b"", 1003)]
)
async def test_messages_that_are_not_taken(place: Place, message: bytes | str, code: int) -> None:
    grace, vm = place.browser("grace"), await place.vm()
    socket = await place.console(grace, vm)
    await socket.send(message)
    assert (await why(socket))[0] == code


async def test_a_bait_that_writes_without_end_waits_for_the_browser(place: Place) -> None:
    """A browser that does not read holds up nobody else, and the bridge keeps little for it."""
    grace, vm, other = place.browser("grace"), await place.vm(), await place.vm()
    slow = await place.console(grace, vm)
    await says(slow, b"a")
    flood = threading.Thread(target=_write_on, args=(place.baits[0], place.uid(vm)), daemon=True)
    flood.start()
    async with await place.console(grace, other) as socket:
        for _ in range(20):
            await says(socket, b"a" * 100)
    assert flood.is_alive()
    await slow.close()
    await asyncio.to_thread(flood.join)


def _write_on(bait: FakeBait, machine: str) -> None:
    """Until nobody takes it any more: far more than all buffers on the way have room for."""
    with contextlib.suppress(Exception):
        for _ in range(10_000):
            bait.write(machine, b"x" * PIECE)


async def test_nodes_that_do_not_let(place: Place) -> None:
    grace, vm = place.browser("grace"), await place.vm()
    place.baits[0].typing.clear()
    assert await why(await place.console(grace, vm)) == (End.REFUSED, terminal._NOWHERE)
    db = place.site.bridge.db
    db.write(lambda link: link.execute(sa.delete(tables.bait)))
    here = Heard(place.baits[0].node, time.time())
    heard.told(db, "http://127.0.0.1:9", here, silent=False)
    said = (End.REFUSED, "the VM's node does not answer now")
    assert await why(await place.console(grace, vm)) == said


async def test_what_is_typed_is_in_no_log(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    set_up()
    caplog.set_level(logging.DEBUG)
    grace, vm = place.browser("grace"), await place.vm()
    word = await place.word(grace, vm)
    async with await place.socket(grace, vm, word) as socket:
        await says(socket, b"my-password\r")
    await place.refused(grace, vm, word)
    assert f"console of {vm.id}" in caplog.text
    for secret in ("my-password", "MY-PASSWORD", word, grace.cookie() or ""):
        assert secret not in caplog.text


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /vm/\xff HTTP/1.1\r\n",
        b"GET /nothing HTTP/1.1\r\nSec-WebSocket-Key: x\r\n",
        b"POST / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200,
        b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\n",
    ],
)
async def test_broken_requests_for_a_websocket_end(place: Place, request_: bytes) -> None:
    def ask() -> bytes:
        plain = create_connection(("127.0.0.1", place.service.port), timeout=60)
        context = place.service.context(None)
        with context.wrap_socket(plain, server_hostname="localhost") as link:
            link.sendall(request_ + f"Host: {HOST}\r\n".encode())
            link.sendall(b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            answer = b""
            with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
                while more := link.recv(65536):
                    answer += more
            return answer

    answer = await asyncio.to_thread(ask)
    assert b" 101 " not in answer
    assert b" 500 " not in answer
    assert (await place.browser("grace").get("/vms")).status_code == 200
