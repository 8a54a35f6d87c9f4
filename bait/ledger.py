"""The bait's ledger: which machines it has promised, where each stands, and what happened.

The row of a machine lives as long as the machine; its events stay, for `wnodes job show`.
Every change is on disk before the act that it announces.
"""

import sqlite3
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from wnodes_lrms.errors import WnodesError
from wnodes_lrms.model import Kind, State

# What each version of the file adds; the file's user_version says how many it has had.
_SCHEMA = (
    """
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
""",
    """
ALTER TABLE machine ADD COLUMN kind TEXT NOT NULL DEFAULT 'batch';
ALTER TABLE machine ADD COLUMN lease TEXT NOT NULL DEFAULT '';
ALTER TABLE machine ADD COLUMN ends REAL;
ALTER TABLE machine ADD COLUMN spec TEXT NOT NULL DEFAULT '';
CREATE TABLE lease (
    id TEXT PRIMARY KEY,
    machine TEXT NOT NULL,
    job TEXT NOT NULL,
    at REAL NOT NULL,
    reason TEXT,
    code INTEGER
) STRICT;
CREATE TABLE attached (
    volume TEXT PRIMARY KEY,
    machine TEXT NOT NULL,
    device TEXT NOT NULL
) STRICT;
""",
)
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
    kind: Kind = Kind.BATCH
    lease: str = ""  # cloud: the lease that it runs in, empty without one
    ends: float | None = None  # cloud: when the lease's walltime is over, seconds since the epoch
    spec: str = ""  # cloud: the order, as JSON


@dataclass(frozen=True)
class Lease:
    """An order that was accepted here, and how its lease ended."""

    id: str
    machine: str
    job: str
    at: float  # seconds since the epoch, of the last change
    reason: str | None = None  # None: it goes on
    code: int | None = None  # exit code of the lease job


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
            self._migrate()
            old = (time.time() - _EVENTS_KEPT,)
            self._db.execute("DELETE FROM event WHERE at < ?", old)
            self._db.execute("DELETE FROM lease WHERE at < ? AND reason IS NOT NULL", old)
        except (OSError, sqlite3.Error) as error:
            raise WnodesError(f"ledger {path}: {error}") from error

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        for number, script in enumerate(_SCHEMA[version:], start=version + 1):
            self._db.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")

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
        with self._change() as db:
            return self._set(db, machine, what, values)

    def move(self, row: Row, what: str, being: Collection[State], **values: object) -> Row | None:
        """The same, if the machine is still in that row's lease and in one of these states.

        None, and no change, if not: somebody else has begun something with it.
        """
        with self._change() as db:
            now = self._row(db, row.id)
            if now is None or now.lease != row.lease or now.state not in being:
                return None
            return self._set(db, row.id, what, values)

    def record(self, job: str, machine: str, what: str) -> None:
        """Record that something happened, without a change of the row."""
        with self._change() as db:
            self._record(db, job, machine, what)

    def forget(self, row: Row, what: str, code: int = 0) -> None:
        """Delete the row of a machine that is gone, and record that; its volumes are free again.

        If it was in a lease, `what` has ended that, with this exit code.
        """
        with self._change() as db:
            if db.execute("DELETE FROM machine WHERE id = ?", (row.id,)).rowcount:
                db.execute("DELETE FROM attached WHERE machine = ?", (row.id,))
                self._record(db, row.job, row.id, what)
            self._close(db, row.lease, what, code)

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

    def open_lease(self, row: Row) -> bool:
        """Let a lease carry a machine: its row is new, or takes the place of the one at rest.

        False, and no change, if the lease's order has been used before.
        """
        with self._change() as db:
            done = db.execute(
                "INSERT OR IGNORE INTO lease (id, machine, job, at) VALUES (?, ?, ?, ?)",
                (row.lease, row.id, row.job, time.time()),
            )
            if done.rowcount:
                db.execute("DELETE FROM machine WHERE id = ?", (row.id,))
                db.execute(
                    f"INSERT INTO machine ({_COLUMNS}) VALUES ({_HOLES})",  # noqa: S608
                    astuple(row),
                )
                self._record(db, row.job, row.id, f"order of lease {row.lease} accepted")
            return bool(done.rowcount)

    def refuse_lease(self, lease: str, machine: str, job: str, reason: str) -> None:
        """Write down that an order was refused; nothing if it is known already."""
        with self._change() as db:
            db.execute(
                "INSERT OR IGNORE INTO lease VALUES (?, ?, ?, ?, ?, 1)",
                (lease, machine, job, time.time(), reason),
            )
            self._record(db, job, machine, f"order refused: {reason}")

    def rest(self, row: Row, state: State, what: str, code: int) -> None:
        """The machine has no domain and no lease any more; what ended the lease, and how.

        A machine that is to be removed, or has another lease by now, stays as it is.
        """
        with self._change() as db:
            done = db.execute(
                "UPDATE machine SET state = ?, since = ?, reason = ?, job = '', lease = '',"
                " ends = NULL WHERE id = ? AND lease = ? AND state != ?",
                (state, time.time(), what, row.id, row.lease, State.ENDING),
            )
            self._close(db, row.lease, what, code)
            if done.rowcount:
                self._record(db, row.job, row.id, f"{state}: {what}")

    def close_lease(self, lease: str, reason: str, code: int) -> None:
        """Write down how a lease ended; the first word on it stands."""
        with self._change() as db:
            self._close(db, lease, reason, code)

    def lease(self, lease: str) -> Lease | None:
        """A lease whose order was accepted here."""
        with self._change() as db:
            found = db.execute("SELECT * FROM lease WHERE id = ?", (lease,)).fetchone()
            return Lease(*found) if found else None

    def ended_leases(self, most: int) -> list[Lease]:
        """The leases that ended here last, the newest first."""
        with self._change() as db:
            found = db.execute(
                "SELECT * FROM lease WHERE reason IS NOT NULL ORDER BY at DESC LIMIT ?", (most,)
            )
            return [Lease(*values) for values in found]

    def attach(self, volume: str, machine: str, device: str) -> bool:
        """Give a volume to a machine; False if one has it already."""
        with self._change() as db:
            done = db.execute(
                "INSERT OR IGNORE INTO attached VALUES (?, ?, ?)", (volume, machine, device)
            )
            return bool(done.rowcount)

    def detach(self, machine: str, volume: str | None = None) -> None:
        """Take a volume, or all, from a machine."""
        with self._change() as db:
            db.execute(
                "DELETE FROM attached WHERE machine = ? AND (? IS NULL OR volume = ?)",
                (machine, volume, volume),
            )

    def attached(self, machine: str | None = None) -> dict[str, tuple[str, str]]:
        """Volume → machine and device: all that are given to a machine, or those of one."""
        with self._change() as db:
            found = db.execute(
                "SELECT volume, machine, device FROM attached WHERE ? IS NULL OR machine = ?",
                (machine, machine),
            )
            return {volume: (owner, device) for volume, owner, device in found}

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

    def _set(
        self, db: sqlite3.Connection, machine: str, what: str, values: dict[str, object]
    ) -> Row | None:
        if "state" in values:
            values["since"] = time.time()
        setters = ", ".join(f"{name} = ?" for name in values)
        db.execute(
            f"UPDATE machine SET {setters} WHERE id = ?",  # noqa: S608 (names are ours)
            (*values.values(), machine),
        )
        row = self._row(db, machine)
        if row:
            self._record(db, row.job, machine, what)
        return row

    def _row(self, db: sqlite3.Connection, machine: str) -> Row | None:
        found = db.execute(
            f"SELECT {_COLUMNS} FROM machine WHERE id = ?",  # noqa: S608
            (machine,),
        ).fetchone()
        return _as_row(found) if found else None

    def _close(self, db: sqlite3.Connection, lease: str, reason: str, code: int) -> None:
        db.execute(
            "UPDATE lease SET reason = ?, code = ?, at = ? WHERE id = ? AND reason IS NULL",
            (reason, code, time.time(), lease),
        )

    def _record(self, db: sqlite3.Connection, job: str, machine: str, what: str) -> None:
        db.execute("INSERT INTO event VALUES (?, ?, ?, ?)", (time.time(), job, machine, what))


def _as_row(values: tuple[object, ...]) -> Row:
    named = dict(zip((field.name for field in fields(Row)), values, strict=True))
    named["state"] = State(str(named["state"]))
    named["retry"] = bool(named["retry"])
    named["kind"] = Kind(str(named["kind"]))
    return Row(**named)  # type: ignore[arg-type]
