"""One thread a VM, and each lets go when it is told to."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from bait.machine import tasks as module
from bait.machine.tasks import Task, Tasks
from tests.unit.conftest import eventually
from wnodes_lrms.errors import CancelledError, UnknownError, WnodesError


def until_cancelled(task: Task) -> None:
    task.cancelled.wait(5)
    task.check()


def wait_for(go_on: threading.Event) -> None:
    go_on.wait(5)


def no_fault(error: WnodesError) -> None:
    raise AssertionError(error)


def test_one_thread_a_machine() -> None:
    tasks = Tasks()
    started: list[int] = []

    def do(task: Task) -> None:
        started.append(1)
        until_cancelled(task)

    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda _n: tasks.start("m", "7", do, no_fault), range(32)))
    assert sum(told) == len(started) == 1
    assert tasks.start("other", "8", until_cancelled, no_fault)
    assert tasks.machines() == {"m", "other"}
    tasks.stop("m")
    assert tasks.machines() == {"other"}
    tasks.stop("other")
    tasks.stop("other")  # nobody has it: success


def test_one_for_which_no_thread_is_left_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    tasks, done = Tasks(), threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError):
            tasks.start("m", "7", until_cancelled, no_fault)
    assert tasks.machines() == frozenset()
    tasks.stop("m")
    assert tasks.start("m", "7", lambda _task: done.set(), no_fault)
    assert done.wait(60)


def test_one_that_is_cancelled_is_not_waited_for() -> None:
    tasks, cancelled, go_on = Tasks(), threading.Event(), threading.Event()

    def do(task: Task) -> None:
        assert task.cancelled.wait(60)
        cancelled.set()
        assert go_on.wait(60)

    tasks.cancel("m")  # nobody has it: success
    tasks.start("m", "7", do, no_fault)
    tasks.cancel("m")
    assert cancelled.wait(60)
    assert tasks.machines() == {"m"}
    go_on.set()
    eventually(lambda: not tasks.machines())


def test_the_last_one_who_takes_over_has_it() -> None:
    tasks = Tasks()
    ended: list[int] = []

    def task_of(number: int) -> None:
        def do(task: Task) -> None:
            try:
                until_cancelled(task)
            finally:
                ended.append(number)

        tasks.replace("m", "7", do, no_fault)

    for number in range(5):
        task_of(number)
    assert ended == [0, 1, 2, 3]
    assert tasks.machines() == {"m"}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(task_of, range(10, 18)))
    assert tasks.machines() == {"m"}
    tasks.stop("m")
    assert len(ended) == 13


def test_a_thread_that_hangs_is_said_and_keeps_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    tasks, go_on = Tasks(), threading.Event()
    tasks.start("m", "7", lambda _task: wait_for(go_on), no_fault)
    with pytest.raises(UnknownError, match="VM m"):
        tasks.stop("m")
    with pytest.raises(UnknownError, match="VM m"):
        tasks.replace("m", "7", until_cancelled, no_fault)
    assert tasks.machines() == {"m"}
    go_on.set()
    eventually(lambda: not tasks.machines())


def test_a_thread_does_not_wait_for_itself() -> None:
    tasks = Tasks()
    tasks.start("m", "7", lambda _task: tasks.stop("m"), no_fault)
    eventually(lambda: not tasks.machines(), within=1)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (WnodesError("it broke"), "it broke"),
        (OSError(28, "No space left on device", "/disk"), "/disk: No space left on device"),
        (OSError(28, "No space left on device"), "a file of the VM: No space left"),
        (KeyError("x"), "internal fault of the bait"),
        (CancelledError("cancelled"), None),
    ],
)
def test_who_started_it_hears_of_its_fault(error: Exception, told: str | None) -> None:
    tasks = Tasks()
    heard: list[tuple[str, bool]] = []

    def do(_task: Task) -> None:
        raise error

    tasks.start("m", "7", do, lambda fault: heard.append((str(fault), bool(tasks.machines()))))
    eventually(lambda: not tasks.machines())
    assert [text.startswith(told or "") for text, _ in heard] == ([True] if told else [])
    assert all(has_it for _, has_it in heard)  # nobody else has begun before that is done


def test_the_end_of_a_work_is_news() -> None:
    tasks, go_on = Tasks(), threading.Event()
    tasks.start("m", "7", lambda _task: wait_for(go_on), no_fault)
    began = time.monotonic()
    with tasks.news:
        go_on.set()
        assert tasks.news.wait(60)
    assert time.monotonic() - began < 30
    assert tasks.machines() == frozenset()
