"""The two ends of a console that is typed into, and what goes between them.

Whoever is slow is waited for: the bait leaves out what a guest writes meanwhile.
"""

import time
from contextlib import suppress
from typing import Protocol

from starlette.types import Receive, Send

from wnodes_lrms.console import SHOWN, TYPED, End, Pace, reason

PROTOCOL = "wnodes-console"  # the subprotocol; the permit is offered beside it
SAID = {
    End.STOPPED: "the VM has stopped",
    End.TAKEN: "you have opened this console somewhere else",
    End.LOST: "the VM's node has lost the console: open it again",
}
_BROKEN = End.LOST, "the connection to the VM's node was lost: open the console again"

Ended = tuple[int, str]  # a code of a close frame, and why, in a sentence


class Line(Protocol):
    """The end at the bait: see driver/bait_console.py."""

    async def heard(self) -> bytes | None: ...
    async def write(self, data: bytes, /) -> None: ...
    @property
    def end(self) -> int | None: ...


class Browser:
    """The end at the browser: a WebSocket."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._accepted = False
        self._there = True
        self._last = time.monotonic()  # when a key was pressed

    async def accept(self) -> None:
        """Let it in."""
        self._accepted = True
        with suppress(OSError):
            await self._send({"type": "websocket.accept", "subprotocol": PROTOCOL})

    async def typed(self) -> bytes | None:
        """What was typed; b"" for something else than bytes, None once the browser has gone."""
        while self._there:
            message = await self._receive()
            if message["type"] == "websocket.receive":
                self._last = time.monotonic()
                return message.get("bytes") or b""
            self._there = message["type"] != "websocket.disconnect"
        return None

    async def show(self, data: bytes) -> None:
        """Wait until it has room for this. Raises OSError once the browser has gone."""
        await self._send({"type": "websocket.send", "bytes": data})

    async def close(self, code: int, said: str) -> None:
        """Say why it ends; where it was not let in, let it in for that: nothing else is shown."""
        if not self._accepted:
            await self.accept()
        if self._there:
            with suppress(OSError):
                await self._send({"type": "websocket.close", "code": code, "reason": reason(said)})

    def idle(self) -> float:
        """Seconds since a key was pressed."""
        return time.monotonic() - self._last


async def typed(browser: Browser, line: Line) -> Ended:
    """Pass on what is typed."""
    pace = Pace(TYPED)
    while (data := await browser.typed()) is not None:
        if not data:
            return End.NOT_BYTES, "bytes are taken, and nothing else"
        await pace.spend(len(data))
        await line.write(data)
    return End.LEFT, "its user has left"


async def shown(browser: Browser, line: Line) -> Ended:
    """Pass on what the guest writes."""
    pace = Pace(SHOWN)
    while (data := await line.heard()) is not None:
        await pace.spend(len(data))
        try:
            await browser.show(data)
        except OSError:
            return End.LEFT, "its user has left"
    for end, said in SAID.items():
        if line.end == end:
            return end, said
    return _BROKEN
