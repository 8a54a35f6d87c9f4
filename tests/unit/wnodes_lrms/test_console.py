"""What a console may have: bytes a second, and one end that counts."""

import asyncio
from collections.abc import Coroutine

import pytest

from wnodes_lrms.console import Pace, first_of, reason


def test_what_passes_in_the_first_second_waits_for_nothing() -> None:
    pace = Pace(100.0)
    assert [pace.delay(50, 10.0), pace.delay(50, 10.0)] == [0.0, 0.0]
    assert pace.delay(50, 10.0) == 0.5
    assert pace.delay(100, 10.5) == 1.0
    assert pace.delay(100, 30.0) == 0.0


def test_over_a_long_time_it_is_the_rate() -> None:
    pace, now, passed = Pace(1000.0), 0.0, 0
    while now < 100.0:
        now += pace.delay(700, now)
        passed += 700
    assert 100_000 <= passed <= 102_000


def test_the_first_end_counts_and_the_others_are_given_up() -> None:
    given_up: list[bool] = []

    async def never() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            given_up.append(True)
        return "never"

    async def at_once() -> str:
        await asyncio.sleep(0)
        return "at once"

    async def failing() -> str:
        await asyncio.sleep(0)
        raise ValueError

    async def first(*works: Coroutine[None, None, str]) -> str:
        return await first_of(*works)

    assert asyncio.run(first(never(), at_once(), never())) == "at once"
    with pytest.raises(ValueError, match=r"^$"):
        asyncio.run(first(never(), failing()))
    assert given_up == [True] * 3


def test_a_reason_fits_into_a_close_frame() -> None:
    assert reason("the VM has stopped") == "the VM has stopped"
    assert len(reason("é" * 100).encode()) == 122
