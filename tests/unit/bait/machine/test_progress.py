"""Each step of a build is said once, and none is begun once its task is to stop."""

import logging
import time
from collections.abc import Callable

import pytest

from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.machine import progress
from bait.machine.progress import Progress
from bait.machine.tasks import Task
from wnodes_lrms.errors import CancelledError
from wnodes_lrms.model import State

ROW = Row("vm", "7", 0, State.REQUESTED, time.time())


@pytest.fixture
def task(ledger: Ledger) -> Task:
    ledger.promise(ROW)
    ledger.change(ROW.id, "building", state=State.BUILDING)
    return Task()


def history(ledger: Ledger) -> list[str]:
    return [event.what for event in ledger.events("7")][2:]


def test_each_step_is_said_once(
    ledger: Ledger, task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=progress.__name__)
    made = Progress(ledger, ROW, task)
    for what in ("fetching", "fetching", "making the disk", "fetching"):
        made.step(what)
    assert history(ledger) == ["fetching", "making the disk", "fetching"]
    assert [record.getMessage() for record in caplog.records] == history(ledger)


def test_libvirt_is_asked_once_that_is_written_down(ledger: Ledger, task: Task) -> None:
    Progress(ledger, ROW, task).starting()
    row = ledger.get(ROW.id)
    assert row
    assert (row.state, history(ledger)) == (State.STARTING, ["starting the domain"])


@pytest.mark.parametrize("do", [lambda made: made.step("fetching"), lambda made: made.starting()])
def test_a_task_that_is_to_stop_begins_nothing(
    ledger: Ledger, task: Task, do: Callable[[Progress], None]
) -> None:
    task.cancelled.set()
    with pytest.raises(CancelledError):
        do(Progress(ledger, ROW, task))
    assert history(ledger) == []


@pytest.mark.parametrize("state", [State.FAILED, State.ENDING, None])
def test_of_a_vm_whose_end_has_begun_libvirt_is_asked_nothing(
    ledger: Ledger, task: Task, state: State | None
) -> None:
    if state is State.FAILED:
        ledger.change(ROW.id, "failed", state=state)
    else:
        ledger.change(ROW.id, "ending", state=State.ENDING)
    if state is None:
        ledger.forget(ROW, "gone")
    with pytest.raises(CancelledError):
        Progress(ledger, ROW, task).starting()
    row = ledger.get(ROW.id)
    assert (row.state if row else None) is state
