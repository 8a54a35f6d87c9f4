"""Publishing: each usage in one message, each message in the queue once, whatever is killed."""

import fcntl
import os
import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from dirq.QueueSimple import QueueSimple

from bait.accounting import outbox, publishing
from bait.accounting.publishing import due, publish, told
from bait.ledger.clock import Moment
from bait.ledger.ledger import Ledger
from bait.ledger.records import Clock, Subject, Usage
from bait.ledger.usage import follow, stop, usages
from tests.unit.bait.accounting.apelrecords import records
from tests.unit.bait.accounting.test_apel import ENDED, RUNS
from tests.unit.bait.conftest import an_order
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import RejectedError, WnodesError
from wnodes_lrms.model import Kind, State

SPEC = an_order().model_dump_json(exclude_defaults=True)
START = 1_790_000_000.0


@dataclass
class Site:
    """A ledger, a queue, and what SSM has taken out of it."""

    folder: Path
    taken: list[str] = field(default_factory=list)

    @property
    def queue(self) -> Path:
        return self.folder / "outgoing"

    def copy(self, name: str) -> "Site":
        """Another one in which the same has happened so far."""
        there = self.folder.with_name(f"{self.folder.name}-{name}")
        shutil.copytree(self.folder, there)
        return Site(there, list(self.taken))

    def ledger(self) -> Ledger:
        return Ledger(self.folder / "ledger.sqlite")

    def config(self, **accounting: object) -> Config:
        settings = {"site": "BOX", "queue": str(self.queue)} | accounting
        return Config.model_validate(
            {
                "cluster": "box",
                "lrms": "slurm",
                "bait": {"state_dir": str(self.folder)},
                "accounting": settings,
            }
        )

    def publish(self) -> list[str]:
        ledger = self.ledger()
        try:
            return publish(ledger, self.config(), "hv1")
        finally:
            ledger.close()

    def take(self) -> None:
        """SSM sends all that there is."""
        reader = QueueSimple(str(self.queue))
        for name in reader:
            assert reader.lock(name)
            self.taken.append(reader.get(name).decode("ascii"))
            reader.remove(name)
        reader.purge()

    def records(self) -> list[dict[str, str]]:
        """All records that SSM has sent, in order."""
        self.take()
        return [record for text in self.taken for record in records(text)]

    def life(
        self, machine: str, *moves: tuple[State | None, float], kind: Kind = Kind.CLOUD
    ) -> None:
        """A VM goes from state to state, at these seconds after START."""
        ledger = self.ledger()
        subject = Subject(
            f"lease-{machine}", machine, kind, "7", 0, 1501, "small_os_x86_64", 1, 256, SPEC
        )
        with ledger.store.change() as db:
            for state, second in moves:
                follow(db, subject, state, Moment(START + second, "boot", second))
        ledger.close()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "outgoing").mkdir()
    return Site(tmp_path)


RUN = ((State.STARTING, 0.0), (State.READY, 5.0))


def test_a_machine_is_told_of_while_it_runs_and_once_when_it_is_over(site: Site) -> None:
    site.life("a", *RUN)
    assert len(site.publish()) == 1
    assert site.publish() == []
    site.life("a", (State.READY, 86400.0))
    assert len(site.publish()) == 1
    site.life("a", (State.SUSPENDED, 90000.0), (State.READY, 90100.0), (State.STOPPED, 90200.0))
    assert len(site.publish()) == 1
    assert site.publish() == []
    found = site.records()
    assert [(r["Status"], r["WallDuration"], r["SuspendDuration"]) for r in found] == [
        ("started", "5", "0"),
        ("started", "86400", "0"),
        ("completed", "90100", "100"),
    ]
    assert [r.get("EndTime") for r in found] == [None, None, str(int(START) + 90200)]
    assert {r["VMUUID"] for r in found} == {"lease-a"}


def test_the_end_is_told_of_a_machine_that_did_not_run_on(site: Site) -> None:
    """As after a crash of its node: closed with what was known, and published, before."""
    site.life("a", *RUN)
    site.publish()
    site.life("a", (State.STOPPED, 5.0))
    site.publish()
    assert site.publish() == []
    assert [r["Status"] for r in site.records()] == ["started", "completed"]


def test_the_end_is_told_once_of_a_machine_that_was_lost(site: Site) -> None:
    """Its clock stands from when it was last seen; its usage is closed once it has been ended."""
    site.life("a", *RUN)
    ledger = site.ledger()
    with ledger.store.change() as db:
        stop(db, "a", Moment(START + 8.0, "boot", 8.0))
    ledger.close()
    site.life("a", (State.STOPPING, 9.0))
    assert site.publish() == []
    site.life("a", (State.STOPPED, 12.0))
    site.publish()
    assert site.publish() == []
    assert [(r["Status"], r["WallDuration"]) for r in site.records()] == [("completed", "8")]


def test_only_cloud_machines_that_ran_are_told_of(site: Site) -> None:
    site.life("batch", *RUN, (None, 9.0), kind=Kind.BATCH)
    site.life("starting", (State.STARTING, 0.0))
    site.life("never", (State.STARTING, 0.0), (State.FAILED, 9.0))
    assert site.publish() == []
    assert list(site.queue.iterdir()) == []


def test_a_message_has_at_most_a_hundred_records(site: Site) -> None:
    for number in range(203):
        site.life(f"m{number:03}", *RUN, (State.STOPPED, 60.0))
    names = site.publish()
    assert names == sorted(set(names))
    assert [len(records((site.queue / name).read_text())) for name in names] == [100, 100, 3]
    assert [r["MachineName"] for r in site.records()] == [f"m{n:03}" for n in range(203)]


def test_the_ledger_knows_which_message_a_usage_is_in(site: Site) -> None:
    site.life("a", *RUN, (State.STOPPED, 60.0))
    site.publish()
    ledger = site.ledger()
    with ledger.store.change() as db:
        (usage,) = usages(db, None, 0.0)
        ((number, state),) = db.execute("SELECT number, state FROM message").fetchall()
    ledger.close()
    assert (usage.message, usage.sent, state) == (number, usage.ended, "sent")


@pytest.mark.parametrize(
    ("usage", "is_due"),
    [
        (RUNS, True),
        (replace(RUNS, sent=told(RUNS)), False),
        (replace(RUNS, sent=told(RUNS) - 15), True),
        (replace(RUNS, clock=Clock.HELD, held=9.0, sent=told(RUNS)), True),
        (ENDED, True),
        (replace(ENDED, sent=ENDED.wall + ENDED.held), True),
        (replace(ENDED, sent=told(ENDED)), False),
        (replace(ENDED, kind=Kind.BATCH), False),
        (replace(ENDED, ended=None), False),  # lost, and being ended
    ],
)
def test_what_is_due(usage: Usage, is_due: bool) -> None:
    assert due([usage], set()) == [usage] * is_due
    assert due([usage], {usage.number}) == []


def test_a_site_without_a_name_publishes_nothing(site: Site) -> None:
    site.life("a", *RUN)
    with pytest.raises(RejectedError, match=r"\[accounting\] site is not set"):
        publish(site.ledger(), site.config(site=None), "hv1")


def test_a_wrong_queue_loses_nothing(site: Site) -> None:
    site.life("a", *RUN, (State.STOPPED, 60.0))
    ledger = site.ledger()
    with pytest.raises(WnodesError, match="nowhere: No such file or directory; nothing is lost"):
        publish(ledger, site.config(queue=str(site.folder / "nowhere")), "hv1")
    assert len(publish(ledger, site.config(), "hv1")) == 1
    ledger.close()


def test_a_queue_that_fails_in_the_middle_loses_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.life("a", *RUN)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _full)
        for _ in range(2):
            with pytest.raises(WnodesError, match="No space left on device"):
                site.publish()
    site.life("a", (State.STOPPED, 60.0))
    assert len(site.publish()) == 2
    assert [r["Status"] for r in site.records()] == ["started", "completed"]


def _full(_descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def test_one_publisher_at_a_time(site: Site) -> None:
    with (site.folder / "publishing.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(WnodesError, match="another publish is under way"):
            site.publish()
    assert site.publish() == []


# Killed at every step: the steps are the lines of the two modules that a publish goes through, as
# the interpreter itself tells them, so that a new line is a new step. What a kill leaves is what is
# in the files then, so a copy of them is made at each step of one publish.

_OURS = {publishing.__file__, outbox.__file__}


def killed_at(site: Site, only: int | None = None) -> dict[int, Site]:
    """A publish that goes on to its end, and what was there before each of its steps, or one."""
    lines: set[tuple[str, int]] = set()
    left: dict[int, Site] = {}

    def trace(frame: FrameType, event: str, _value: Any) -> Any:
        if frame.f_code.co_filename not in _OURS:
            return None
        line = frame.f_code.co_filename, frame.f_lineno
        if event == "line" and line not in lines:
            if only in (None, len(lines)):
                left[len(lines)] = site.copy(f"{len(lines)}")
            lines.add(line)
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        site.publish()
    finally:
        sys.settrace(previous)
    return left


@pytest.mark.parametrize("ssm_is_quick", [False, True])
def test_killed_anywhere_each_record_is_there_once(site: Site, ssm_is_quick: bool) -> None:
    """`ssm_is_quick`: it takes the message away before the next publish comes.

    Then that one is killed too, somewhere, and only the third one goes through.
    """
    site.life("a", *RUN, (State.STOPPED, 60.0))
    every = killed_at(site)
    assert len(every) > 60
    for step, killed in every.items():
        if ssm_is_quick:
            killed.take()
            again = step * 31 % len(every)
            killed = killed_at(killed, again).get(again, killed)
            killed.take()
        killed.publish()
        assert [record["VMUUID"] for record in killed.records()] == ["lease-a"], step
        assert not list(killed.queue.glob(".*"))
