"""Blocking calls beside an event loop: bounded in number and time, and never in the loop's way."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from bait.frontend.blocking import BlockingCalls, Recent
from wnodes_lrms.errors import RejectedError, UnknownError


def run(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(body(), 10))


def test_results_and_errors_come_back() -> None:
    async def body() -> None:
        calls = BlockingCalls("libvirt", 1, 5)
        assert await calls.call(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await calls.call(divmod, 7, 0)
        assert await calls.call(divmod, 7, 2) == (3, 1)  # its turn was free again

    run(body)


def test_a_call_that_hangs_is_given_up_and_keeps_its_place() -> None:
    async def body() -> None:
        calls, free = BlockingCalls("libvirt", 1, 0.2), threading.Event()
        began = time.monotonic()
        with pytest.raises(UnknownError, match=r"libvirt does not answer within 0\.2 s"):
            await calls.call(free.wait)
        with pytest.raises(UnknownError):  # there is no second place
            await calls.call(int)
        assert time.monotonic() - began < 10
        free.set()
        await asyncio.sleep(0.05)
        assert await calls.call(int) == 0

    run(body)


def test_one_for_which_no_thread_is_left_keeps_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def body() -> None:
        calls = BlockingCalls("libvirt", 1, 5)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(RuntimeError):
                await calls.call(int)
        assert await calls.call(int) == 0

    run(body)


def test_the_loop_goes_on_while_calls_block() -> None:
    async def body() -> None:
        calls, free = BlockingCalls("libvirt", 2, 5), threading.Event()
        blocked = [asyncio.create_task(calls.call(free.wait)) for _ in range(2)]
        other = BlockingCalls("ledger", 1, 5)
        assert [await other.call(int) for _ in range(20)] == [0] * 20
        assert not any(task.done() for task in blocked)
        free.set()
        assert await asyncio.gather(*blocked) == [True, True]

    run(body)


def test_no_more_calls_run_at_once_than_there_are_places() -> None:
    running: list[int] = [0, 0]
    guard = threading.Lock()

    def call() -> None:
        with guard:
            running[0] += 1
            running[1] = max(running)
        time.sleep(0.02)
        with guard:
            running[0] -= 1

    async def body() -> None:
        calls = BlockingCalls("libvirt", 3, 5)
        await asyncio.gather(*(calls.call(call) for _ in range(12)))

    run(body)
    assert running == [0, 3]


def test_one_answer_serves_all_who_ask_within_its_life() -> None:
    numbers = itertools.count(1)

    async def body() -> None:
        recent = Recent(BlockingCalls("the batch system", 4, 5), lambda: next(numbers), 0.2)
        assert await asyncio.gather(*(recent.get() for _ in range(10))) == [1] * 10
        recent.forget()
        assert await recent.get() == 2
        await asyncio.sleep(0.25)
        assert await recent.get() == 3

    run(body)


def test_trouble_is_an_answer_too() -> None:
    """Else each of those who wait would in turn wait for the whole of the deadline."""
    asked: list[int] = []

    def ask() -> None:
        asked.append(1)
        raise RejectedError("no")

    async def body() -> None:
        recent = Recent(BlockingCalls("the batch system", 4, 5), ask, 5)
        got = await asyncio.gather(*(recent.get() for _ in range(10)), return_exceptions=True)
        assert [(type(each), str(each)) for each in got] == [(RejectedError, "no")] * 10
        assert len(asked) == 1

    run(body)
