"""Calls that come faster than they can be made."""

import functools
import threading

import pytest

from bait.hypervisor import coalescing
from bait.hypervisor.coalescing import Coalescer
from tests.unit.conftest import eventually

NAME = "of this test"


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coalescing, "_PAUSE", 0.01)


def threads() -> int:
    return sum(thread.name == NAME for thread in threading.enumerate())


def test_of_those_that_come_meanwhile_the_last_is_made() -> None:
    calls, made, go_on = Coalescer(NAME), list[int](), threading.Event()

    def wait() -> None:
        assert go_on.wait(60)
        made.append(0)

    calls.call("a", wait)
    eventually(lambda: calls._due["a"] is None)  # it has begun
    for number in range(1, 50):
        calls.call("a", functools.partial(made.append, number))
    calls.call("b", lambda: made.append(-1))
    eventually(lambda: made == [-1])
    eventually(lambda: threads() == 1)
    go_on.set()
    eventually(lambda: threads() == 0)
    assert made == [-1, 0, 49]


def test_a_fault_is_logged_and_the_next_call_is_made(caplog: pytest.LogCaptureFixture) -> None:
    calls, made = Coalescer(NAME), list[int]()

    def fail() -> None:
        raise ValueError("oh")

    calls.call("a", fail)
    eventually(lambda: threads() == 0)
    assert "ValueError: oh" in caplog.text
    calls.call("a", lambda: made.append(1))
    eventually(lambda: made == [1])
