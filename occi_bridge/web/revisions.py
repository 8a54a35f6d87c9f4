"""The revision of a service, whose database may be another process: nobody waits for that in the
event loop."""

import asyncio
from typing import Protocol


class Revised(Protocol):
    """What has a revision: see interfaces.Service."""

    @property
    def remote(self) -> bool: ...

    def revision(self) -> int: ...


class Revisions:
    """Asks a remote service for its revision in a thread, once for all who want it meanwhile. For
    one event loop."""

    def __init__(self, service: Revised) -> None:
        self._service = service
        self._asking: asyncio.Future[int] | None = None
        self._next: asyncio.Future[int] | None = None

    async def now(self) -> int:
        """The revision, asked for after this call: what is answered to one who has waited already
        may be older than what another one has just been told."""
        if not self._service.remote:
            return self._service.revision()
        if self._next is None:
            self._next = asyncio.ensure_future(self._after(self._asking))
        return await asyncio.shield(self._next)

    async def _after(self, asking: asyncio.Future[int] | None) -> int:
        if asking:
            await asyncio.wait({asking})
        self._asking, self._next = self._next, None  # who comes from now on waits for another
        return await asyncio.to_thread(self._service.revision)
