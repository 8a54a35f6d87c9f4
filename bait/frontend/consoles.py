"""Consoles of cloud VMs to type into: a WebSocket of a bridge's on one side, libvirt on the other.

One console of a VM is open at a time; whoever of its owner's comes later has it. What a guest
writes faster than it can be passed on is left out: nobody waits for a reader that is slow.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from bait.frontend.backlog import Backlog
from bait.frontend.blocking import BlockingCalls
from bait.frontend.ports import Cloud, Line
from wnodes_lrms.console import PIECE, SHOWN, TYPED, End, Pace, first_of
from wnodes_lrms.errors import ConflictError, UnknownError, WnodesError

MOST = 16  # VMs of one node whose consoles are open at once
MOST_OF_ONE = 4  # of them, of one user: their bridge may have many workers, which count apart
_LONGEST_DN = 1024  # characters
_LOOKUPS = 16, 10.0  # at once, seconds: in the ledger
_OPENING = 30.0  # seconds
_CLOSING = 30.0  # seconds; libvirt's library may take that long to give up a connection

T = TypeVar("T")


class Consoles:
    """The consoles of a node that are open. For one event loop."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._lookups = BlockingCalls("the bait's ledger", *_LOOKUPS)
        self._open: dict[str, _Console] = {}

    @property
    def route(self) -> WebSocketRoute:
        """Where the application finds it; `owner` is the DN that the VM's order has."""

        async def typed(socket: WebSocket) -> None:
            owner = socket.query_params.get("owner")
            try:
                machine = UUID(socket.path_params["machine"])
            except ValueError:
                raise HTTPException(400, "machine: is no UUID") from None
            if owner is None or len(owner) > _LONGEST_DN:
                raise HTTPException(400, f"owner: must be there, {_LONGEST_DN} characters at most")
            await self.serve(socket, str(machine), owner)

        return WebSocketRoute("/machines/{machine}/console", typed)

    async def serve(self, socket: WebSocket, machine: str, owner: str) -> None:
        """Have the owner of a VM type into its console. Raises WnodesError where that can't be."""
        opener = await self._lookups.call(self._cloud.console_of, machine, owner)
        before = self._open.get(machine)
        if before is None:
            self._check_room(owner)
        console = self._open[machine] = _Console(owner)
        try:
            if before:
                await before.hand_over()
            await console.open(opener)
            await socket.accept()
            with suppress(WebSocketDisconnect):
                await socket.close(await console.carry(socket))
        finally:
            await console.close()
            if self._open.get(machine) is console:
                del self._open[machine]

    def _check_room(self, owner: str) -> None:
        """Raises ConflictError where no more can be opened."""
        if sum(each.owner == owner for each in self._open.values()) >= MOST_OF_ONE:
            said = f"you have {MOST_OF_ONE} consoles open on the VM's node: close one first"
            raise ConflictError(said)
        if len(self._open) >= MOST:
            raise ConflictError(f"{MOST} consoles are open on the VM's node: try again later")


class _Console:
    """One of them: a listener in libvirt's threads, and what the event loop does with it."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._backlog = Backlog()
        self._news = asyncio.Event()
        self._took = asyncio.Event()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[WnodesError | None] = self._loop.create_future()
        self._taken = asyncio.Event()
        self._gone = asyncio.Event()
        self._line: Line | None = None

    # In threads of libvirt's

    def opened(self) -> None:
        self._tell(lambda: _settle(self._opened, None))

    def heard(self, data: bytes) -> None:
        with self._lock:
            told = bool(self._backlog)
            self._backlog.put(data)
        if not told:
            self._tell(self._news.set)

    def took(self) -> None:
        self._tell(self._took.set)

    def ended(self, error: WnodesError | None) -> None:
        self._tell(lambda: _settle(self._ended, error))
        self._tell(self._news.set)

    def _tell(self, what: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: the bait is stopping
            self._loop.call_soon_threadsafe(what)

    # In the event loop

    async def open(self, opener: Callable[["_Console"], Line]) -> None:
        """Raises WnodesError."""
        if self._taken.is_set():
            raise ConflictError("the console was opened somewhere else meanwhile")
        self._line = opener(self)
        either: list[asyncio.Future[Any]] = [self._opened, self._ended]
        await asyncio.wait(either, timeout=_OPENING, return_when=asyncio.FIRST_COMPLETED)
        if self._ended.done():
            raise self._ended.result() or ConflictError("the VM does not run any more")
        if not self._opened.done():
            raise UnknownError(f"libvirt does not open the console within {_OPENING:g} s")

    async def close(self) -> None:
        """Have it closed, also one that is still on its way; wait until it is."""
        if self._line:
            self._line.close()
            await asyncio.wait([self._ended], timeout=_CLOSING)
        self._gone.set()

    async def hand_over(self) -> None:
        """Its owner opens it anew: have it free."""
        self._taken.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._gone.wait(), _CLOSING)

    async def carry(self, socket: WebSocket) -> End:
        """Pass on what comes, either way, until it ends."""
        return await first_of(self._type(socket), self._show(socket), self._until_taken())

    async def _until_taken(self) -> End:
        await self._taken.wait()
        return End.TAKEN

    async def _type(self, socket: WebSocket) -> End:
        assert self._line  # noqa: S101 (for mypy: it is open)
        pace = Pace(TYPED)
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return End.LEFT
            data = message.get("bytes")
            if data is None:
                return End.NOT_BYTES
            await pace.spend(len(data))
            self._took.clear()
            self._line.write(data)
            await self._took.wait()

    async def _show(self, socket: WebSocket) -> End:
        pace = Pace(SHOWN)
        while True:
            await self._news.wait()
            with self._lock:
                data = self._backlog.take(PIECE)
                if not self._backlog and not self._ended.done():
                    self._news.clear()
            if data:
                await socket.send_bytes(data)
                await pace.spend(len(data))
            elif self._ended.done():
                return End.LOST if self._ended.result() else End.STOPPED


def _settle(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)
