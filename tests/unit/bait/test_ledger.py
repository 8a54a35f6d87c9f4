"""ledger.py: on disk before the act, one row a promise, and what a killed bait leaves."""

import contextlib
import dataclasses
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bait import ledger as module
from bait.ledger import Lease, Ledger, Row
from tests.unit.conftest import needs_root
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.model import Kind, State, machine_id


def row(job: str = "7", restart: int = 0) -> Row:
    return Row(machine_id("box", job, restart), job, restart, State.REQUESTED, time.time())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    ledger = Ledger(path)
    yield ledger
    ledger.close()


def on_disk(path: Path) -> list[tuple[str, str]]:
    """What another process would find there now."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        return db.execute("SELECT job, state FROM machine ORDER BY rowid").fetchall()


def test_each_change_is_on_disk_when_its_call_returns(path: Path, ledger: Ledger) -> None:
    ledger.promise(row())
    assert on_disk(path) == [("7", "requested")]
    ledger.change(row().id, "building", state=State.BUILDING)
    assert on_disk(path) == [("7", "building")]
    ledger.forget(row(), "gone")
    assert on_disk(path) == []


def test_a_promise_twice_is_one_machine(ledger: Ledger) -> None:
    assert ledger.promise(row())
    ledger.change(row().id, "building", state=State.BUILDING)
    assert not ledger.promise(row())
    (kept,) = ledger.rows()
    assert kept.state is State.BUILDING
    assert [event.what for event in ledger.events("7")] == ["requested", "building"]


def test_a_requeued_job_is_another_machine(ledger: Ledger) -> None:
    assert ledger.promise(row())
    assert ledger.promise(row(restart=1))
    assert ledger.promise(row("8"))
    assert [(each.job, each.restart) for each in ledger.rows("7")] == [("7", 0), ("7", 1)]
    assert [each.job for each in ledger.rows()] == ["7", "7", "8"]


def test_a_row_comes_back_as_it_was_written(ledger: Ledger) -> None:
    full = Row(
        id=row().id,
        job="7",
        restart=3,
        state=State.FAILED,
        since=123.5,
        uid=1000,
        tag="small_linux_x86_64",
        cores=4,
        memory=2048,
        address="192.168.190.2",
        digests="aa bb",
        reason="it's «broken»; DROP TABLE machine",
        retry=False,
    )
    ledger.promise(full)
    assert ledger.get(full.id) == full


def test_since_moves_with_the_state_alone(ledger: Ledger) -> None:
    ledger.promise(Row(row().id, "7", 0, State.REQUESTED, 123.5))
    told = ledger.change(row().id, "allocation read", uid=1000)
    assert told is not None
    assert (told.since, told.uid) == (123.5, 1000)
    told = ledger.change(row().id, "building", state=State.BUILDING)
    assert told is not None
    assert abs(told.since - time.time()) < 5


def test_no_two_machines_have_one_address(ledger: Ledger) -> None:
    ledger.promise(row())
    ledger.promise(row("8"))
    ledger.change(row().id, "building", address="192.168.190.2")
    with pytest.raises(WnodesError, match="address"):
        ledger.change(row("8").id, "building", address="192.168.190.2")
    (other,) = ledger.rows("8")
    assert other.address is None
    assert [event.what for event in ledger.events("8")] == ["requested"]
    ledger.forget(ledger.rows("7")[0], "gone")
    assert ledger.change(row("8").id, "building", address="192.168.190.2")


def test_a_machine_that_is_gone_stays_gone(ledger: Ledger) -> None:
    ledger.promise(row())
    ledger.forget(row(), "gone")
    assert ledger.get(row().id) is None
    assert ledger.change(row().id, "booting", state=State.BOOTING) is None
    ledger.forget(row(), "gone")
    assert ledger.rows() == []
    assert [event.what for event in ledger.events("7")] == ["requested", "gone"]


def test_events_outlive_their_machine_but_not_for_ever(path: Path, ledger: Ledger) -> None:
    ledger.promise(row())
    ledger.record("7", row().id, "the site's cat sat on it")
    ledger.forget(row(), "gone")
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO event VALUES (?, '1', 'x', 'old')", (time.time() - 91 * 86400,))
        db.execute("INSERT INTO event VALUES (?, '1', 'x', 'new')", (time.time() - 89 * 86400,))
    again = Ledger(path)
    assert [event.what for event in again.events("1")] == ["new"]
    assert len(again.events("7")) == 3
    again.close()


def test_many_threads_make_one_promise_a_job(ledger: Ledger) -> None:
    jobs = [str(number) for number in range(10)] * 8
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda job: ledger.promise(row(job)), jobs))
    assert sum(told) == 10
    assert len(ledger.rows()) == 10
    assert all(len(ledger.events(job)) == 1 for job in set(jobs))


def test_threads_lose_no_change(ledger: Ledger) -> None:
    ledger.promise(row())
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        for step in range(10):
            ledger.change(row().id, f"{number}/{step}", cores=number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    told = [event.what for event in ledger.events("7")[1:]]
    assert sorted(told) == sorted(f"{n}/{s}" for n in range(8) for s in range(10))
    for number in range(8):
        assert [t for t in told if t.startswith(f"{number}/")] == [
            f"{number}/{step}" for step in range(10)
        ]


WRITER = """
import sys, time
from pathlib import Path
from bait import ledger as module
from bait.ledger import Lease, Ledger, Row
from wnodes_lrms.model import State
ledger = Ledger(Path(sys.argv[1]))
for number in range(100000):
    ledger.promise(Row(f"id{number}", str(number), 0, State.REQUESTED, time.time()))
    print(number, flush=True)
"""


def test_what_was_said_survives_a_kill(path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout
    for line in writer.stdout:
        if line == "20\n":
            break
    writer.send_signal(signal.SIGKILL)
    said = [int(line) for line in writer.stdout if line.endswith("\n")]
    writer.wait()
    ledger = Ledger(path)
    kept = [int(each.job) for each in ledger.rows()]
    assert kept == list(range(len(kept)))  # no hole
    assert kept[-1] >= max(said, default=20)
    assert all(ledger.events(str(number)) for number in kept)
    assert not ledger.promise(Row("id0", "0", 0, State.REQUESTED, time.time()))
    assert ledger.promise(row("after"))
    ledger.close()


CLOSER = """
import sys, threading, time
from pathlib import Path
from bait.ledger import Ledger
from wnodes_lrms.errors import WnodesError
def work(ledger):
    try:
        while True:
            ledger.get("x")
    except WnodesError:
        ended.append(1)
ended = []
for number in range(40):
    ledger = Ledger(Path(sys.argv[1]))
    threads = [threading.Thread(target=work, args=(ledger,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.005)
    ledger.close()
    for thread in threads:
        thread.join()
print(len(ended))
"""


def test_closing_it_under_threads_that_use_it_is_an_error_for_them_alone(path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", CLOSER, path], capture_output=True, text=True, timeout=30
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "160\n", "")


def test_the_file_is_its_owners_alone(path: Path, ledger: Ledger) -> None:
    ledger.promise(row())
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file


def test_a_ledger_that_can_not_be_opened_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WnodesError, match=f"ledger {tmp_path}/file/ledger.sqlite"):
        Ledger(tmp_path / "file" / "ledger.sqlite")
    (tmp_path / "text").write_text("this is no database\n" * 100)
    with pytest.raises(WnodesError, match="not a database"):
        Ledger(tmp_path / "text")


@needs_root
def test_a_full_disk_is_an_error_that_says_so_and_can_pass(small_disk: Path) -> None:
    ledger = Ledger(small_disk / "ledger.sqlite")
    ledger.promise(row())
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass

    def write_much() -> None:
        for number in range(1000):
            ledger.record("7", row().id, f"{number} " + "x" * 4000)

    with pytest.raises(WnodesError, match="full"):
        write_much()
    ballast.unlink()
    assert ledger.change(row().id, "building", state=State.BUILDING)
    ledger.close()


# -- leases, and what was there before them -------------------------------------------------------


def cloud_row(lease: str = "L1", job: str = "7", state: State = State.REQUESTED) -> Row:
    now = time.time()
    return Row("m", job, 0, state, now, kind=Kind.CLOUD, lease=lease, ends=now + 60, spec="{}")


def test_an_old_file_is_migrated_and_keeps_its_rows(path: Path) -> None:
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(module._SCHEMA[0])
        assert db.execute("PRAGMA user_version").fetchone() == (0,)  # as it was written then
        db.execute(
            "INSERT INTO machine VALUES ('id', '7', 1, 'ready', 123.5, 1000, 'small_linux_x86_64',"
            " 2, 512, '192.168.190.2', 'aa bb', '', 1)"
        )
        db.execute("INSERT INTO event VALUES (?, '7', 'id', 'ready')", (time.time(),))
    for _ in range(2):  # and once more: it is not done twice
        ledger = Ledger(path)
        (old,) = ledger.rows()
        assert old == Row(
            id="id",
            job="7",
            restart=1,
            state=State.READY,
            since=123.5,
            uid=1000,
            tag="small_linux_x86_64",
            cores=2,
            memory=512,
            address="192.168.190.2",
            digests="aa bb",
        )
        assert old.kind is Kind.BATCH
        assert [event.what for event in ledger.events("7")] == ["ready"]
        assert ledger.ended_leases(9) == []
        assert ledger.attached() == {}
        ledger.close()


def test_a_migration_that_breaks_leaves_the_file_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SCHEMA", module._SCHEMA[:1])
    old = sqlite3.connect(":memory:")
    old.executescript(module._SCHEMA[0])
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as db:
        old.backup(db)
    monkeypatch.setattr(
        module, "_SCHEMA", (*module._SCHEMA, "CREATE TABLE half (x); DROP TABLE no_such_table;")
    )
    with pytest.raises(WnodesError, match="no_such_table"):
        Ledger(path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master")]
        assert "machine" in names
        assert "half" not in names


def test_a_lease_is_opened_once(ledger: Ledger) -> None:
    assert ledger.open_lease(cloud_row())
    assert not ledger.open_lease(cloud_row(job="8"))
    assert ledger.get("m") == dataclasses.replace(cloud_row(), since=ANY, ends=ANY)
    lease = ledger.lease("L1")
    assert lease
    assert (lease.machine, lease.job, lease.reason) == ("m", "7", None)
    assert ledger.lease("L2") is None


class _Any(float):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, float)

    __hash__ = float.__hash__


ANY = _Any()


def test_a_new_lease_takes_over_the_row_but_never_another_machines_address(ledger: Ledger) -> None:
    ledger.open_lease(dataclasses.replace(cloud_row(), address="10.0.0.2"))
    ledger.rest(ledger.rows()[0], State.STOPPED, "stopped", 0)
    assert ledger.open_lease(dataclasses.replace(cloud_row("L2", "8"), address="10.0.0.2"))
    (only,) = ledger.rows()
    assert (only.job, only.lease, only.address) == ("8", "L2", "10.0.0.2")
    other = dataclasses.replace(cloud_row("L3", "9"), id="other", address="10.0.0.2")
    with pytest.raises(WnodesError, match="address"):
        ledger.open_lease(other)
    assert ledger.rows() == [only]
    assert ledger.lease("L3") is None


def test_at_rest_it_has_no_lease_and_the_lease_its_outcome(ledger: Ledger) -> None:
    ledger.open_lease(cloud_row())
    ledger.rest(ledger.rows()[0], State.STOPPED, "its user has stopped it", 0)
    (row_,) = ledger.rows()
    assert (row_.state, row_.job, row_.lease, row_.ends) == (State.STOPPED, "", "", None)
    assert row_.reason == "its user has stopped it"
    (ended,) = ledger.ended_leases(9)
    assert (ended.id, ended.reason, ended.code) == ("L1", "its user has stopped it", 0)
    ledger.close_lease("L1", "another word", 1)  # the first one stands
    assert ledger.lease("L1") == ended


def test_a_row_that_goes_takes_its_volumes_along_and_ends_its_lease(ledger: Ledger) -> None:
    ledger.open_lease(cloud_row())
    assert ledger.attach("v", "m", "vdc")
    assert not ledger.attach("v", "other", "vdc")
    ledger.forget(ledger.rows()[0], "it broke", 1)
    assert ledger.rows() == []
    assert ledger.attached() == {}
    lease = ledger.lease("L1")
    assert lease
    assert (lease.reason, lease.code) == ("it broke", 1)


@pytest.mark.parametrize("what", ["another lease", "another state", "gone"])
def test_a_step_that_comes_late_is_not_taken(ledger: Ledger, what: str) -> None:
    ledger.open_lease(cloud_row())
    (stale,) = ledger.rows()
    if what == "another lease":
        ledger.rest(stale, State.STOPPED, "stopped", 0)
        ledger.open_lease(cloud_row("L2", "8"))
    elif what == "another state":
        ledger.change("m", "ending", state=State.ENDING)
    else:
        ledger.forget(stale, "gone")
    before = ledger.rows()
    assert ledger.move(stale, "running", (State.REQUESTED,), state=State.READY) is None
    ledger.rest(stale, State.STOPPED, "stopped", 0)
    assert ledger.rows() == before


def test_a_step_that_comes_in_time_is_taken(ledger: Ledger) -> None:
    ledger.open_lease(cloud_row())
    (now,) = ledger.rows()
    moved = ledger.move(now, "running", (State.REQUESTED,), state=State.READY, reason="")
    assert moved == ledger.get("m")
    assert moved
    assert moved.state is State.READY


def test_a_refusal_is_an_outcome_but_does_not_end_a_lease(ledger: Ledger) -> None:
    ledger.refuse_lease("L9", "m", "7", "order refused: too large")
    assert ledger.rows() == []
    assert [lease.reason for lease in ledger.ended_leases(9)] == ["order refused: too large"]
    assert not ledger.open_lease(cloud_row("L9", "8"))
    ledger.open_lease(cloud_row())
    ledger.refuse_lease("L1", "m", "8", "order refused: used before")
    lease = ledger.lease("L1")
    assert isinstance(lease, Lease)
    assert lease.reason is None


def test_the_outcomes_are_the_newest_and_are_forgotten_in_time(path: Path, ledger: Ledger) -> None:
    for number in range(5):
        ledger.refuse_lease(f"L{number}", "m", "7", "no")
    assert [lease.id for lease in ledger.ended_leases(3)] == ["L4", "L3", "L2"]
    ledger.open_lease(cloud_row("LIVE"))
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE lease SET at = ?", (time.time() - 91 * 86400,))
    again = Ledger(path)
    assert again.ended_leases(9) == []
    assert again.lease("LIVE")
    again.close()
