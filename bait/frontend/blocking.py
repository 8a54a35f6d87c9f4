"""Blocking calls beside an event loop: so many at once, each for so long, in threads of their own.

A call into libvirt can hang for ever. It then still counts among the calls of its kind, those who
wait for their turn give up in time, and calls of other kinds and the loop itself go on. The threads
are daemons, so a call that hangs does not keep the bait from stopping.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, ParamSpec, TypeVar

from wnodes_lrms.errors import UnknownError, WnodesError

P = ParamSpec("P")
T = TypeVar("T")


class BlockingCalls:
    """Calls to `whom`: `most` at once, of `deadline` seconds each, waiting included."""

    def __init__(self, whom: str, most: int, deadline: float) -> None:
        self.whom = whom
        self.deadline = deadline
        self._free = asyncio.Semaphore(most)

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result, or what it raised. Raises UnknownError if that takes too long."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            self._free.release()
            if future.done():
                return  # nobody waits any more
            if error is None:
                future.set_result(result)  # type: ignore[arg-type]
            else:
                future.set_exception(error)

        def body() -> None:
            result, error = None, None
            try:
                result = function(*args, **kwargs)
            except Exception as raised:
                error = raised
            with suppress(RuntimeError):  # the loop is closed: the bait is stopping
                loop.call_soon_threadsafe(settle, result, error)

        try:
            async with asyncio.timeout(self.deadline):
                await self._free.acquire()
                try:
                    threading.Thread(target=body, name=f"api: {self.whom}", daemon=True).start()
                except RuntimeError:  # no thread is left: the next call may find one
                    self._free.release()
                    raise
                return await future
        except TimeoutError as error:
            raise UnknownError(f"{self.whom} does not answer within {self.deadline:g} s") from error


class Recent(Generic[T]):
    """One answer for all who ask within `life` seconds, trouble included."""

    def __init__(self, calls: BlockingCalls, question: Callable[[], T], life: float) -> None:
        self._calls = calls
        self._question = question
        self._life = life
        self._until = 0.0
        self._answer: Callable[[], T]
        self._asking = asyncio.Lock()

    async def get(self) -> T:
        """The answer; raises what the question raised."""
        async with self._asking:
            if time.monotonic() >= self._until:
                try:
                    answer = await self._calls.call(self._question)
                    self._answer = lambda: answer
                except WnodesError as error:
                    self._answer = _raiser(error)
                self._until = time.monotonic() + self._life
            return self._answer()

    def forget(self) -> None:
        """Something has changed: whoever asks from now on gets a new answer."""
        self._until = 0.0


def _raiser(error: WnodesError) -> Callable[[], Any]:
    def answer() -> Any:
        raise type(error)(str(error), told=error.told)

    return answer
