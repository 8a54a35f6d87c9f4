"""What comes next for a VM in each state, if something changes."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import pytest

from bait.ledger.records import Row
from bait.ledger.states import MOVES
from bait.reconcile.foresight import after, as_it_is, then, utc, would
from tests.unit.bait.reconcile.ledgerrows import BATCH, NOW
from wnodes_lrms.model import Kind, State

EACH = sorted({(kind, new) for kind, moves in MOVES.items() for _, new in moves if new})
NOTICE = 70.0


def row(kind: Kind = Kind.BATCH, state: State = State.READY) -> Row:
    of = Row(BATCH, "12", 0, state, NOW, kind=kind)
    return replace(of, lease="lease", ends=NOW + 3600) if kind is Kind.CLOUD else of


@pytest.mark.parametrize(("kind", "state"), EACH)
def test_whatever_the_plan_would_do_has_words(kind: Kind, state: State) -> None:
    whole = as_it_is(row(kind, state), NOW, NOTICE, None)
    jobs: tuple[Mapping[str, bool] | None, ...] = (None, {}, {"12": False}, {"12": True})
    for live, domains, drain_by, now in product(
        jobs, (None, {}, whole.domains), (None, NOW), (NOW, NOW + 3550, NOW + 7200)
    ):
        coming = would(replace(whole, live_jobs=live, domains=domains, drain_by=drain_by, now=now))
        assert coming is None or (coming.comes and coming.why)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("state", [State.READY, State.PAUSED])
def test_a_vm_of_which_nothing_is_wrong_is_left_alone(kind: Kind, state: State) -> None:
    assert would(as_it_is(row(kind, state), NOW, NOTICE, None)) is None


def test_what_a_change_brings_is_said_if_it_does_not_come_anyway() -> None:
    evidence = as_it_is(row(), NOW, NOTICE, None)
    gone = "the VM and all that it has are removed, after [bait] grace"
    assert list(after("when its job ends", evidence, live_jobs={})) == [
        f"when its job ends: {gone}"
    ]
    assert list(after("when nothing changes", evidence)) == []
    over = replace(evidence, live_jobs={})
    assert list(after("when its job ends", over, live_jobs={})) == []


def test_what_comes_at_a_time() -> None:
    evidence = as_it_is(row(Kind.CLOUD), NOW, NOTICE, None)
    ends = NOW + 3600
    (said,) = then(ends, evidence)
    assert said.startswith(
        f"at {utc(ends)}: the guest is told to shut down, and its disk is kept: "
    )
    assert list(then(NOW + 60, evidence)) == []  # before it is told of the end
    late = replace(evidence, now=ends + 60, drain_by=ends + 120)
    assert would(late) != would(replace(late, now=ends - 30))
    assert list(then(ends - 30, late)) == []  # that is past
    assert list(then(ends, replace(evidence, now=ends - 1))) == []  # it comes anyway


def test_times_are_utc() -> None:
    assert utc(1_789_862_400.9) == "2026-09-20T00:00:00Z"
