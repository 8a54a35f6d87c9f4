"""The ledger's SQLite file: its tables, brought up to date when opened, and transactions on it."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wnodes_lrms.errors import WnodesError
from wnodes_lrms.folders import PASSED, have

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
    """
CREATE TABLE usage (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    machine TEXT NOT NULL,
    kind TEXT NOT NULL,
    job TEXT NOT NULL,
    restart INTEGER NOT NULL,
    uid INTEGER,
    tag TEXT NOT NULL,
    cores INTEGER NOT NULL,
    memory INTEGER NOT NULL,
    dn TEXT NOT NULL,
    fqan TEXT NOT NULL,
    began REAL NOT NULL,
    wall REAL NOT NULL DEFAULT 0,
    held REAL NOT NULL DEFAULT 0,
    clock TEXT NOT NULL,
    at REAL NOT NULL,
    boot TEXT NOT NULL,
    ticks REAL NOT NULL,
    ran INTEGER NOT NULL DEFAULT 0,
    ended REAL,
    disk INTEGER NOT NULL DEFAULT 0,
    inbound INTEGER NOT NULL DEFAULT 0,
    outbound INTEGER NOT NULL DEFAULT 0,
    counted TEXT NOT NULL DEFAULT '{}',
    sent REAL,
    message INTEGER
) STRICT;
CREATE UNIQUE INDEX usage_open ON usage (machine) WHERE ended IS NULL;
CREATE TABLE message (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    text TEXT NOT NULL,
    state TEXT NOT NULL
) STRICT;
-- What runs while the bait is brought up to date is counted, too.
INSERT INTO usage (id, machine, kind, job, restart, uid, tag, cores, memory, dn, fqan, began, wall,
    held, clock, at, boot, ticks, ran)
SELECT iif(kind = 'cloud', lease, id), id, kind, job, restart, uid, tag, cores, memory,
    iif(kind = 'cloud', ifnull(json_extract(nullif(spec, ''), '$.dn'), ''), ''),
    iif(kind = 'cloud', ifnull(json_extract(nullif(spec, ''), '$.fqan'), ''), ''),
    since, iif(state = 'suspended', 0, max(0, CAST(strftime('%s','now') AS REAL) - since)),
    iif(state = 'suspended', max(0, CAST(strftime('%s','now') AS REAL) - since), 0),
    iif(state = 'suspended', 'held', 'runs'), since, '', 0, 1
FROM machine WHERE state IN ('booting', 'ready', 'suspended', 'stopping', 'hibernating');
CREATE TABLE note (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE INDEX event_machine ON event (machine);
""",
    """
ALTER TABLE machine ADD COLUMN inbound INTEGER;
ALTER TABLE machine ADD COLUMN outbound INTEGER;
""",
    # A volume may have several VMs that read.
    """
CREATE TABLE given (
    volume TEXT NOT NULL,
    machine TEXT NOT NULL,
    device TEXT NOT NULL,
    readonly INTEGER NOT NULL,
    PRIMARY KEY (volume, machine)
) STRICT;
INSERT INTO given SELECT volume, machine, device, 0 FROM attached;
DROP TABLE attached;
ALTER TABLE given RENAME TO attached;
""",
    "ALTER TABLE machine ADD COLUMN network TEXT NOT NULL DEFAULT '';",
    """
ALTER TABLE machine ADD COLUMN site_address TEXT;
CREATE UNIQUE INDEX machine_site ON machine (network, site_address);
CREATE TABLE returned (
    network TEXT NOT NULL,
    address TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (network, address)
) STRICT;
""",
    "ALTER TABLE machine ADD COLUMN site_mac TEXT;",
)
_CACHE = 256  # KiB of pages in memory; a look at all that is old would else fill 2 MiB, for good
_KEPT = 90 * 86400.0  # seconds that what is over stays


class Store:
    """The file. Safe to use from many threads."""

    def __init__(self, path: Path) -> None:
        """Open the file, made at the first use. Raises WnodesError if that can't be done."""
        self._lock = threading.Lock()
        try:
            have(path.parent, PASSED)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            path.chmod(0o600)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute(f"PRAGMA cache_size = -{_CACHE}")
            self._migrate()
            prune(self._db, time.time())
        except (OSError, sqlite3.Error) as error:
            raise WnodesError(f"ledger {path}: {error}") from error

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """A transaction: on disk when it is left, undone by an error. Raises WnodesError."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                told = "the node's bait can't write down what it does"
                raise WnodesError(f"ledger: {error}", told=told) from error
            finally:
                with suppress(sqlite3.ProgrammingError):  # closed
                    if self._db.in_transaction:  # SQLite itself may have rolled back
                        self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file; whoever still asks gets a WnodesError."""
        with self._lock:  # SQLite would crash if another thread were in the middle of something
            self._db.close()

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        for number, script in enumerate(_SCHEMA[version:], start=version + 1):
            self._db.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")


def prune(db: sqlite3.Connection, now: float) -> None:
    """Delete what has been over for longer than it is kept; `now` in seconds since the epoch."""
    for condition in (
        "event WHERE at < ?",
        "lease WHERE at < ? AND reason IS NOT NULL",
        # What was never sent is a user's debt: it waits for a site that publishes.
        "usage WHERE ended < ? AND (kind = 'batch' OR sent >= ended)",
        "message WHERE at < ? AND state = 'sent'",
        "returned WHERE at < ?",
    ):
        db.execute(f"DELETE FROM {condition}", (now - _KEPT,))  # noqa: S608 (ours)
