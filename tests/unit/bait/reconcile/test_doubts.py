"""Since when a doubt stands, and what the log says of the plan."""

import logging

import pytest

from bait.reconcile import doubts
from bait.reconcile.doubts import Doubts, Line
from bait.reconcile.plan import Act, Action
from tests.unit.bait.reconcile.clocks import Time

GONE = Action(Act.END, "vm", "7", "no such job", doubtful=True)
SURE = Action(Act.LOST, "vm", "7", "it is gone")


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(doubts, "time", made)
    return made


def line(action: Action, wait: float) -> Line:
    return Line(action, wait, {})


def test_only_a_doubt_waits_and_as_long_as_it_has_not_stood(time: Time) -> None:
    of = Doubts()
    assert of.wait(SURE, 60) == 0
    assert of.wait(GONE, 60) == 60
    of.remember([line(GONE, 60)])
    time.at += 30
    of.remember([line(GONE, 30)])
    time.at += 29
    assert of.wait(GONE, 60) == 1
    time.at += 100
    assert of.wait(GONE, 60) == 0


@pytest.mark.parametrize(
    "other",
    [
        None,
        SURE,
        Action(Act.END, "vm", "7", "no such job"),  # no doubt any more
        Action(Act.END, "another", "7", "no such job", doubtful=True),
        Action(Act.DESTROY, "vm", "7", "no such job", doubtful=True),
    ],
)
def test_a_doubt_that_a_plan_does_not_have_is_over(time: Time, other: Action | None) -> None:
    of = Doubts()
    of.remember([line(GONE, 60)])
    time.at += 30
    of.remember([line(other, 0)] if other else [])
    time.at += 1
    assert of.wait(GONE, 60) == 60


def test_a_doubt_stands_whatever_its_words(time: Time) -> None:
    of = Doubts()
    of.remember([line(GONE, 60)])
    time.at += 30
    assert of.wait(Action(Act.END, "vm", "7", "in other words", doubtful=True), 60) == 30


def test_each_thing_is_said_once_in_doubt_and_once_when_it_is_due(
    caplog: pytest.LogCaptureFixture, time: Time
) -> None:
    caplog.set_level(logging.INFO, logger=doubts.__name__)
    of = Doubts()
    for wait in (60.0, 45.0, 0.0, 0.0):
        of.remember([line(GONE, wait)])
        time.at += 15
    of.remember([])
    of.remember([line(GONE, 60.0)])
    assert [record.getMessage() for record in caplog.records] == [
        "end in 60 s, unless it changes: no such job",
        "end: no such job",
        "end in 60 s, unless it changes: no such job",
    ]
