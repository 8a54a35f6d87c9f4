"""A VM's serial console on its way between a bait, a bridge and a browser: limits, and its end.

It goes over WebSockets (RFC 6455): binary messages are what was typed, and what the guest wrote.
"""

import asyncio
import time
from collections.abc import Awaitable
from enum import IntEnum
from typing import TypeVar

TYPED = 8192.0  # bytes a second that may be typed: more than anybody types, and a page of text
SHOWN = 65536.0  # bytes a second that are passed on of what a guest writes
LONGEST = 4096  # bytes of one message that was typed
PIECE = 16384  # bytes of one message of what a guest writes

_REASON = 123  # bytes that a close frame has for it (RFC 6455, 5.5)

T = TypeVar("T")


class End(IntEnum):
    """How a console ended: codes of a close frame; 4000 to 4999 are for applications."""

    LEFT = 1000  # whoever opened it has gone
    NOT_BYTES = 1003  # something else than bytes was sent
    STOPPED = 4000  # the VM has stopped
    TAKEN = 4001  # its owner has opened it anew
    LOST = 4002  # libvirt has closed it, while the VM runs on
    REFUSED = 4003  # the reason is in the close frame


class Pace:
    """Slows down what is more than so many bytes a second, after those of the first second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._until = float("-inf")  # when what has passed would have passed at the rate

    def delay(self, size: int, now: float) -> float:
        """The seconds that so many bytes more have to wait from `now` on."""
        self._until = max(self._until, now - 1.0) + size / self._rate
        return max(0.0, self._until - now)

    async def spend(self, size: int) -> None:
        """Wait until so many bytes more may pass."""
        await asyncio.sleep(self.delay(size, time.monotonic()))


async def first_of(*works: Awaitable[T]) -> T:
    """What the first of them to end gives, or raises; the others are given up."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return next(task for task in tasks if task in done).result()


def reason(said: str) -> str:
    """A sentence, as far as a close frame has room for it."""
    return said.encode()[:_REASON].decode(errors="ignore")
