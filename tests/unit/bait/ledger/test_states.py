"""The one table of a VM's life, and that the ledger writes nothing else."""

import sqlite3
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bait.ledger.ledger import Ledger
from bait.ledger.records import Moved, Row
from bait.ledger.states import AT_REST, MOVES, may
from wnodes_lrms.model import Kind, State

EVERYWHERE = (None, *State)
STATES = {
    kind: {state for move in moves for state in move if state} for kind, moves in MOVES.items()
}
PAIRS = [(kind, old, new) for kind in Kind for old in EVERYWHERE for new in State]


# -- the table by itself ---------------------------------------------------------------------------


def reached(kind: Kind, start: State | None, backwards: bool = False) -> set[State | None]:
    """All states that moves lead to from `start`, or from which they lead there."""
    seen: set[State | None] = set()
    edge = {start}
    while edge:
        seen |= edge
        edge = {
            (old if backwards else new)
            for old, new in MOVES[kind]
            if (new if backwards else old) in edge
        } - seen
    return seen


@pytest.mark.parametrize("kind", Kind)
def test_each_state_can_be_reached_and_left_for_good(kind: Kind) -> None:
    assert reached(kind, None) == STATES[kind] | {None}
    assert reached(kind, None, backwards=True) == STATES[kind] | {None}


@pytest.mark.parametrize("kind", Kind)
def test_no_move_is_none_and_every_state_has_an_end(kind: Kind) -> None:
    assert all(old is not new for old, new in MOVES[kind])
    for state in STATES[kind] - {State.ENDING}:
        assert (state, State.ENDING) in MOVES[kind]
    # What is to be removed is removed, whatever else anybody begins with it.
    assert [new for old, new in MOVES[kind] if old is State.ENDING] == [None]
    assert [new for old, new in MOVES[kind] if old is None] == [State.REQUESTED]


@pytest.mark.parametrize("kind", Kind)
def test_no_domain_is_created_that_was_not_announced(kind: Kind) -> None:
    before = {old for old, new in MOVES[kind] if new is State.STARTING}
    assert before == {State.BUILDING}
    first = State.BOOTING if kind is Kind.BATCH else State.READY
    assert (State.STARTING, first) in MOVES[kind]
    unannounced = {None, State.REQUESTED, State.BUILDING, *AT_REST}
    assert not [old for old, new in MOVES[kind] if new is first and old in unannounced]


def test_what_only_one_kind_has() -> None:
    both = STATES[Kind.BATCH] & STATES[Kind.CLOUD]
    assert STATES[Kind.BATCH] - both == {State.BOOTING}
    assert State.PAUSED in both
    assert STATES[Kind.CLOUD] - both == {
        State.SUSPENDED,
        State.ASLEEP,
        State.STOPPING,
        State.STOPPED,
        State.HIBERNATING,
        State.HIBERNATED,
    }
    # A job's VM that has failed never comes back; a user's, at rest, does with a new lease.
    assert {new for old, new in MOVES[Kind.BATCH] if old is State.FAILED} == {State.ENDING}
    for state in AT_REST:
        assert (state, State.REQUESTED) in MOVES[Kind.CLOUD]


@pytest.mark.parametrize("kind", Kind)
def test_no_disk_that_a_user_has_written_on_goes_but_by_their_own_word(kind: Kind) -> None:
    gone = {old for old, new in MOVES[kind] if new is None}
    assert not gone & {
        State.READY,
        State.PAUSED,
        State.SUSPENDED,
        State.ASLEEP,
        State.HIBERNATING,
        *AT_REST,
    }


@pytest.mark.parametrize("kind", Kind)
def test_may(kind: Kind) -> None:
    for old in EVERYWHERE:
        for new in EVERYWHERE:
            assert may(kind, old, new) == (old is new or (old, new) in MOVES[kind])


# -- the ledger keeps to it ------------------------------------------------------------------------


class Watched:
    """A ledger, and what it said of moves. Each is on disk when it is said, and nothing waits."""

    def __init__(self, ledger: Ledger, file: str) -> None:
        self.ledger = ledger
        self.moves: list[Moved] = []
        self._file = file
        ledger.on_move = self._hear

    def _hear(self, moved: Moved) -> None:
        self.moves.append(moved)
        with sqlite3.connect(f"file:{self._file}?mode=ro", uri=True) as db:
            found = db.execute("SELECT state FROM machine WHERE id = ?", (moved.machine,))
            assert found.fetchone() == ((moved.new,) if moved.new else None)
        row = self.ledger.get(moved.machine)  # it would wait for ever for a lock that is held
        assert (row.state if row else None) is moved.new

    def machine(self, kind: Kind, state: State | None) -> Row:
        """A VM of a kind that stands in a state, however it came there."""
        job, lease = uuid.uuid4().hex, uuid.uuid4().hex
        row = Row(uuid.uuid4().hex, job, 0, State.REQUESTED, time.time(), kind=kind)
        if kind is Kind.CLOUD:
            row = replace(row, lease=lease, spec=SPEC)
        if state:
            assert self.ledger.open_lease(row) if row.lease else self.ledger.promise(row)
            with self.ledger.store.change() as db:
                db.execute("UPDATE machine SET state = ? WHERE id = ?", (state, row.id))
        self.moves.clear()
        now = self.ledger.get(row.id)
        assert (now.state if now else None) is state
        return now or row

    def stands(self, row: Row) -> State | None:
        now = self.ledger.get(row.id)
        return now.state if now else None

    def heard(self, row: Row, old: State | None, new: State | None) -> None:
        """Exactly this move was heard of, if it is one."""
        moved = [] if old is new else [Moved(row.kind, old, new, row.id, row.job)]
        assert self.moves == moved


SPEC = (
    '{"lease": "8a2f3f4e-6d7c-4f6e-9d5e-3c1f0a4f7a11", "dn": "/CN=Alice", "account": "alice",'
    ' "machine": "42830be1-e63b-5316-ad86-9cf7a3034a5f", "hostname": "box", "walltime": 3600,'
    ' "cores": 1, "memory": 256, "image": "small_linux_x86_64"}'
)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One for all these tests: each has VMs of its own."""
    file = tmp_path_factory.mktemp("life") / "ledger.sqlite"
    ledger = Ledger(file)
    yield Watched(ledger, str(file))
    ledger.close()


@pytest.mark.parametrize(("kind", "old", "new"), PAIRS)
def test_change(watched: Watched, kind: Kind, old: State | None, new: State) -> None:
    row = watched.machine(kind, old)
    before = watched.ledger.events(row.id)
    told = watched.ledger.change(row.id, "told", state=new, reason="told")
    if old is not None and may(kind, old, new):
        assert told
        assert (told.state, told.reason) == (new, "told")
        assert watched.ledger.get(row.id) == told
        assert [event.what for event in watched.ledger.events(row.id)[len(before) :]] == ["told"]
        watched.heard(row, old, new)
    else:
        assert told is None
        assert watched.ledger.get(row.id) == (row if old else None)
        assert watched.ledger.events(row.id) == before
        assert watched.moves == []


@pytest.mark.parametrize(("kind", "old", "new"), PAIRS)
def test_move(watched: Watched, kind: Kind, old: State | None, new: State) -> None:
    row = watched.machine(kind, old)
    others = set(State) - {old}
    assert watched.ledger.move(row, "too late", others, state=new) is None
    assert watched.stands(row) is old
    assert watched.moves == []
    told = watched.ledger.move(row, "in time", set(State), state=new)
    if old is not None and may(kind, old, new):
        assert told
        assert told.state is watched.stands(row) is new
        watched.heard(row, old, new)
    else:
        assert told is None
        assert watched.stands(row) is old
        assert watched.moves == []


@pytest.mark.parametrize(("kind", "old", "new"), [pair for pair in PAIRS if pair[2] in AT_REST])
def test_rest(watched: Watched, kind: Kind, old: State | None, new: State) -> None:
    row = watched.machine(kind, old)
    watched.ledger.rest(row, new, "told", 0)
    if old is not None and may(kind, old, new):
        now = watched.ledger.get(row.id)
        assert now
        assert (now.state, now.job, now.lease, now.ends) == (new, "", "", None)
        watched.heard(row, old, new)
    else:
        assert watched.ledger.get(row.id) == (row if old else None)
        assert watched.moves == []


@pytest.mark.parametrize(("kind", "old"), [(kind, old) for kind in Kind for old in EVERYWHERE])
def test_forget(watched: Watched, kind: Kind, old: State | None) -> None:
    row = watched.machine(kind, old)
    watched.ledger.forget(row, "gone")
    if old is not None and (old, None) in MOVES[kind]:
        assert watched.ledger.get(row.id) is None
        assert watched.ledger.events(row.id)[-1].what == "gone"
        watched.heard(row, old, None)
    else:
        assert watched.ledger.get(row.id) == (row if old else None)
        assert "gone" not in [event.what for event in watched.ledger.events(row.id)]
        assert watched.moves == []


@pytest.mark.parametrize("old", EVERYWHERE)
def test_open_lease(watched: Watched, old: State | None) -> None:
    row = watched.machine(Kind.CLOUD, old)
    order = replace(row, state=State.REQUESTED, job="new", lease=uuid.uuid4().hex)
    done = watched.ledger.open_lease(order)
    # A VM that another lease's order is being carried out for is not at rest either.
    assert done == ((old, State.REQUESTED) in MOVES[Kind.CLOUD])
    assert watched.ledger.get(row.id) == (order if done else row)
    assert bool(watched.ledger.lease(order.lease)) == done
    if done:
        watched.heard(order, old, State.REQUESTED)
    else:
        assert watched.moves == []


@pytest.mark.parametrize("old", EVERYWHERE)
def test_promise(watched: Watched, old: State | None) -> None:
    row = watched.machine(Kind.BATCH, old)
    promised = Row(row.id, row.job, 0, State.REQUESTED, time.time())
    assert watched.ledger.promise(promised) == (old is None)
    assert watched.ledger.get(row.id) == (row if old else promised)
    if old:
        assert watched.moves == []
    else:
        watched.heard(promised, None, State.REQUESTED)


def test_a_change_of_other_columns_is_no_move(watched: Watched) -> None:
    row = watched.machine(Kind.BATCH, State.ENDING)
    assert watched.ledger.change(row.id, "read", uid=1000)
    watched.ledger.record(row.job, row.id, "seen")
    assert watched.moves == []
