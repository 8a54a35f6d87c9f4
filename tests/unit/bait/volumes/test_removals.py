"""Removals: by one thread, and nothing that was deleted meanwhile is left."""

import threading

import pytest

from bait.volumes import removals as module
from bait.volumes.removals import Removals
from tests.unit.conftest import eventually


def test_one_thread_removes_and_looks_once_more() -> None:
    go_on, looks, before = threading.Event(), [], {*threading.enumerate()}

    def remove() -> bool:
        looks.append(threading.current_thread())
        go_on.wait()
        return False

    def more() -> int:
        return len({*threading.enumerate()} - before)

    removals = Removals(remove)
    try:
        removals.begin()
        eventually(lambda: looks)
        for _ in range(3):
            removals.begin()
        eventually(lambda: more() == 1)
        removals.run()  # it is left to that thread
        assert len(looks) == 1
    finally:
        go_on.set()
    eventually(lambda: more() == 0)
    assert (len(looks), len({*looks})) == (2, 1)


def test_a_fault_keeps_no_later_one_from_being_begun(caplog: pytest.LogCaptureFixture) -> None:
    faults = [ZeroDivisionError("of ours")]

    def remove() -> bool:
        if faults:
            raise faults.pop()
        done.append(True)
        return False

    done: list[bool] = []
    removals = Removals(remove)
    removals.run()
    assert ("of ours" in caplog.text, done) == (True, [])
    removals.run()
    assert done == [True]


def test_what_can_not_be_removed_is_come_back_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """By one thread, though each that asks finds it still there."""
    left, looks, before = threading.Event(), [], {*threading.enumerate()}
    left.set()

    def remove() -> bool:
        looks.append(True)
        return left.is_set()

    waits = Removals(remove)
    for _ in range(3):
        waits.run()
    [timer] = {*threading.enumerate()} - before
    assert isinstance(timer, threading.Timer)
    timer.cancel()
    looks.clear()
    monkeypatch.setattr(module, "_AGAIN", 0.0)
    Removals(remove).run()
    eventually(lambda: len(looks) > 3)
    left.clear()
    eventually(lambda: not {*threading.enumerate()} - before)
