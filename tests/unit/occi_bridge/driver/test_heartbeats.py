"""Heartbeats of baits that are heard: at once where something is new, else of all together."""

import logging
from dataclasses import replace

import pytest
import sqlalchemy as sa

from occi_bridge.driver.heartbeats import Heartbeats
from occi_bridge.driver.reports import Draining, Free, Report
from occi_bridge.store import tables
from occi_bridge.store.database import Database
from tests.unit.occi_bridge.snapshots import report
from wnodes_lrms.errors import UnknownError

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = pytest.mark.anyio
NODES = [f"hv{number}" for number in range(5)]


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def db(file_url: str) -> Database:
    return Database(file_url)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def beats(db: Database, time: Time) -> Heartbeats:
    return Heartbeats(db, time)


async def heard(beats: Heartbeats, *, at: float, silent: bool = False, **changes: object) -> None:
    """What all nodes' baits have said then."""
    for node in NODES:
        said: Report = replace(report(node=node, at=at), **changes)  # type: ignore[arg-type]
        await beats.record(said.url, said, silent=silent, error="it hangs")


def written(db: Database) -> set[tuple[object, ...]]:
    bait = tables.bait.c
    with db.reading() as link:
        found = link.execute(sa.select(bait.seen, bait.silent, bait.drained, bait.drained_by))
        return {tuple(row) for row in found}


async def test_that_they_still_answer_is_one_change_for_all(
    db: Database, beats: Heartbeats, time: Time
) -> None:
    await heard(beats, at=1.0)
    assert written(db) == {(1.0, False, "", 0.0)}
    before = db.revision()
    for now in (5.0, 10.0, 29.0):
        time.now = now
        await heard(beats, at=now)
    assert db.revision() == before
    time.now = 31.0
    await heard(beats, at=31.0)
    assert db.revision() == before + 1
    # It came with the first answer: the others' last ones were of before.
    assert written(db) == {(31.0, False, "", 0.0), (29.0, False, "", 0.0)}


async def test_what_is_free_of_nodes_is_written_with_that(
    db: Database, beats: Heartbeats, time: Time
) -> None:
    await heard(beats, at=1.0)
    time.now = 29.0
    await heard(beats, at=29.0, room=Free(3, None), sources={"lrms": 28.0})
    time.now = 30.0
    await heard(beats, at=30.0, room=Free(2, 512), sources={"lrms": 28.0})
    bait = tables.bait.c
    with db.reading() as link:
        found = link.execute(sa.select(bait.room, bait.sources).order_by(bait.node)).all()
    assert [tuple(row) for row in found] == [
        ({"cores": 2, "memory": 512}, {"lrms": 28.0}),
        *[({"cores": 3, "memory": None}, {"lrms": 28.0})] * 4,
    ]


async def test_what_is_new_is_written_at_once(
    db: Database, beats: Heartbeats, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await heard(beats, at=1.0)
    await heard(beats, at=2.0, drain=Draining("new kernel", 9.0))
    assert written(db) == {(2.0, False, "new kernel", 9.0)}
    assert not caplog.messages
    await heard(beats, at=2.0, silent=True, drain=Draining("new kernel", 9.0))
    assert written(db) == {(2.0, True, "new kernel", 9.0)}
    assert caplog.messages == [f"bait https://{node}:8445 is silent: it hangs" for node in NODES]
    caplog.clear()
    await heard(beats, at=3.0)
    assert written(db) == {(3.0, False, "", 0.0)}
    assert caplog.messages == [f"bait https://{node}:8445 answers again" for node in NODES]


async def test_one_that_is_silent_was_not_heard(
    db: Database, beats: Heartbeats, time: Time
) -> None:
    await heard(beats, at=1.0)
    await heard(beats, at=1.0, silent=True)
    time.now = 1e6
    await heard(beats, at=1.0, silent=True)
    assert written(db) == {(1.0, True, "", 0.0)}


async def test_nothing_is_known_of_one_that_was_never_asked_for_long(
    db: Database, beats: Heartbeats
) -> None:
    await beats.record("https://hv1:8445", None, silent=False, error="")
    assert written(db) == set()
    await beats.record("https://hv1:8445", None, silent=True, error="it hangs")
    assert written(db) == {(0.0, True, "", 0.0)}


async def test_another_driver_may_have_written_meanwhile(db: Database, beats: Heartbeats) -> None:
    await heard(beats, at=1.0)
    await heard(Heartbeats(db), at=2.0, silent=True)
    await heard(beats, at=3.0)
    assert written(db) == {(2.0, True, "", 0.0)}
    beats.forget()
    await heard(beats, at=4.0)
    assert written(db) == {(4.0, False, "", 0.0)}


async def test_a_database_that_is_away_is_tried_again_soon(
    db: Database, beats: Heartbeats, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_arguments: object) -> None:
        raise UnknownError("the database does not answer")

    await heard(beats, at=1.0)
    time.now = 30.0
    with monkeypatch.context() as patch:
        patch.setattr("occi_bridge.store.heard.still", away)
        await heard(beats, at=30.0)
    assert written(db) == {(1.0, False, "", 0.0)}
    time.now = 35.0
    await heard(beats, at=35.0)
    assert (35.0, False, "", 0.0) in written(db)
