"""A source that is away is asked seldom, keeps nobody waiting, and is said once."""

import logging
import threading
from collections.abc import Callable
from itertools import pairwise

import pytest

from bait.reconcile import sources as module
from bait.reconcile.sources import Source
from tests.unit.bait.reconcile.clocks import Time
from tests.unit.conftest import eventually
from wnodes_lrms.errors import UnknownError, WnodesError


class Answers:
    """A source as the tests want it: it answers, is away, or hangs until it is let go."""

    def __init__(self) -> None:
        self.away = False
        self.fault: WnodesError = UnknownError("no route to host")
        self.asked = 0
        self.hangs: threading.Event | None = None
        self.value = 1

    def __call__(self) -> int:
        self.asked += 1
        if self.hangs:
            self.hangs.wait(10)
        if self.away:
            raise self.fault
        return self.value


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def answers() -> Answers:
    return Answers()


def probed(source: Source[int]) -> None:
    """The question that is on its way has come to its end."""
    probe = source._probe
    if probe:
        probe.join(5)
        assert not probe.is_alive()


def comes_back(source: Source[int], answers: Answers, time: Time) -> None:
    """One that is away answers again: it is asked, and nobody waits for that."""
    assert source.look() is None
    answers.away = False
    time.at += 5
    assert source.look() is None
    probed(source)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_one_that_answers_is_asked_each_time(answers: Answers) -> None:
    source = Source("lrms", answers)
    assert [source.look() for _ in range(3)] == [1, 1, 1]
    assert answers.asked == 3


def test_an_empty_answer_is_one() -> None:
    nothing: Callable[[], set[str]] = set
    assert Source("lrms", nothing).look() == set()


def test_one_that_is_away_is_asked_in_another_thread_and_seen_when_it_is_back(
    answers: Answers, time: Time
) -> None:
    source = Source("lrms", answers)
    answers.away = True
    assert source.look() is None
    answers.away, answers.value = False, 2
    assert source.look() is None
    assert answers.asked == 1  # too early to ask again
    time.at += 5
    assert source.look() is None  # asked now, but nobody waits for that
    probed(source)
    assert source.look() == 2
    assert source.look() == 2
    assert answers.asked == 4


def test_what_the_probe_heard_is_not_the_answer_but_what_is_said_then(
    answers: Answers, time: Time
) -> None:
    source = Source("lrms", answers)
    answers.away = True
    comes_back(source, answers, time)
    answers.value = 3
    assert source.look() == 3


def test_one_that_goes_away_again_at_once_is_away(answers: Answers, time: Time) -> None:
    source = Source("lrms", answers)
    answers.away = True
    comes_back(source, answers, time)
    answers.away = True
    comes_back(source, answers, time)  # it begins anew with a short pause
    assert source.look() == 1


def test_it_is_asked_less_and_less_often_up_to_a_ceiling(answers: Answers, time: Time) -> None:
    source = Source("lrms", answers)
    answers.away = True
    began, asked = time.at, []
    for _ in range(400):
        before = answers.asked
        assert source.look() is None
        probed(source)
        if answers.asked > before:
            asked.append(time.at - began)
        time.at += 1
    pauses = [second - first for first, second in pairwise(asked)]
    assert pauses[:4] == [5, 10, 20, 40]
    assert set(pauses[4:]) == {60}
    # And after that it is asked often again, as at the first time.
    answers.away = False
    time.at += 60
    source.look()
    probed(source)
    assert source.look() == 1
    answers.away = True
    assert source.look() is None
    before = answers.asked
    time.at += 5
    assert source.look() is None
    probed(source)
    assert answers.asked == before + 1


def test_a_question_that_hangs_keeps_nobody_and_is_asked_once(answers: Answers, time: Time) -> None:
    source = Source("libvirt", answers)
    answers.away = True
    assert source.look() is None
    answers.hangs = threading.Event()
    for _ in range(10):
        time.at += 100
        assert source.look() is None
    assert answers.asked == 2
    answers.away = False
    answers.hangs.set()
    probed(source)
    assert source.look() == 1


def test_one_line_for_each_change(
    answers: Answers, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    source = Source("lrms", answers)
    source.look()
    assert lines(caplog) == []
    answers.away = True
    for _ in range(20):
        source.look()
        probed(source)
        time.at += 10
    away = ("WARNING", "lrms does not answer, so nothing follows: no route to host")
    assert lines(caplog) == [away]
    answers.away = False
    time.at += 60
    source.look()
    probed(source)
    assert lines(caplog) == [away]
    for _ in range(3):
        assert source.look() == 1
    assert lines(caplog) == [away, ("INFO", "lrms answers again, after 260 s")]


def test_any_fault_of_a_source_is_no_answer(answers: Answers, time: Time) -> None:
    """libvirt is there, but can't make the guests' network: nothing follows from that either."""
    source = Source("libvirt", answers)
    answers.away, answers.fault = True, WnodesError("guests' network: no")
    assert source.look() is None
    time.at += 5
    assert source.look() is None
    probed(source)
    assert source.look() is None
    answers.away = False
    time.at += 60
    source.look()
    probed(source)
    assert source.look() == 1


def test_one_source_that_is_away_is_nothing_to_another(answers: Answers) -> None:
    away, well = Source("lrms", answers), Source("libvirt", Answers())
    answers.away = True
    assert away.look() is None
    assert well.look() == 1


def test_it_is_really_another_thread() -> None:
    """With the true clock, and a probe that nobody joins."""
    threads: list[str] = []
    away = True

    def question() -> int:
        threads.append(threading.current_thread().name)
        if away:
            raise UnknownError("away")
        return 1

    source = Source("lrms", question)
    assert source.look() is None
    source._again = 0.0
    assert source.look() is None
    eventually(lambda: len(threads) == 2)
    assert threads == [threading.current_thread().name, "probe"]
