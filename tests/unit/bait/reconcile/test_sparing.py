"""When the batch system need not be asked again what it has said a moment ago."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from bait.ledger.records import Row
from bait.machine.tasks import Task
from bait.reconcile.loop import PeriodicLoop
from bait.reconcile.sparing import LONGEST, suffices
from tests.unit.conftest import Bait, Node
from wnodes_lrms.model import State

RUNS = Row("m", "7", 0, State.READY, 0.0)
LISTED = {"7": False}


def test_a_listing_will_do_for_vms_whose_jobs_were_heard_since() -> None:
    assert suffices(LISTED, 1.0, [RUNS], (), {"7"})


def test_a_listing_will_do_for_a_node_with_nothing_on_it() -> None:
    assert suffices({}, 1.0, [], (), ())
    assert suffices({}, 1.0, [replace(RUNS, job="", state=State.STOPPED)], (), ())


@pytest.mark.parametrize(
    ("listed", "age", "rows", "strangers", "heard"),
    [
        pytest.param(None, 1.0, [RUNS], (), {"7"}, id="there was no answer"),
        pytest.param(LISTED, LONGEST + 1, [RUNS], (), {"7"}, id="it is old"),
        pytest.param(LISTED, 1.0, [RUNS], (), (), id="its job is silent"),
        pytest.param({}, 1.0, [RUNS], (), {"7"}, id="its job was not listed"),
        pytest.param({"7": True}, 1.0, [RUNS], (), {"7"}, id="its job was suspended"),
        pytest.param(LISTED, 1.0, [RUNS], ("n",), {"7"}, id="a VM that no row knows"),
        pytest.param(LISTED, 1.0, [RUNS, replace(RUNS, id="n", job="8")], (), {"7"}, id="another"),
    ],
)
def test_else_there_has_to_be_a_new_one(
    listed: dict[str, bool] | None,
    age: float,
    rows: list[Row],
    strangers: tuple[str, ...],
    heard: set[str],
) -> None:
    assert not suffices(listed, age, rows, strangers, heard)


@pytest.fixture
def asked(node: Node, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often the batch system was asked for its jobs."""
    times, listing = [], node.batch.live_jobs

    def counted() -> dict[str, bool]:
        times.append(time.monotonic())
        return listing()

    monkeypatch.setattr(node.batch, "live_jobs", counted)
    return lambda: len(times)


def _rounds(bait: Bait, count: int) -> None:
    loop = PeriodicLoop(bait.reconciler, lambda: None)
    for _ in range(count):
        loop.run_once()


def test_a_node_at_rest_asks_for_one_listing_in_many_rounds(
    node: Node, asked: Callable[[], int]
) -> None:
    _rounds(node.bait(), 4)
    assert asked() == 1


def test_a_job_that_is_heard_of_is_asked_for_once_and_one_that_falls_silent_each_time(
    node: Node, asked: Callable[[], int]
) -> None:
    bait = node.bait()
    node.batch.grant("7")
    assert node.ledger.promise(replace(RUNS, id="m" * 8))

    def work(task: Task) -> None:
        task.cancelled.wait(20)

    bait.tasks.start("m" * 8, "7", work, lambda _error: None)  # so the plan leaves it alone
    bait.tasks.heard.note("7", 0)
    _rounds(bait, 3)
    assert asked() == 1
    bait.tasks.heard._last.clear()
    _rounds(bait, 2)
    assert asked() == 3


def test_an_administrator_who_asks_for_the_plan_gets_a_new_listing(
    node: Node, asked: Callable[[], int]
) -> None:
    bait = node.bait()
    _rounds(bait, 2)
    bait.reconciler.reconcile()
    bait.reconciler.look()
    assert asked() == 3
