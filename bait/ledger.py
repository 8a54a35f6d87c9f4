"""The bait's ledger: which machines it has promised, where each stands, and what happened.

The row of a machine lives as long as the machine; its events stay, for `wnodes job show`.
Every change is on disk before the act that it announces.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from wnodes_lrms.errors import WnodesError
from wnodes_lrms.model import State

_SCHEMA = """
CREATE TABLE IF NOT EXISTS machine (
    id TEXT PRIMARY KEY,
    job TEXT NOT NULL,
    restart INTEGER NOT NULL,
    state TEXT NOT NULL,
    since REAL NOT NULL,
    uid INTEGER,
    tag TEXT NOT NULL,
    cores INTEGER NOT NULL,
    memory INTEGER NOT NULL,
    address TEXT UNIQUE,
    digests TEXT NOT NULL,
    reason TEXT NOT NULL,
    retry INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS event (
    at REAL NOT NULL,
    job TEXT NOT NULL,
    machine TEXT NOT NULL,
    what TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS event_job ON event (job);
"""
_EVENTS_KEPT = 90 * 86400.0  # seconds


@dataclass(frozen=True)
class Row:
    """A machine as the ledger has it. The LRMS's facts are empty until the bait has read them."""

    id: str
    job: str
    restart: int
    state: State
    since: float  # seconds since the epoch, of the last change of state
    uid: int | None = None
    tag: str = ""
    cores: int = 0
    memory: int = 0  # MiB of the guest
    address: str | None = None
    digests: str = ""  # SHA-256 of the cached files in use, space between
    reason: str = ""  # why it failed
    retry: bool = True  # whether that may go better another time


@dataclass(frozen=True)
class Event:
    """Something that happened to a job's machine."""

    at: float  # seconds since the epoch
    job: str
    machine: str
    what: str


_COLUMNS = ", ".join(field.name for field in fields(Row))
_HOLES = ", ".join("?" for _ in fields(Row))


class Ledger:
    """The SQLite file. Safe to use from many threads. Every method raises WnodesError."""

    def __init__(self, path: Path) -> None:
        """Open the file, made at the first use. Raises WnodesError if that can't be done."""
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            path.chmod(0o600)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
            self._db.execute("DELETE FROM event WHERE at < ?", (time.time() - _EVENTS_KEPT,))
        except (OSError, sqlite3.Error) as error:
            raise WnodesError(f"ledger {path}: {error}") from error

    def promise(self, row: Row) -> bool:
        """Add a machine; False, and no change, if it is there already."""
        with self._change() as db:
            done = db.execute(
                f"INSERT OR IGNORE INTO machine ({_COLUMNS}) VALUES ({_HOLES})",  # noqa: S608
                astuple(row),
            )
            if done.rowcount:
                self._record(db, row.job, row.id, "requested")
            return bool(done.rowcount)

    def change(self, machine: str, what: str, **values: object) -> Row | None:
        """Set columns of a row and record why; the row as it is then, None if it is gone."""
        if "state" in values:
            values["since"] = time.time()
        setters = ", ".join(f"{name} = ?" for name in values)
        with self._change() as db:
            db.execute(
                f"UPDATE machine SET {setters} WHERE id = ?",  # noqa: S608 (names are ours)
                (*values.values(), machine),
            )
            row = self._row(db, machine)
            if row:
                self._record(db, row.job, machine, what)
            return row

    def record(self, job: str, machine: str, what: str) -> None:
        """Record that something happened, without a change of the row."""
        with self._change() as db:
            self._record(db, job, machine, what)

    def forget(self, row: Row, what: str) -> None:
        """Delete the row of a machine that is gone, with all it had, and record that."""
        with self._change() as db:
            if db.execute("DELETE FROM machine WHERE id = ?", (row.id,)).rowcount:
                self._record(db, row.job, row.id, what)

    def get(self, machine: str) -> Row | None:
        """The row of a machine."""
        with self._change() as db:
            return self._row(db, machine)

    def rows(self, job: str | None = None) -> list[Row]:
        """All machines, or those of a job, the oldest first."""
        with self._change() as db:
            found = db.execute(
                f"SELECT {_COLUMNS} FROM machine WHERE ? IS NULL OR job = ? ORDER BY rowid",  # noqa: S608
                (job, job),
            )
            return [_as_row(values) for values in found]

    def events(self, job: str) -> list[Event]:
        """What happened to a job's machines, the oldest first."""
        with self._change() as db:
            found = db.execute(
                "SELECT at, job, machine, what FROM event WHERE job = ? ORDER BY rowid", (job,)
            )
            return [Event(*values) for values in found]

    def close(self) -> None:
        """Close the file; whoever still asks gets a WnodesError."""
        with self._lock:  # SQLite would crash if another thread were in the middle of something
            self._db.close()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                raise WnodesError(f"ledger: {error}") from error
            finally:
                with suppress(sqlite3.ProgrammingError):  # closed
                    if self._db.in_transaction:  # SQLite itself may have rolled back
                        self._db.execute("ROLLBACK")

    def _row(self, db: sqlite3.Connection, machine: str) -> Row | None:
        found = db.execute(
            f"SELECT {_COLUMNS} FROM machine WHERE id = ?",  # noqa: S608
            (machine,),
        ).fetchone()
        return _as_row(found) if found else None

    def _record(self, db: sqlite3.Connection, job: str, machine: str, what: str) -> None:
        db.execute("INSERT INTO event VALUES (?, ?, ?, ?)", (time.time(), job, machine, what))


def _as_row(values: tuple[object, ...]) -> Row:
    named = dict(zip((field.name for field in fields(Row)), values, strict=True))
    named["state"] = State(str(named["state"]))
    named["retry"] = bool(named["retry"])
    return Row(**named)  # type: ignore[arg-type]
