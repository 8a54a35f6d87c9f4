"""On disk before the act, one row a promise, and what a killed bait leaves."""

import contextlib
import dataclasses
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bait.ledger import store
from bait.ledger.ledger import Ledger
from bait.ledger.records import Clock, Given, Lease, Moved, Row
from tests.unit.conftest import needs_root
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.model import Kind, State, machine_id


def row(job: str = "7", restart: int = 0) -> Row:
    return Row(machine_id("box", job, restart), job, restart, State.REQUESTED, time.time())


def on_disk(path: Path) -> list[tuple[str, str]]:
    """What another process would find there now."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        return db.execute("SELECT job, state FROM machine ORDER BY rowid").fetchall()


def test_each_change_is_on_disk_when_its_call_returns(path: Path, ledger: Ledger) -> None:
    ledger.promise(row())
    assert on_disk(path) == [("7", "requested")]
    ledger.change(row().id, "ending", state=State.ENDING)
    assert on_disk(path) == [("7", "ending")]
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


def on_lan(job: str, address: str | None = None) -> Row:
    return dataclasses.replace(row(job), network="lan", site_address=address)


def test_an_address_of_the_sites_is_one_vms_and_goes_back_with_its_row(ledger: Ledger) -> None:
    began = time.time()
    assert ledger.promise(on_lan("7", "10.2.0.64"))
    with pytest.raises(WnodesError, match="UNIQUE constraint failed"):
        ledger.promise(on_lan("8", "10.2.0.64"))
    assert all(ledger.promise(on_lan(job)) for job in ("9", "10"))  # by DHCP: none of ours
    ended = ledger.change(row("7").id, "ending", state=State.ENDING)
    assert ended
    assert ledger.returned("lan", began) == set()
    for _ in range(2):
        ledger.forget(ended, "gone")
        ledger.forget(on_lan("9"), "gone")
        assert ledger.returned("lan", began) == {"10.2.0.64"}
    assert ledger.returned("other", began) == set()
    assert ledger.returned("lan", time.time() + 1) == set()
    assert ledger.promise(on_lan("11", "10.2.0.64"))


def test_an_address_goes_back_also_when_its_vm_is_put_on_another_network(ledger: Ledger) -> None:
    """As when the site's rules change while it is tried once more."""
    ledger.promise(on_lan("7", "10.2.0.64"))
    ledger.change(row("7").id, "building", network="lan", site_address="10.2.0.64")
    assert ledger.returned("lan", 0.0) == set()
    ledger.change(row("7").id, "building", network="other", site_address="10.2.0.64")
    assert ledger.returned("lan", 0.0) == {"10.2.0.64"}
    ledger.change(row("7").id, "building", network="", site_address=None)
    assert ledger.returned("other", 0.0) == {"10.2.0.64"}
    ended = ledger.change(row("7").id, "ending", state=State.ENDING)
    assert ended
    ledger.forget(ended, "gone")
    assert ledger.returned("", 0.0) == set()


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
from bait.ledger.ledger import Ledger, Row
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
    writer.stdout.close()
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
from bait.ledger.ledger import Ledger
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


def at_rest(ledger: Ledger, why: str) -> None:
    """The only VM is stopped, by the way that leads there."""
    assert ledger.change("m", "stopping", state=State.STOPPING)
    ledger.rest(ledger.rows()[0], State.STOPPED, why, 0)


# What the versions 1 and 2 of the file were made by. These texts never change.
VERSIONS = (
    """
CREATE TABLE machine (id TEXT PRIMARY KEY, job TEXT NOT NULL, restart INTEGER NOT NULL,
    state TEXT NOT NULL, since REAL NOT NULL, uid INTEGER, tag TEXT NOT NULL,
    cores INTEGER NOT NULL, memory INTEGER NOT NULL, address TEXT UNIQUE, digests TEXT NOT NULL,
    reason TEXT NOT NULL, retry INTEGER NOT NULL) STRICT;
CREATE TABLE event (at REAL NOT NULL, job TEXT NOT NULL, machine TEXT NOT NULL,
    what TEXT NOT NULL) STRICT;
CREATE INDEX event_job ON event (job);
PRAGMA user_version = 1;
""",
    """
ALTER TABLE machine ADD COLUMN kind TEXT NOT NULL DEFAULT 'batch';
ALTER TABLE machine ADD COLUMN lease TEXT NOT NULL DEFAULT '';
ALTER TABLE machine ADD COLUMN ends REAL;
ALTER TABLE machine ADD COLUMN spec TEXT NOT NULL DEFAULT '';
CREATE TABLE lease (id TEXT PRIMARY KEY, machine TEXT NOT NULL, job TEXT NOT NULL,
    at REAL NOT NULL, reason TEXT, code INTEGER) STRICT;
CREATE TABLE attached (volume TEXT PRIMARY KEY, machine TEXT NOT NULL,
    device TEXT NOT NULL) STRICT;
PRAGMA user_version = 2;
""",
)
BATCH = (
    "INSERT INTO machine VALUES ('id', '7', 1, 'ready', 123.5, 1000, 'small_linux_x86_64',"
    " 2, 512, '192.168.190.2', 'aa bb', '', 1)"
)


def written_by(path: Path, version: int, *statements: str, mark: bool = True) -> None:
    """A file as that version of the bait has left it."""
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        for script in VERSIONS[:version]:
            db.executescript(script)
            for statement in statements if script is VERSIONS[0] else ():
                db.execute(statement)
        if not mark:
            db.execute("PRAGMA user_version = 0")


@pytest.mark.parametrize(("version", "mark"), [(1, False), (1, True), (2, True)])
def test_an_old_file_is_migrated_and_keeps_its_rows(path: Path, version: int, mark: bool) -> None:
    """The very first one did not say its version."""
    event = "INSERT INTO event VALUES (CAST(strftime('%s') AS REAL), '7', 'id', 'ready')"
    written_by(path, version, BATCH, event, mark=mark)
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
        assert ledger.attached("id") == {}
        assert ledger.note("drain") is None
        assert len(ledger.usages()) == 1
        ledger.close()


def test_leases_and_volumes_of_an_old_file_are_kept(path: Path) -> None:
    written_by(path, 2)
    now = time.time()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO lease VALUES ('L1', 'm', '7', ?, 'stopped', 0)", (now,))
        db.execute("INSERT INTO lease VALUES ('L2', 'm', '8', ?, NULL, NULL)", (now,))
        db.execute("INSERT INTO attached VALUES ('v', 'm', 'vdc')")
    ledger = Ledger(path)
    assert ledger.leases_of("m") == [
        Lease("L1", "m", "7", now, "stopped", 0),
        Lease("L2", "m", "8", now),
    ]
    assert ledger.attached("m") == {"v": Given("vdc")}
    assert not ledger.attach("v", "other", "vdc", readonly=True)
    ledger.close()


def test_what_runs_while_the_bait_is_brought_up_to_date_is_counted(path: Path) -> None:
    """From the last change of its state, which is all that the old file knows."""
    written_by(path, 2)
    since = time.time() - 100
    states = [*State]
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        for state in states:
            db.execute(
                "INSERT INTO machine (id, job, restart, state, since, uid, tag, cores, memory,"
                " digests, reason, retry, kind, lease, spec) VALUES (?, '7', 0, ?, ?, 1000, 'tag',"
                " 2, 512, '', '', 1, 'cloud', ?, ?)",
                (
                    *(f"of {state}", state, since, f"lease {state}"),
                    '{"dn": "/CN=Alice", "fqan": "/box"}' if state is State.READY else "",
                ),
            )
        db.execute(
            "INSERT INTO machine VALUES ('b', '8', 1, 'ready', ?, 1000, 'tag', 4, 512, NULL, '',"
            " '', 1, 'batch', '', NULL, '')",
            (since,),
        )
    ledger = Ledger(path)
    found = {usage.id: usage for usage in ledger.usages()}
    runs = {State.BOOTING, State.READY, State.SUSPENDED, State.STOPPING, State.HIBERNATING}
    assert found.keys() == {"b"} | {f"lease {state}" for state in runs}
    for id_, usage in found.items():
        held = id_ == "lease suspended"
        assert usage.clock is (Clock.HELD if held else Clock.RUNS)
        counted, other = (usage.held, usage.wall) if held else (usage.wall, usage.held)
        assert counted >= 99
        assert other == 0
        assert usage.began == since
        assert usage.ended is None
    assert (found["b"].kind, found["b"].dn, found["b"].cores) == (Kind.BATCH, "", 4)
    assert (found["lease ready"].dn, found["lease ready"].fqan) == ("/CN=Alice", "/box")
    before = found["b"].wall
    assert ledger.change("b", "ending", state=State.ENDING)
    (closed,) = (usage for usage in ledger.usages() if usage.id == "b")
    assert closed.clock is Clock.CLOSED
    assert closed.wall == before  # of the seconds between nobody knows
    assert closed.ended == since + before
    ledger.close()


def test_a_migration_that_breaks_leaves_the_file_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written_by(path, 1)
    broken = "CREATE TABLE half (x); DROP TABLE no_such_table;"
    monkeypatch.setattr(store, "_SCHEMA", (store._SCHEMA[0], broken))
    with pytest.raises(WnodesError, match="no_such_table"):
        Ledger(path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master")]
        assert "machine" in names
        assert "half" not in names


def test_an_old_and_a_new_file_end_up_with_the_same_tables(tmp_path: Path) -> None:
    def tables(path: Path) -> dict[str, list[tuple[object, ...]]]:
        Ledger(path).close()
        with contextlib.closing(sqlite3.connect(path)) as db:
            names = [n for (n,) in db.execute("SELECT name FROM sqlite_master ORDER BY name")]
            return {name: db.execute(f"PRAGMA table_info('{name}')").fetchall() for name in names}

    new, old = tmp_path / "new" / "file", tmp_path / "old" / "file"
    written_by(old, 2)
    assert tables(old) == tables(new)


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
    at_rest(ledger, "stopped")
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
    at_rest(ledger, "its user has stopped it")
    (row_,) = ledger.rows()
    assert (row_.state, row_.job, row_.lease, row_.ends) == (State.STOPPED, "", "", None)
    assert row_.reason == "its user has stopped it"
    (ended,) = ledger.ended_leases(9)
    assert (ended.id, ended.reason, ended.code) == ("L1", "its user has stopped it", 0)
    ledger.close_lease("L1", "another word", 1)  # the first one stands
    assert ledger.lease("L1") == ended


def test_who_only_reads_shares_a_volume_with_others_that_do(ledger: Ledger) -> None:
    assert ledger.attach("v", "one", "vdc", readonly=True)
    assert ledger.attach("v", "two", "vdd", readonly=True)
    assert not ledger.attach("v", "two", "vde", readonly=True)  # it has it
    assert not ledger.attach("v", "three", "vdc")
    assert ledger.holders("v") == {"one": Given("vdc", True), "two": Given("vdd", True)}
    ledger.detach("one", "v")
    assert not ledger.attach("v", "three", "vdc")
    ledger.detach("two", "v")
    assert ledger.attach("v", "three", "vdc")
    assert not ledger.attach("v", "one", "vdc", readonly=True)


def test_a_row_that_goes_takes_its_volumes_along_and_ends_its_lease(ledger: Ledger) -> None:
    ledger.open_lease(cloud_row())
    assert ledger.attach("v", "m", "vdc")
    assert not ledger.attach("v", "other", "vdc")
    ledger.forget(ledger.rows()[0], "it broke", 1)
    assert ledger.rows() == []
    assert ledger.holders("v") == {}
    lease = ledger.lease("L1")
    assert lease
    assert (lease.reason, lease.code) == ("it broke", 1)


@pytest.mark.parametrize("what", ["another lease", "another state", "gone"])
def test_a_step_that_comes_late_is_not_taken(ledger: Ledger, what: str) -> None:
    ledger.open_lease(cloud_row())
    (stale,) = ledger.rows()
    if what == "another lease":
        at_rest(ledger, "stopped")
        ledger.open_lease(cloud_row("L2", "8"))
    elif what == "another state":
        ledger.change("m", "ending", state=State.ENDING)
    else:
        ledger.forget(stale, "gone")
    before = ledger.rows()
    assert ledger.move(stale, "building", (State.REQUESTED,), state=State.BUILDING) is None
    ledger.rest(stale, State.STOPPED, "stopped", 0)
    if what != "another state":  # what is to be removed may be removed by whoever was about to
        ledger.forget(stale, "gone")
    assert ledger.rows() == before


def test_a_step_that_comes_in_time_is_taken(ledger: Ledger) -> None:
    ledger.open_lease(cloud_row())
    (now,) = ledger.rows()
    moved = ledger.move(now, "building", (State.REQUESTED,), state=State.BUILDING, reason="")
    assert moved == ledger.get("m")
    assert moved
    assert moved.state is State.BUILDING


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


# -- notes, moves, and what happened ---------------------------------------------------------------


def test_notes(path: Path, ledger: Ledger) -> None:
    assert ledger.note("drain") is None
    ledger.set_note("drain", "yes")
    ledger.set_note("other", "")
    ledger.set_note("drain", "no; it's «odd»")
    assert ledger.note("drain") == "no; it's «odd»"
    again = Ledger(path)
    assert again.note("drain") == "no; it's «odd»"
    again.close()
    ledger.set_note("drain", None)
    ledger.set_note("drain", None)
    assert ledger.note("drain") is None
    assert ledger.note("other") == ""


def test_events_are_asked_for_by_job_or_by_machine(ledger: Ledger) -> None:
    ledger.promise(row())
    ledger.promise(row(restart=1))
    ledger.record("7", row().id, "seen")
    ledger.record("", row().id, "with no job")
    assert [event.what for event in ledger.events("7")] == ["requested", "requested", "seen"]
    told = [event.what for event in ledger.events(row().id)]
    assert told == ["requested", "seen", "with no job"]
    assert [event.what for event in ledger.events(row(restart=1).id)] == ["requested"]
    assert ledger.events("nobody's") == []


def test_who_hears_of_a_move_can_ask_the_ledger_from_any_thread(ledger: Ledger) -> None:
    heard: list[tuple[Moved, State | None]] = []

    def hear(moved: Moved) -> None:
        found: list[Row | None] = []
        asker = threading.Thread(target=lambda: found.append(ledger.get(moved.machine)))
        asker.start()
        asker.join(5)
        heard.append((moved, found[0].state if found[0] else None))

    ledger.on_move = hear
    ledger.promise(row())
    ledger.promise(row())
    ledger.change(row().id, "read", uid=1)
    ledger.change(row().id, "ending", state=State.ENDING)
    ledger.change(row().id, "ending", state=State.ENDING)
    ledger.forget(row(), "gone")
    ledger.forget(row(), "gone")
    moves = [(None, State.REQUESTED), (State.REQUESTED, State.ENDING), (State.ENDING, None)]
    expected = [Moved(Kind.BATCH, old, new, row().id, "7") for old, new in moves]
    assert [moved for moved, _ in heard] == expected
    assert [state for _, state in heard] == [State.REQUESTED, State.ENDING, None]


def test_who_does_not_bear_to_hear_of_a_move_does_not_undo_it(path: Path, ledger: Ledger) -> None:
    def die(_moved: Moved) -> None:
        raise SystemExit

    ledger.promise(row())
    ledger.on_move = die
    with pytest.raises(SystemExit):
        ledger.change(row().id, "building", state=State.BUILDING)
    assert on_disk(path) == [("7", "building")]
    ledger.on_move = lambda _moved: None
    assert ledger.change(row().id, "starting", state=State.STARTING)  # and nothing is locked


def test_a_late_word_on_one_lease_does_not_touch_the_next(ledger: Ledger) -> None:
    ledger.open_lease(cloud_row())
    (first,) = ledger.rows()
    at_rest(ledger, "stopped")
    ledger.open_lease(cloud_row("L2", "8"))
    (second,) = ledger.rows()
    ledger.forget(first, "its first start failed", 1)
    ledger.rest(first, State.FAILED, "its first start failed", 1)
    assert ledger.rows() == [second]
    lease = ledger.lease("L2")
    assert lease
    assert lease.reason is None
    assert not ledger.open_lease(cloud_row("L3", "9"))  # it is being made for another
    assert ledger.lease("L3") is None


def test_a_transaction_that_its_caller_breaks_off_leaves_nothing(ledger: Ledger) -> None:
    def half() -> None:
        with ledger.store.change() as db:
            db.execute("INSERT INTO note VALUES ('half', 'done')")
            raise KeyError("half")

    with pytest.raises(KeyError):
        half()
    assert ledger.note("half") is None
    ledger.set_note("half", "whole")


def test_messages_that_were_sent_are_forgotten_in_time(path: Path, ledger: Ledger) -> None:
    old, new = time.time() - 91 * 86400, time.time() - 89 * 86400
    with ledger.store.change() as db:
        for at, state in ((old, "sent"), (old, "written"), (old, "handing"), (new, "sent")):
            db.execute(
                "INSERT INTO message (at, text, state) VALUES (?, ?, ?)", (at, "text", state)
            )
    again = Ledger(path)
    with again.store.change() as db:
        kept = [state for (state,) in db.execute("SELECT state FROM message ORDER BY number")]
    assert kept == ["written", "handing", "sent"]
    again.close()


def test_an_order_that_is_handed_in_again_and_again_is_refused_in_one_event(
    ledger: Ledger,
) -> None:
    for _ in range(50):
        ledger.refuse_lease("L1", "m", "7", "order refused: too large")
    assert [event.what for event in ledger.events("m")] == [
        "order refused: order refused: too large"
    ]
