"""Calls of hooks and starters, which the end of their job is to reach."""

import threading
from collections.abc import Iterator

import pytest

from bait.machine.calls import Calls
from wnodes_lrms.errors import NotListedError

LONG = 30.0  # seconds that nothing here takes


def call(calls: Calls, job: str) -> Iterator[None]:
    """One whose caller reads what it hears, as of `attach`."""
    with calls.of(job):
        yield


def test_the_end_of_a_job_reaches_its_calls_and_no_others() -> None:
    calls = Calls()
    with calls.of("7") as first, calls.of("8") as other:
        calls.end("7")
        with calls.of("7") as of_the_next_run:
            assert (first.over, other.over, of_the_next_run.over) == (True, False, False)
        with pytest.raises(NotListedError), calls.holding(first):
            raise AssertionError


def test_a_call_that_nobody_waits_for_may_be_given_up_at_any_moment() -> None:
    """Also by a thread that holds another one: there garbage is collected too."""
    calls = Calls()
    abandoned = [call(calls, "8")]
    next(abandoned[0])

    def hold() -> None:
        with calls.of("7") as held, calls.holding(held):
            abandoned.clear()

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    thread.join(LONG)
    assert not thread.is_alive()
