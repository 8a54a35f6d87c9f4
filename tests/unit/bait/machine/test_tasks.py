"""One thread a machine, and each lets go when it is told to."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from bait.machine import tasks as module
from bait.machine.tasks import Work, Works
from tests.unit.conftest import eventually
from wnodes_lrms.errors import CancelledError, UnknownError, WnodesError


def until_cancelled(work: Work) -> None:
    work.cancelled.wait(5)
    work.check()


def wait_for(go_on: threading.Event) -> None:
    go_on.wait(5)


def no_fault(error: WnodesError) -> None:
    raise AssertionError(error)


def test_one_thread_a_machine() -> None:
    works = Works()
    started: list[int] = []

    def task(work: Work) -> None:
        started.append(1)
        until_cancelled(work)

    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda _n: works.start("m", "7", task, no_fault), range(32)))
    assert sum(told) == len(started) == 1
    assert works.start("other", "8", until_cancelled, no_fault)
    assert works.machines() == {"m", "other"}
    works.let_go("m")
    assert works.machines() == {"other"}
    works.let_go("other")
    works.let_go("other")  # nobody has it: success


def test_the_last_one_who_takes_over_has_it() -> None:
    works = Works()
    ended: list[int] = []

    def task_of(number: int) -> None:
        def task(work: Work) -> None:
            try:
                until_cancelled(work)
            finally:
                ended.append(number)

        works.instead("m", "7", task, no_fault)

    for number in range(5):
        task_of(number)
    assert ended == [0, 1, 2, 3]
    assert works.machines() == {"m"}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(task_of, range(10, 18)))
    assert works.machines() == {"m"}
    works.let_go("m")
    assert len(ended) == 13


def test_a_thread_that_hangs_is_said_and_keeps_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    works, go_on = Works(), threading.Event()
    works.start("m", "7", lambda _work: wait_for(go_on), no_fault)
    with pytest.raises(UnknownError, match="machine m"):
        works.let_go("m")
    with pytest.raises(UnknownError, match="machine m"):
        works.instead("m", "7", until_cancelled, no_fault)
    assert works.machines() == {"m"}
    go_on.set()
    eventually(lambda: not works.machines())


def test_a_thread_does_not_wait_for_itself() -> None:
    works = Works()
    works.start("m", "7", lambda _work: works.let_go("m"), no_fault)
    eventually(lambda: not works.machines(), within=1)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (WnodesError("it broke"), "it broke"),
        (OSError(28, "No space left on device", "/disk"), "/disk: No space left on device"),
        (OSError(28, "No space left on device"), "a file of the machine: No space left"),
        (KeyError("x"), "internal fault of the bait"),
        (CancelledError("cancelled"), None),
    ],
)
def test_who_started_it_hears_of_its_fault(error: Exception, told: str | None) -> None:
    works = Works()
    heard: list[tuple[str, bool]] = []

    def task(_work: Work) -> None:
        raise error

    works.start("m", "7", task, lambda fault: heard.append((str(fault), bool(works.machines()))))
    eventually(lambda: not works.machines())
    assert [text.startswith(told or "") for text, _ in heard] == ([True] if told else [])
    assert all(has_it for _, has_it in heard)  # nobody else has begun before that is done


def test_the_end_of_a_work_is_news() -> None:
    works, go_on = Works(), threading.Event()
    works.start("m", "7", lambda _work: wait_for(go_on), no_fault)
    began = time.monotonic()
    with works.news:
        go_on.set()
        assert works.news.wait(5)
    assert time.monotonic() - began < 2
    assert works.machines() == frozenset()
