"""ledger.py: on disk before the act, one row a promise, and what a killed bait leaves."""

import contextlib
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

from bait.ledger import Ledger, Row
from tests.unit.conftest import needs_root
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.model import State, machine_id


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
from bait.ledger import Ledger, Row
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
