"""A VM's console at its bait, to type into: a WebSocket with mutual TLS."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from occi_bridge.driver.bait_connection import fault
from wnodes_lrms.console import LONGEST, PIECE
from wnodes_lrms.errors import UnknownError

_OPENING = 75.0  # seconds; the bait gives libvirt, and a console that is open, half a minute each
_CLOSING = 2.0
_QUEUE = 4  # messages that are read ahead: with more of them the bait has to wait
_NOTE = 256  # bytes that a bait may put before a piece


class BaitConsole:
    """One that is open."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def heard(self) -> bytes | None:
        """What its guest has written since; None once it has ended."""
        try:
            return await self._connection.recv(decode=False)
        except ConnectionClosed:
            return None

    async def write(self, data: bytes) -> None:
        """Type this; nothing happens where it has ended."""
        try:
            for start in range(0, len(data), LONGEST):
                await self._connection.send(data[start : start + LONGEST])
        except ConnectionClosed:
            return

    @property
    def end(self) -> int | None:
        """The code with which the bait has closed it; None where it has not said why."""
        return self._connection.close_code


@asynccontextmanager
async def opened(
    url: str, machine: str, owner: str, context: ssl.SSLContext
) -> AsyncIterator[BaitConsole]:
    """The console of a VM of this owner's (a DN), by the bait at this URL.

    Raises as bait_connection says.
    """
    place = f"{url.replace('http', 'ws', 1)}/machines/{machine}/console?owner={quote(owner, '')}"
    try:
        connection = await connect(
            place,
            ssl=context if url.startswith("https:") else None,
            compression=None,
            proxy=None,
            user_agent_header=None,
            open_timeout=_OPENING,
            close_timeout=_CLOSING,
            max_size=PIECE + _NOTE,
            max_queue=_QUEUE,
        )
    except InvalidStatus as error:
        reply = httpx.Response(error.response.status_code, content=bytes(error.response.body))
        raise fault(url, reply) from error
    except (WebSocketException, OSError, TimeoutError) as error:
        raise UnknownError(f"bait {url}: {error}") from error
    try:
        yield BaitConsole(connection)
    finally:
        await connection.close()
