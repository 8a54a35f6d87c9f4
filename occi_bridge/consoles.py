"""VMs' consoles, by their baits: the one thing that workers ask a node."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from occi_bridge.driver import bait_console
from occi_bridge.driver.bait_client import Bait
from occi_bridge.driver.bait_connection import client_context
from occi_bridge.driver.bait_console import BaitConsole
from wnodes_lrms.config.load import Bridge
from wnodes_lrms.errors import UnknownError
from wnodes_lrms.tls.context import stamp, stamp_of

_AT_ONCE = 16  # questions: users can't keep a worker, or a bait, from all else


class Consoles:
    """For one event loop. A connection is for one question, or one console to type into: there are
    few of them."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._going = 0
        self._stamp: object = None
        self._context: ssl.SSLContext | None = None

    async def read(self, url: str, machine: str) -> str:
        """The end of what a VM has written, by the bait at this URL. Raises WnodesError."""
        if url not in self._bridge.baits or self._going >= _AT_ONCE:
            raise UnknownError(f"bait {url}: is not asked for a console now")
        self._going += 1
        try:
            bait = Bait(url, await asyncio.to_thread(self._fresh))
            try:
                return await bait.console(machine)
            finally:
                await bait.close()
        finally:
            self._going -= 1

    @asynccontextmanager
    async def opened(self, url: str, machine: str, owner: str) -> AsyncIterator[BaitConsole]:
        """The console of a VM of this owner's (a DN), to type into. Raises WnodesError."""
        if url not in self._bridge.baits:
            raise UnknownError(f"bait {url}: is not asked for a console now")
        context = await asyncio.to_thread(self._fresh)
        async with bait_console.opened(url, machine, owner, context) as console:
            yield console

    def _fresh(self) -> ssl.SSLContext:
        bridge = self._bridge
        files = [stamp(bridge.certificate), stamp(bridge.key), stamp_of(bridge.ca_dir)]
        if self._context is None or files != self._stamp:
            self._context = client_context(bridge.certificate, bridge.key, bridge.ca_dir)
            self._stamp = files
        return self._context
