"""How often the batch system is asked, by however many who want to know whatever."""

import functools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from bait.reconcile.jobs import PAUSE, Jobs, RateLimit, Shared
from tests.unit.conftest import NOBODY, Batch
from wnodes_lrms.errors import NotListedError, RejectedError, UnknownError
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.model import Allocation

T = TypeVar("T")
UID = NOBODY.pw_uid
JOB = JobId("7")


class Counted(Batch):
    """A batch system that counts what it is asked, and can be held up."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.open = threading.Event()
        self.open.set()

    def allocation(self, job: str) -> Allocation:
        self.asked.append(job)
        return super().allocation(job)

    def live_jobs(self) -> dict[str, bool]:
        self.asked.append("")
        found = super().live_jobs()
        self.open.wait(60)
        return found


@pytest.fixture
def batch() -> Counted:
    return Counted()


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that goes on by what is slept, and a way to have it go on."""
    now = [1000.0]

    def later(by: float) -> None:
        now[0] += by

    def tick() -> float:
        now[0] += 1e-6  # no two looks at a clock see the same
        return now[0]

    monkeypatch.setattr("bait.reconcile.jobs.time.monotonic", tick)
    monkeypatch.setattr("bait.reconcile.jobs.time.sleep", later)
    return later


class Crowd:
    """Many who ask at once: one whose question is under way, and others who come meanwhile."""

    def __init__(self, batch: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
        self._batch = batch
        self._came: set[str] = set()
        clock = time.monotonic

        def monotonic() -> float:  # looked at by each who comes, before they wait
            now = clock()
            self._came.add(threading.current_thread().name)
            return now

        monkeypatch.setattr("bait.reconcile.jobs.time.monotonic", monotonic)

    def ask(self, questions: Sequence[Callable[[], T]]) -> list[T]:
        """What all are told."""
        self._batch.open.clear()
        with ThreadPoolExecutor(len(questions), thread_name_prefix="asks") as pool:
            asked = [pool.submit(questions[0])]
            self._until(lambda: bool(self._batch.asked))
            asked += [pool.submit(question) for question in questions[1:]]
            self._until(lambda: self._here() == len(questions))
            self._batch.open.set()
            return [each.result(60) for each in asked]

    def _here(self) -> int:
        return sum(name.startswith("asks") for name in self._came.copy())

    def _until(self, so: Callable[[], bool]) -> None:
        for _ in range(6000):
            if so():
                return
            time.sleep(0.01)
        pytest.fail("they do not come")


@pytest.fixture
def crowd(batch: Counted, monkeypatch: pytest.MonkeyPatch) -> Crowd:
    return Crowd(batch, monkeypatch)


def refused(jobs: Jobs, job: str, uid: int = UID) -> Exception:
    with pytest.raises((RejectedError, UnknownError)) as caught:
        jobs.granted(JobId(job), uid)
    return caught.value


def test_a_job_that_is_not_listed_is_asked_for_no_further(batch: Counted) -> None:
    jobs = Jobs(batch, pause=0.0)
    assert isinstance(refused(jobs, "8"), NotListedError)
    assert batch.asked == [""]


def test_many_numbers_at_once_cost_two_listings(batch: Counted, crowd: Crowd) -> None:
    jobs = Jobs(batch, pause=0.0)
    numbers = range(1, 51)
    faults = crowd.ask([functools.partial(refused, jobs, str(each), each) for each in numbers])
    assert {type(fault) for fault in faults} == {NotListedError}
    assert batch.asked == ["", ""]  # the first one's, and one for all others


@pytest.mark.usefixtures("seconds")
def test_questions_one_after_the_other_keep_their_distance(batch: Counted) -> None:
    jobs = Jobs(batch)
    begun = time.monotonic()
    for number in range(1, 11):
        refused(jobs, str(number))
    assert time.monotonic() - begun >= 9 * PAUSE
    assert len(batch.asked) == 10


def test_a_job_that_begins_meanwhile_is_found(batch: Counted) -> None:
    jobs = Jobs(batch, pause=0.0)
    refused(jobs, "7")
    batch.grant("7")
    assert jobs.granted(JOB, UID).job == "7"


def test_nobody_gets_an_answer_from_before_they_asked(batch: Counted) -> None:
    jobs = Jobs(batch, pause=0.0)
    batch.open.clear()
    with ThreadPoolExecutor(2) as pool:
        early = pool.submit(refused, jobs, "7")
        while not batch.asked:  # its listing is under way, without the job
            pass
        batch.grant("7")
        late = pool.submit(jobs.granted, JOB, UID)
        batch.open.set()
        assert isinstance(early.result(10), NotListedError)
        assert late.result(10).job == "7"


def test_trouble_is_shared_by_those_who_waited_for_it(batch: Counted) -> None:
    batch.jobs = None
    shared = Shared(batch.live_jobs, pause=0.0)
    faults = []
    for _ in range(3):
        with pytest.raises(UnknownError) as caught:
            shared.ask()
        faults.append(caught.value)
    assert len(batch.asked) == 3
    assert len(set(map(str, faults))) == 1
    batch.jobs = {"7": batch_job(batch)}
    assert shared.ask() == {"7": False}


def batch_job(batch: Counted) -> Allocation:
    batch.jobs = {}
    return batch.grant("7")


def test_a_stranger_costs_nothing_once_the_owner_is_known(batch: Counted) -> None:
    batch.grant("7")
    jobs = Jobs(batch, pause=0.0)
    for stranger in range(2000, 2050):
        assert "not yours" in str(refused(jobs, "7", stranger))
    assert [job for job in batch.asked if job] == ["7"]
    assert jobs.granted(JOB, UID).uid == UID


def test_a_number_that_is_used_again_has_a_new_owner(batch: Counted) -> None:
    batch.grant("7", uid=4242)
    jobs = Jobs(batch, pause=0.0)
    refused(jobs, "7")
    batch.jobs = {}
    refused(jobs, "7")
    batch.grant("7")
    assert jobs.granted(JOB, UID).uid == UID


def test_a_second_run_is_not_taken_for_the_first(batch: Counted) -> None:
    jobs = Jobs(batch, pause=0.0)
    batch.grant("7", restart=0)
    assert jobs.granted(JOB, UID).restart == 0
    batch.grant("7", restart=1)
    assert jobs.granted(JOB, UID).restart == 1


@pytest.mark.usefixtures("seconds")
def test_an_owner_of_many_jobs_has_their_turn_and_no_more(batch: Counted) -> None:
    for number in range(1, 101):
        batch.grant(str(number))
    jobs = Jobs(batch, pause=0.0)
    faults = 0
    for number in range(1, 101):
        try:
            jobs.granted(JobId(str(number)), UID)
        except UnknownError:
            faults += 1
    assert len([job for job in batch.asked if job]) == 100 - faults
    assert faults > 80
    batch.grant("200", uid=4242)
    assert jobs.granted(JobId("200"), 4242).uid == 4242  # others have turns of their own


def test_who_shares_an_answer_keeps_their_turn(batch: Counted, crowd: Crowd) -> None:
    shared, taken = Shared(batch.live_jobs, pause=0.0), []
    told = crowd.ask([lambda: shared.ask(lambda: taken.append(1))] * 9)
    assert told == [{}] * 9
    assert len(taken) == len(batch.asked) == 2


def test_who_has_no_turn_puts_no_question(batch: Counted) -> None:
    def not_now() -> None:
        raise UnknownError("not now")

    shared = Shared(batch.live_jobs, pause=0.0)
    with pytest.raises(UnknownError, match="not now"):
        shared.ask(not_now)
    assert batch.asked == []
    assert shared.ask() == {}


def test_turns_come_back(seconds: Callable[[float], None]) -> None:
    limit = RateLimit()

    def had() -> int:
        for number in range(40):
            try:
                limit.take(1)
            except UnknownError:
                return number
        return 40

    assert had() == 16
    seconds(3.0)
    assert had() == 3
    seconds(1000.0)
    assert had() == 16


def test_users_who_have_asked_are_not_remembered_for_ever() -> None:
    limit = RateLimit()
    for uid in range(10_000):
        limit.take(uid)
    assert len(limit._since) == 4096
