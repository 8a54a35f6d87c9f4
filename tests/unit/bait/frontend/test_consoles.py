"""The bait's consoles over TLS, typed into by the bridge's own client.

In the place of libvirt are guests of this file: they answer in capitals.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bait.frontend import consoles, https
from bait.frontend.ports import Line, Listener
from occi_bridge.driver.bait_console import BaitConsole, opened
from tests.unit.bait.frontend.fakeparts import (
    MACHINE,
    VOLUME,
    FakeCloud,
    FakeLeases,
    FakeStatus,
    FakeTunnels,
    Site,
    context,
    make_site,
)
from tests.unit.conftest import eventually
from wnodes_lrms.console import LONGEST, End
from wnodes_lrms.errors import AbsentError, ConflictError, UnknownError, WnodesError

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

ALICE = "/DC=org/O=Box/CN=Alice é"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def site(tmp_path: Path, pki: Path) -> Site:
    """A service of the test's own."""
    return make_site(tmp_path, pki)


class Guest:
    """A VM's console, of which libvirt opens one at a time."""

    def __init__(self) -> None:
        self.listener: Listener | None = None
        self.typed = b""
        self.opened = 0
        self.fault: WnodesError | None = None

    def open(self, listener: Listener) -> "Guest":
        if self.fault or self.listener:
            listener.ended(self.fault or ConflictError("somebody else has it open"))
            return Guest()
        self.opened += 1
        self.listener = listener
        listener.opened()
        return self

    def write(self, data: bytes) -> None:
        self.typed += data
        if self.listener:
            self.listener.heard(data.upper())
            self.listener.took()

    def close(self) -> None:
        self.stop(None)

    def stop(self, error: WnodesError | None) -> None:
        listener, self.listener = self.listener, None
        if listener:
            listener.ended(error)


class Guests(FakeCloud):
    """The cloud VMs of a node: this one of Alice's, and as many more as one asks for, of hers and
    her sisters'."""

    def __init__(self) -> None:
        super().__init__()
        self.guest = Guest()

    def console_of(self, machine: str, owner: str) -> Callable[[Listener], Line]:
        if owner != ALICE and (machine == MACHINE or not owner.startswith(ALICE)):
            raise AbsentError(f"no VM {machine} of theirs here")
        return self.guest.open if machine == MACHINE else Guest().open


class Node:
    """A bait's API, and a bridge's certificate."""

    def __init__(self, url: str, guests: Guests, pki: Path, stop: Callable[[], None]) -> None:
        self.url = url
        self.stop = stop
        self.guests = guests
        self.context = context(pki, "bridge")
        self.strangers = context(pki, "other")

    @property
    def guest(self) -> Guest:
        return self.guests.guest

    def console(self, owner: str = ALICE, machine: str = MACHINE) -> "Opened":
        return Opened(self, owner, machine)

    @property
    def place(self) -> str:
        path = f"/machines/{MACHINE}/console?owner={quote(ALICE)}"
        return self.url.replace("https:", "wss:") + path


class Opened:
    """`async with` gives the console, as a bridge has it."""

    def __init__(self, node: Node, owner: str, machine: str) -> None:
        self._made = opened(node.url, machine, owner, node.context)

    async def __aenter__(self) -> BaitConsole:
        return await self._made.__aenter__()

    async def __aexit__(self, *error: object) -> None:
        await self._made.__aexit__(None, None, None)


@pytest.fixture
def node(site: Site, pki: Path) -> Iterator[Node]:
    guests = Guests()
    handle = https.start(site.config, "hv1", guests, FakeLeases(), FakeTunnels(), FakeStatus())
    port = handle._server._doors[0].sock.getsockname()[1]
    yield Node(f"https://localhost:{port}", guests, pki, handle.stop)
    handle.stop()


async def heard(console: BaitConsole, size: int) -> bytes:
    """So many bytes of what the guest writes, or all until the end."""
    data = b""
    while len(data) < size and (more := await console.heard()) is not None:
        data += more
    return data


async def ends(console: BaitConsole) -> int | None:
    """How it ends; waits for that."""
    await heard(console, 1 << 40)
    return console.end


async def test_what_is_typed_and_what_the_guest_writes(node: Node) -> None:
    async with node.console() as console:
        await console.write(b"hostname\r")
        assert await heard(console, 9) == b"HOSTNAME\r"
        await console.write(bytes(range(256)) * 40)  # in several messages
        assert len(await heard(console, 10240)) == 10240
    assert node.guest.typed == b"hostname\r" + bytes(range(256)) * 40
    async with node.console():
        assert node.guest.opened == 2  # it was free again


async def test_it_is_for_its_owner(node: Node) -> None:
    for owner in ("/DC=org/O=Box/CN=Bob", "", ALICE + "x"):
        with pytest.raises(AbsentError, match="of theirs"):
            async with node.console(owner):
                pass
    assert not node.guest.opened


async def test_it_ends_with_its_vm(node: Node) -> None:
    async with node.console() as console:
        assert node.guest.listener
        node.guest.listener.heard(b"Power down")
        node.guest.stop(None)
        assert await heard(console, 1 << 40) == b"Power down"
        assert console.end == End.STOPPED
    async with node.console() as console:
        node.guest.stop(UnknownError("libvirt has closed it"))
        assert await ends(console) == End.LOST


async def test_it_ends_with_the_bait(node: Node) -> None:
    async with node.console() as console:
        await asyncio.to_thread(node.stop)
        assert await ends(console) == 1012
    eventually(lambda: node.guest.listener is None)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (ConflictError("VM does not run"), ConflictError),
        (UnknownError("libvirt hangs"), UnknownError),
        (WnodesError("no mark"), UnknownError),
    ],
)
async def test_one_that_cannot_be_opened(
    node: Node, fault: WnodesError, kind: type[WnodesError]
) -> None:
    node.guest.fault = fault
    with pytest.raises(kind, match=str(fault)):
        async with node.console():
            pass
    node.guest.fault = None
    async with node.console() as console:
        await console.write(b"a")
        assert await heard(console, 1) == b"A"


async def test_who_comes_later_has_it(node: Node) -> None:
    async with node.console() as first, node.console() as second:
        assert await ends(first) == End.TAKEN
        await second.write(b"a")
        assert await heard(second, 1) == b"A"
        with pytest.raises(AbsentError):
            async with node.console("/DC=org/O=Box/CN=Bob"):
                pass
        await second.write(b"b")
        assert await heard(second, 1) == b"B"


async def test_a_guest_that_floods_its_console_stalls_nobody(node: Node) -> None:
    async with node.console() as console:
        listener = node.guest.listener
        assert listener
        for _ in range(1000):
            listener.heard(b"x" * 16384)
        listener.heard(b"the end")
        told = b""
        while not told.endswith(b"the end"):
            told += await heard(console, 1)
        assert b"bytes were left out]" in told
        assert len(told) < 1 << 18
        async with node.console(machine=VOLUME) as other:
            await other.write(b"a")
            assert await heard(other, 1) == b"A"


async def test_so_many_of_a_node_and_no_more(node: Node) -> None:
    machines = [f"00000000-0000-0000-0000-0000000001{number:02}" for number in range(20)]
    sisters = [f"{ALICE} {number // consoles.MOST_OF_ONE}" for number in range(consoles.MOST)]
    some = [node.console(*each) for each in zip(sisters, machines, strict=False)]
    for each in some:
        await each.__aenter__()
    with pytest.raises(ConflictError, match="consoles are open"):
        async with node.console():
            pass
    await some.pop().__aexit__()
    while True:  # until it is free
        try:
            async with node.console() as console:
                await console.write(b"a")
                assert await heard(console, 1) == b"A"
                break
        except ConflictError:
            await asyncio.sleep(0.05)
    for each in some:
        await each.__aexit__()


async def test_so_many_of_a_user_and_no_more(node: Node) -> None:
    """Whatever workers and bridges they come by."""
    async with contextlib.AsyncExitStack() as some:
        for number in range(consoles.MOST_OF_ONE):
            machine = f"00000000-0000-0000-0000-0000000001{number:02}"
            await some.enter_async_context(node.console(machine=machine))
        with pytest.raises(ConflictError, match="you have 4 consoles open on the VM's node"):
            async with node.console():
                pass
        async with node.console(machine=machine) as again:  # in the place of the last one
            await again.write(b"a")
            assert await heard(again, 1) == b"A"
        async with node.console(f"{ALICE} 2", "00000000-0000-0000-0000-000000000200") as other:
            await other.write(b"a")
            assert await heard(other, 1) == b"A"


@pytest.mark.parametrize(
    ("message", "code"), [(b"x" * (LONGEST + 1), 1009), ("text", End.NOT_BYTES), ("", 1003)]
)
async def test_messages_that_are_not_taken(node: Node, message: bytes | str, code: int) -> None:
    async with connect(node.place, ssl=node.context, proxy=None) as socket:
        await socket.send(message)
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == code
    assert node.guest.typed == b""


async def test_who_is_let_in(node: Node) -> None:
    async def refused(context: ssl.SSLContext, **headers: str) -> str:
        with pytest.raises(InvalidStatus) as caught:
            await connect(node.place, ssl=context, proxy=None, additional_headers=headers)
        assert caught.value.response.status_code == 403
        return caught.value.response.body.decode()

    assert "is not among the clients" in await refused(node.strangers)
    assert "another site" in await refused(node.context, Origin="https://evil.example")
    assert "another site" in await refused(node.context, **{"Sec-Fetch-Site": "cross-site"})
    for path in (f"/machines/x/console?owner={quote(ALICE)}", f"/machines/{MACHINE}/console"):
        with pytest.raises(InvalidStatus):
            await connect(node.url.replace("https:", "wss:") + path, ssl=node.context, proxy=None)
    assert not node.guest.opened
