"""The fault harness judges records rightly: what it misses, nobody finds."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

import pytest

from bait.ledger.states import MOVES
from tests.chaos.faults import SLOW, Fault, Plan, every_move
from tests.chaos.jobs import Queue
from tests.chaos.records import Death, judge, published, runs
from tests.chaos.wire import At, Seen
from tests.e2e.lrms.listing import Listed
from wnodes_lrms.model import Kind, State

S = State


def moves(kind: Kind, *states: State | None, job: str = "7", every: float = 10.0) -> Iterator[At]:
    """A machine's way through these states, a move each few seconds."""
    old: State | None = None
    for number, new in enumerate(states):
        yield At(Seen("hv1", True, kind, old, new, "m", job), number * every)
        old = new


def usage(**changes: object) -> dict[str, object]:
    return {
        "number": 1,
        "id": "m",
        "machine": "m",
        "kind": "batch",
        "job": "7",
        "restart": 0,
        "wall": 20.0,
        "held": 0.0,
        "ended": 99.0,
    } | changes


BATCH = (S.REQUESTED, S.BUILDING, S.STARTING, S.BOOTING, S.READY, S.ENDING, None)


def test_a_run_and_its_usage() -> None:
    (run,) = runs(moves(Kind.BATCH, *BATCH))
    assert (run.began, run.ended) == (20.0, 50.0)
    verdict = judge([run], [usage(wall=30.0)])
    assert (verdict.lost, verdict.doubled, verdict.wrong) == ([], [], [])


def test_a_start_that_came_to_nothing_is_no_run() -> None:
    assert not runs(moves(Kind.CLOUD, S.REQUESTED, S.BUILDING, S.STARTING, S.FAILED))


def test_a_cold_restart_is_one_run() -> None:
    again = (S.READY, S.BUILDING, S.STARTING, S.READY, S.STOPPING, S.STOPPED)
    (run,) = runs(moves(Kind.CLOUD, S.REQUESTED, S.BUILDING, S.STARTING, *again))
    assert (run.began, run.ended) == (20.0, 80.0)


def test_a_vm_that_was_killed_ran_until_then() -> None:
    (run,) = runs(moves(Kind.BATCH, *BATCH), [Death("m", 42.0), Death("other", 41.0)])
    assert (run.began, run.ended) == (20.0, 42.0)


def test_a_vm_that_was_killed_and_started_again_ran_on() -> None:
    again = (S.READY, S.BUILDING, S.STARTING, S.READY, S.STOPPING, S.STOPPED)
    seen = moves(Kind.CLOUD, S.REQUESTED, S.BUILDING, S.STARTING, *again)
    (run,) = runs(seen, [Death("m", 35.0)])
    assert (run.began, run.ended) == (20.0, 80.0)


@pytest.mark.parametrize(
    ("usages", "lost", "doubled", "wrong"),
    [
        ([], 1, 0, 0),
        ([usage(), usage(number=2)], 0, 1, 0),
        ([usage(ended=None)], 0, 0, 1),
        ([usage(wall=900.0)], 0, 0, 1),
        ([usage(job="8")], 1, 0, 0),
    ],
)
def test_what_is_wrong(
    usages: list[dict[str, object]], lost: int, doubled: int, wrong: int
) -> None:
    verdict = judge(runs(moves(Kind.BATCH, *BATCH)), usages)
    assert (len(verdict.lost), len(verdict.doubled), len(verdict.wrong)) == (lost, doubled, wrong)


def test_each_end_is_in_one_message(tmp_path: Path) -> None:
    folder = tmp_path / "00000001"
    folder.mkdir()
    record = "VMUUID: {}\nStatus: {}\n"
    texts = [record.format("a", "started"), record.format("a", "completed")]
    (folder / "1").write_text("APEL-cloud-message: v0.4\n" + "%%\n".join(texts))
    (folder / "2").write_text(record.format("b", "completed"))
    (folder / "3").write_text(record.format("b", "completed"))
    usages = [usage(kind="cloud", id=name) for name in "abc"]
    verdict = published(tmp_path, usages)
    assert len(verdict.lost) == 1
    assert "c" in verdict.lost[0]
    assert len(verdict.doubled) == 1
    assert "b" in verdict.doubled[0]


def test_each_move_of_the_product_gets_each_fault_that_fits() -> None:
    assert {move[1:] for move in every_move() if move[0] is Kind.CLOUD} == MOVES[Kind.CLOUD]
    plan = Plan(every_move())
    for move, faults in plan.pending.items():
        assert {Fault.COMMIT, Fault.BAIT, Fault.LIBVIRTD, None} <= set(faults)
        assert ({Fault.BRIDGE, *SLOW} <= set(faults)) == (move[0] is Kind.CLOUD)
    for kind, old, new in ((Kind.BATCH, S.READY, S.ENDING), (Kind.CLOUD, S.STARTING, S.READY)):
        assert Fault.QEMU in plan.pending[kind, old, new]
        assert {Fault.STARTER, Fault.LEASE} & set(plan.pending[kind, old, new])


def test_a_fault_is_taken_once_and_can_be_given_back() -> None:
    plan = Plan(every_move(), [Fault.BAIT])
    seen = Seen("hv1", True, Kind.BATCH, None, S.REQUESTED, "m", "7")
    assert plan.take(seen, ()) is Fault.BAIT
    assert plan.take(seen, ()) is None
    plan.give_back(seen, Fault.BAIT, absent=False)
    assert plan.take(seen, {Fault.BAIT}) is None
    assert plan.take(seen, ()) is Fault.BAIT
    assert plan.injected.total() == 1


def test_a_seed_says_which_fault_comes_first() -> None:
    def order(seed: int) -> list[object]:
        return [*Plan(every_move(), rng=Random(seed)).pending.values()]  # noqa: S311

    assert order(1) == order(1) != order(2)


class Lists:
    """A batch system that lists these."""

    listed: Mapping[str, Listed]

    def listing(self) -> Mapping[str, Listed]:
        return self.listed


def test_a_lease_that_ran_in_two_jobs_is_found() -> None:
    lrms = Lists()
    queue = Queue(lrms)
    for listing in (
        [Listed("7", "wnodes-lease-a", "R", runs=True), Listed("8", "wnodes-lease-b", "Q")],
        [Listed("8", "wnodes-lease-b", "R", runs=True), Listed("9", "twice", "R", runs=True)],
    ):
        lrms.listed = {job.number: job for job in listing}
        queue.jobs(fresh=True)
        assert queue.doubled() == []
    lrms.listed = {"9": Listed("9", "wnodes-lease-a", "R", runs=True)}
    queue.jobs(fresh=True)
    assert queue.doubled() == ["wnodes-lease-a has run in the jobs 7, 9"]
