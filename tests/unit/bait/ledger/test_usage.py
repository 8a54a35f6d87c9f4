"""Each second that a VM runs is written down once, whatever happens meanwhile."""

import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bait.ledger import clock
from bait.ledger.clock import Moment, between
from bait.ledger.ledger import Ledger
from bait.ledger.records import Clock, Load, Row, Usage
from bait.ledger.states import AT_REST, MOVES
from tests.unit.bait.conftest import an_order
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.model import Kind, State

BEGAN = 1_700_000_000.0
NOTHING = Load(0, {})


class Time:
    """The clocks of a node: what the calendar says can be set, the time since boot can't."""

    def __init__(self, began: float = BEGAN) -> None:
        self.moment = Moment(began, "first boot", 500.0)

    def now(self) -> Moment:
        return self.moment

    def passes(self, seconds: float, step: float = 0.0) -> None:
        """Time goes on, and the calendar's clock is also set by a step."""
        was = self.moment
        self.moment = Moment(was.utc + seconds + step, was.boot, was.ticks + seconds)

    def reboot(self, away: float) -> None:
        self.moment = Moment(self.moment.utc + away, self.moment.boot + "'", 20.0)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(clock, "now", made.now)
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path, time: Time) -> Iterator[Ledger]:  # noqa: ARG001
    ledger = Ledger(path)
    yield ledger
    ledger.close()


def batch_row(machine: str = "m", job: str = "7") -> Row:
    return Row(machine, job, 2, State.REQUESTED, 0.0, uid=1000, tag="small", cores=4, memory=2048)


def cloud_row(lease: str = "L1", machine: str = "c", job: str = "9") -> Row:
    return replace(
        batch_row(machine, job),
        restart=0,
        kind=Kind.CLOUD,
        lease=lease,
        spec=an_order(fqan="/box/Role=NULL").model_dump_json(exclude_defaults=True),
    )


def goes(ledger: Ledger, machine: str, *states: State) -> None:
    for state in states:
        assert ledger.change(machine, str(state), state=state), state


def only(ledger: Ledger) -> Usage:
    (usage,) = ledger.usages()
    return usage


def counts(ledger: Ledger) -> tuple[float, float, Clock]:
    usage = only(ledger)
    return usage.wall, usage.held, usage.clock


def begun(ledger: Ledger, row: Row, last: State) -> None:
    """The VM has been started, and nothing but that takes time."""
    assert ledger.open_lease(row) if row.lease else ledger.promise(row)
    order = (State.BUILDING, State.STARTING, State.BOOTING, State.READY)
    for state in order[: order.index(last) + 1]:
        if state is not State.BOOTING or row.kind is Kind.BATCH:
            goes(ledger, row.id, state)


# -- the life of a usage ---------------------------------------------------------------------------


def test_a_batch_machines_usage_begins_with_its_start_and_ends_with_its_end(
    ledger: Ledger, time: Time
) -> None:
    ledger.promise(batch_row())
    time.passes(1000)
    goes(ledger, "m", State.BUILDING)
    time.passes(1000)
    assert ledger.usages() == []
    goes(ledger, "m", State.STARTING)
    assert only(ledger) == Usage(
        number=1,
        id="m",
        machine="m",
        kind=Kind.BATCH,
        job="7",
        restart=2,
        uid=1000,
        tag="small",
        cores=4,
        memory=2048,
        dn="",
        fqan="",
        began=BEGAN + 2000,
        wall=0.0,
        held=0.0,
        clock=Clock.RUNS,
        at=BEGAN + 2000,
    )
    time.passes(1)
    goes(ledger, "m", State.BOOTING)
    time.passes(20)
    goes(ledger, "m", State.READY)
    assert counts(ledger) == (21.0, 0.0, Clock.RUNS)
    time.passes(300)
    goes(ledger, "m", State.ENDING)
    closed = only(ledger)
    assert (closed.wall, closed.held, closed.clock) == (321.0, 0.0, Clock.CLOSED)
    assert closed.ended == BEGAN + 2000 + 321
    time.passes(50)
    goes(ledger, "m", State.ENDING)
    ledger.forget(batch_row(), "gone")
    ledger.tick({"m": NOTHING})
    assert only(ledger) == closed


def test_a_cloud_machines_usage_is_its_leases(ledger: Ledger, time: Time) -> None:
    begun(ledger, cloud_row(), State.READY)
    usage = only(ledger)
    assert (usage.id, usage.machine, usage.kind) == ("L1", "c", Kind.CLOUD)
    assert (usage.dn, usage.fqan) == ("/C=IT/O=Box/CN=Alice", "/box/Role=NULL")
    time.passes(10)
    goes(ledger, "c", State.STOPPING)
    time.passes(5)
    (row,) = ledger.rows()
    ledger.rest(row, State.STOPPED, "stopped", 0)
    assert counts(ledger) == (15.0, 0.0, Clock.CLOSED)
    time.passes(10_000)  # at rest it costs nothing
    begun(ledger, cloud_row("L2", job="10"), State.READY)
    time.passes(7)
    goes(ledger, "c", State.ENDING)
    first, second = ledger.usages()
    assert (first.id, first.job, first.wall) == ("L1", "9", 15.0)
    assert (second.id, second.job, second.wall) == ("L2", "10", 7.0)
    assert second.number > first.number


@pytest.mark.parametrize("held", [State.PAUSED, State.SUSPENDED, State.ASLEEP])
def test_a_machine_that_is_held_does_not_run(held: State, ledger: Ledger, time: Time) -> None:
    begun(ledger, cloud_row(), State.READY)
    time.passes(10)
    goes(ledger, "c", held)
    assert counts(ledger) == (10.0, 0.0, Clock.HELD)
    time.passes(100)
    ledger.tick({"c": NOTHING})
    assert counts(ledger) == (10.0, 100.0, Clock.HELD)
    time.passes(100)
    goes(ledger, "c", State.READY)
    assert counts(ledger) == (10.0, 200.0, Clock.RUNS)
    time.passes(1)
    goes(ledger, "c", State.SUSPENDED)
    time.passes(2)
    goes(ledger, "c", State.HIBERNATING)  # QEMU writes, at the user's cost
    time.passes(4)
    (row,) = ledger.rows()
    ledger.rest(row, State.HIBERNATED, "hibernated", 0)
    assert counts(ledger) == (15.0, 202.0, Clock.CLOSED)
    assert only(ledger).ended == BEGAN + 217


@pytest.mark.parametrize("end", [State.FAILED, State.ENDING])
def test_a_start_that_came_to_nothing_costs_nothing(ledger: Ledger, time: Time, end: State) -> None:
    begun(ledger, batch_row(), State.STARTING)
    time.passes(10)
    goes(ledger, "m", end)
    assert ledger.usages() == []
    begun(ledger, batch_row("other", "8"), State.READY)
    assert only(ledger).number == 2  # a number is never used again


def test_a_first_start_of_a_cloud_machine_that_fails_leaves_nothing(
    ledger: Ledger, time: Time
) -> None:
    begun(ledger, cloud_row(), State.STARTING)
    time.passes(10)
    ledger.forget(ledger.rows()[0], "it broke", 1)
    assert ledger.usages() == []


def test_a_build_that_a_killed_bait_began_counts_from_the_start_that_was_finished(
    path: Path, ledger: Ledger, time: Time
) -> None:
    begun(ledger, batch_row(), State.STARTING)
    ledger.close()
    time.passes(100)
    again = Ledger(path)
    assert only(again).began == BEGAN
    goes(again, "m", State.BUILDING, State.STARTING)
    time.passes(5)
    goes(again, "m", State.BOOTING, State.READY)
    usage = only(again)
    assert (usage.began, usage.wall) == (BEGAN + 100, 5.0)
    again.close()


def test_a_machine_that_a_killed_bait_had_started_has_run_all_the_time(
    path: Path, ledger: Ledger, time: Time
) -> None:
    begun(ledger, batch_row(), State.STARTING)
    ledger.close()
    time.passes(100)
    again = Ledger(path)
    goes(again, "m", State.BOOTING)  # libvirt has the domain
    assert (only(again).began, only(again).wall) == (BEGAN, 100.0)
    again.close()


def test_a_machine_that_was_seen_running_is_charged_even_if_its_bait_died_as_it_began(
    ledger: Ledger, time: Time
) -> None:
    begun(ledger, batch_row(), State.STARTING)
    time.passes(100)
    ledger.tick({"m": NOTHING})  # libvirt lists it; its job is over already, which is in doubt
    time.passes(60)
    goes(ledger, "m", State.ENDING)
    assert counts(ledger) == (160.0, 0.0, Clock.CLOSED)


def test_a_cold_restart_goes_on_with_the_usage_of_its_lease(ledger: Ledger, time: Time) -> None:
    begun(ledger, cloud_row(), State.READY)
    time.passes(10)
    goes(ledger, "c", State.BUILDING)
    time.passes(2)
    goes(ledger, "c", State.STARTING)
    time.passes(1)
    goes(ledger, "c", State.READY)
    time.passes(10)
    usage = only(ledger)
    assert (usage.number, usage.began, usage.clock) == (1, BEGAN, Clock.RUNS)
    goes(ledger, "c", State.STOPPING)
    assert only(ledger).wall == 23.0


def test_a_cold_restart_of_a_machine_that_was_lost_counts_on(ledger: Ledger, time: Time) -> None:
    begun(ledger, cloud_row(), State.READY)
    time.passes(10)
    ledger.stop_clock("c", ago=3)
    time.passes(20)
    goes(ledger, "c", State.BUILDING, State.STARTING, State.READY)
    time.passes(10)
    goes(ledger, "c", State.STOPPING)
    assert counts(ledger) == (17.0, 0.0, Clock.RUNS)


def test_a_cold_restart_that_fails_ends_the_usage(ledger: Ledger, time: Time) -> None:
    begun(ledger, cloud_row(), State.READY)
    time.passes(10)
    goes(ledger, "c", State.BUILDING)
    time.passes(2)
    ledger.rest(ledger.rows()[0], State.FAILED, "no image", 1)
    assert counts(ledger) == (12.0, 0.0, Clock.CLOSED)


def test_the_journal_and_the_move_are_one_change(path: Path, ledger: Ledger) -> None:
    begun(ledger, batch_row(), State.READY)
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE usage RENAME TO hidden")
    with pytest.raises(WnodesError, match="usage"):
        ledger.change("m", "ending", state=State.ENDING)
    assert ledger.rows()[0].state is State.READY
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE hidden RENAME TO usage")
    goes(ledger, "m", State.ENDING)
    assert only(ledger).clock is Clock.CLOSED


# -- clocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [-86400.0, 86400.0])
def test_a_step_of_the_clock_changes_no_duration(ledger: Ledger, time: Time, step: float) -> None:
    begun(ledger, batch_row(), State.READY)
    time.passes(10, step)
    ledger.tick({"m": NOTHING})
    time.passes(10, -step)
    goes(ledger, "m", State.ENDING)
    usage = only(ledger)
    assert (usage.began, usage.wall, usage.ended) == (BEGAN, 20.0, BEGAN + 20)


def test_what_was_before_a_reboot_counts_until_it_was_last_seen(ledger: Ledger, time: Time) -> None:
    begun(ledger, batch_row(), State.READY)
    time.passes(100)
    ledger.tick({"m": NOTHING})
    time.passes(7)  # nobody was there to see it
    time.reboot(3600)
    goes(ledger, "m", State.FAILED)
    usage = only(ledger)
    assert (usage.wall, usage.ended, usage.clock) == (100.0, BEGAN + 100, Clock.CLOSED)


def test_after_a_reboot_time_counts_again(ledger: Ledger, time: Time) -> None:
    begun(ledger, cloud_row(), State.READY)
    time.passes(10)
    time.reboot(60)
    goes(ledger, "c", State.BUILDING, State.STARTING, State.READY)  # restarted cold, in its lease
    time.passes(30)
    goes(ledger, "c", State.STOPPING)
    assert only(ledger).wall == 30.0


def test_between_moments() -> None:
    later = Moment(0.0, "a", 30.0)
    assert between("a", 10.0, later) == 20.0
    assert between("b", 10.0, later) == 0.0
    assert between("a", 40.0, later) == 0.0


def test_the_kernels_own_clocks() -> None:
    first = clock.now()
    second = clock.now()
    assert first.boot == second.boot
    assert len(first.boot) == 36
    assert 0 < first.ticks <= second.ticks


# -- what is seen of running VMs --------------------------------------------------------------


def test_a_tick_is_for_what_was_seen_alone(ledger: Ledger, time: Time) -> None:
    begun(ledger, batch_row(), State.READY)
    begun(ledger, cloud_row(), State.READY)
    time.passes(15)
    ledger.tick({"c": Load(20, {}), "nobody's": NOTHING})
    batch, cloud = ledger.usages()
    assert (batch.wall, batch.at, batch.disk) == (0.0, BEGAN, 0)
    assert (cloud.wall, cloud.at, cloud.disk) == (15.0, BEGAN + 15, 20)
    ledger.tick({})
    assert ledger.usages() == [batch, cloud]


def traffic(ledger: Ledger) -> tuple[int, int]:
    usage = only(ledger)
    return usage.inbound, usage.outbound


def test_traffic_is_the_sum_of_all_cards(ledger: Ledger) -> None:
    begun(ledger, cloud_row(), State.READY)
    ledger.tick({"c": Load(1, {"vnet0": (100, 10), "vnet1": (5, 3)})})
    assert traffic(ledger) == (105, 13)
    ledger.tick({"c": Load(1, {"vnet0": (150, 10), "vnet1": (5, 4)})})
    assert traffic(ledger) == (155, 14)
    ledger.tick({"c": Load(1, {"vnet0": (150, 10), "vnet1": (5, 4)})})
    assert traffic(ledger) == (155, 14)


@pytest.mark.parametrize("new", [(20, 2), (20, 200), (2000, 2)])
def test_a_card_that_begins_again_adds_all_that_it_counts(
    ledger: Ledger, new: tuple[int, int]
) -> None:
    begun(ledger, cloud_row(), State.READY)
    ledger.tick({"c": Load(1, {"vnet0": (100, 10)})})
    goes(ledger, "c", State.BUILDING, State.STARTING, State.READY)
    ledger.tick({"c": Load(1, {"vnet0": new})})
    assert traffic(ledger) == (100 + new[0], 10 + new[1])


def test_a_card_that_one_look_does_not_show_is_not_counted_twice(ledger: Ledger) -> None:
    begun(ledger, cloud_row(), State.READY)
    ledger.tick({"c": Load(1, {"vnet0": (100, 10)})})
    ledger.tick({"c": Load(1, {})})
    ledger.tick({"c": Load(1, {"vnet0": (101, 11)})})
    assert traffic(ledger) == (101, 11)


def test_traffic_survives_a_bait(path: Path, ledger: Ledger) -> None:
    begun(ledger, cloud_row(), State.READY)
    ledger.tick({"c": Load(1, {"vnet0": (100, 10)})})
    ledger.close()
    again = Ledger(path)
    again.tick({"c": Load(1, {"vnet0": (110, 10)})})
    assert traffic(again) == (110, 10)
    again.close()


# -- asking for them, and forgetting them ----------------------------------------------------------


def test_usages_are_asked_for_by_kind_and_by_their_end(ledger: Ledger, time: Time) -> None:
    begun(ledger, batch_row(), State.READY)
    begun(ledger, cloud_row(), State.READY)
    time.passes(10)
    goes(ledger, "m", State.ENDING)
    assert [usage.id for usage in ledger.usages()] == ["m", "L1"]
    assert [usage.id for usage in ledger.usages(Kind.BATCH)] == ["m"]
    assert [usage.id for usage in ledger.usages(Kind.CLOUD)] == ["L1"]
    assert [usage.id for usage in ledger.usages(since=BEGAN + 10)] == ["m", "L1"]
    assert [usage.id for usage in ledger.usages(since=BEGAN + 11)] == ["L1"]  # goes on


def test_what_was_never_sent_is_kept_and_the_rest_goes_in_time(path: Path, ledger: Ledger) -> None:
    """The times of the test's clock are long ago for the file, which looks at the real one."""
    begun(ledger, batch_row(), State.READY)
    goes(ledger, "m", State.ENDING)
    for lease in ("sent", "not all sent", "never sent", "open"):
        begun(ledger, cloud_row(lease, machine=lease, job=lease), State.READY)
    ledger.tick({})
    with ledger.store.change() as db:
        db.execute("UPDATE usage SET wall = 100, ended = began + 100 WHERE id != 'open'")
        db.execute("UPDATE usage SET sent = ended WHERE id = 'sent'")
        db.execute("UPDATE usage SET sent = 99 WHERE id = 'not all sent'")
    ledger.close()
    again = Ledger(path)
    assert [usage.id for usage in again.usages()] == ["not all sent", "never sent", "open"]
    again.close()


# -- any life at all -------------------------------------------------------------------------------

HELD = {State.PAUSED, State.SUSPENDED, State.ASLEEP}
COUNTED = {
    State.STARTING,
    State.BOOTING,
    State.READY,
    State.STOPPING,
    State.HIBERNATING,
    State.BUILDING,  # of a cold restart
}
# So that they are exact as floats, too.
durations = st.integers(0, 4000).map(lambda quarters: quarters / 4)


@dataclass
class Known:
    """What a usage must say: kept without SQL, second by second."""

    id: str
    machine: str
    wall: float = 0.0
    held: float = 0.0
    pending: float = 0.0  # seconds of these since the VM was last seen or moved
    blind: bool = False  # the node has booted since: nobody knows of the time in between
    proven: bool = False
    closed: bool = False


@dataclass
class Subject:
    """A VM of the model."""

    kind: Kind
    id: str
    state: State | None = None
    row: Row = field(default_factory=batch_row)
    usage: Known | None = None  # the open one


class Lives(RuleBasedStateMachine):
    """Two VMs go through any moves that are allowed, at any times."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.patch = pytest.MonkeyPatch()
        # About now: what has ended long ago is forgotten when the file is opened.
        self.time = Time(float(int(clock.now().utc)))
        self.patch.setattr(clock, "now", self.time.now)
        self.subjects = [Subject(kind, f"{kind}") for kind in Kind]
        self.all: list[Known] = []
        self.allocations = 0
        self.moves = 0
        self.ledger = self._opened()

    def teardown(self) -> None:
        self.ledger.close()
        self.patch.undo()
        self.folder.cleanup()

    def _opened(self) -> Ledger:
        ledger = Ledger(Path(self.folder.name) / "ledger.sqlite")
        ledger.store._db.execute("PRAGMA synchronous = OFF")  # no disk is waited for
        ledger.on_move = self._heard
        return ledger

    def _heard(self, _moved: object) -> None:
        self.moves += 1

    @rule(data=st.data(), number=st.integers(0, 1), tries=st.integers(1, 4), seconds=durations)
    def lives(self, data: st.DataObject, number: int, tries: int, seconds: float) -> None:
        """One VM makes some moves, each after a time."""
        for _ in range(tries):
            self.passes(seconds)
            subject = self.subjects[number]
            choice = sorted(
                (new for old, new in MOVES[subject.kind] if old is subject.state),
                key=lambda state: list(State).index(state) if state else -1,
            )
            self._move(subject, data.draw(st.sampled_from(choice)))

    def _move(self, subject: Subject, new: State | None) -> None:
        before = self.moves
        if new is State.REQUESTED:
            self._allocate(subject)
        elif new is None:
            self.ledger.forget(subject.row, "gone")
        elif new in AT_REST and subject.kind is Kind.CLOUD:
            self.ledger.rest(subject.row, new, "at rest", 0)
        else:
            assert self.ledger.change(subject.id, str(new), state=new)
        assert self.moves == before + 1
        now = self.ledger.get(subject.id)
        assert (now.state if now else None) is new
        subject.state = new
        subject.row = now or subject.row
        self._follow(subject, new)

    def _allocate(self, subject: Subject) -> None:
        self.allocations += 1
        name = str(self.allocations)
        if subject.kind is Kind.CLOUD:
            subject.row = cloud_row(f"lease {name}", subject.id, name)
            assert self.ledger.open_lease(subject.row)
        else:
            subject.id = f"VM {name}"  # a job's VM is made once
            subject.row = batch_row(subject.id, name)
            assert self.ledger.promise(subject.row)

    def _follow(self, subject: Subject, new: State | None) -> None:
        known = subject.usage
        if known:
            known.pending, known.blind = 0.0, False
        if new is State.STARTING and not (known and known.proven):
            if known:
                self.all.remove(known)
            subject.usage = known = Known(subject.row.lease or subject.id, subject.id)
            self.all.append(known)
        elif known and new not in COUNTED | HELD:
            subject.usage = None
            known.closed = True
            if not known.proven:
                self.all.remove(known)
        if known and new in (State.BOOTING, State.READY):
            known.proven = True

    @rule(seconds=durations, step=st.sampled_from([0.0, -5000.0, 5000.0]))
    def passes(self, seconds: float, step: float = 0.0) -> None:
        self.time.passes(seconds, step)
        for subject in self.subjects:
            if (known := subject.usage) and not known.blind:
                known.pending += seconds
                if subject.state in HELD:
                    known.held += seconds
                else:
                    known.wall += seconds

    @rule()
    def ticks(self) -> None:
        """libvirt lists what is to run: that is so, and until now."""
        self.ledger.tick({each.id: Load(1, {"vnet0": (1, 1)}) for each in self.subjects})
        for each in self.subjects:
            if known := each.usage:
                known.pending, known.blind, known.proven = 0.0, False, True

    @rule(away=durations)
    def reboots(self, away: float) -> None:
        self.time.reboot(away)
        for subject in self.subjects:
            if known := subject.usage:  # what nobody has seen is lost
                if subject.state in HELD:
                    known.held -= known.pending
                else:
                    known.wall -= known.pending
                known.pending, known.blind = 0.0, True

    @rule()
    def restarts(self) -> None:
        self.ledger.close()
        self.ledger = self._opened()

    @precondition(lambda self: any(each.usage for each in self.subjects))
    @rule(number=st.integers(0, 1))
    def is_refused(self, number: int) -> None:
        """What the table does not allow leaves the journal alone."""
        subject = self.subjects[number]
        before = self.ledger.usages()
        for new in State:
            if new is not subject.state and (subject.state, new) not in MOVES[subject.kind]:
                assert self.ledger.change(subject.id, "no", state=new) is None
        assert self.ledger.usages() == before

    @invariant()
    def the_journal_is_right(self) -> None:
        usages = self.ledger.usages()
        assert len({usage.id for usage in usages}) == len(usages)
        assert len({usage.number for usage in usages}) == len(usages)
        still_open = [usage.machine for usage in usages if usage.clock is not Clock.CLOSED]
        assert still_open == sorted(set(still_open), key=still_open.index)
        assert [usage.id for usage in usages] == [known.id for known in self.all]
        held = {each.id for each in self.subjects if each.state in HELD}
        for usage, known in zip(usages, self.all, strict=True):
            assert usage.machine == known.machine
            total = known.wall + known.held - known.pending
            assert usage.wall + usage.held == total
            if known.closed:
                assert (usage.wall, usage.held) == (known.wall, known.held)
                assert usage.clock is Clock.CLOSED
                assert usage.ended == usage.began + usage.wall + usage.held
            else:
                assert usage.clock is (Clock.HELD if usage.machine in held else Clock.RUNS)
                assert usage.ended is None


Lives.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
test_any_life_at_all = Lives.TestCase
