"""SQL on the ledger's tables, for its transactions: each is called within one."""

import sqlite3
import time
from collections.abc import Iterable
from dataclasses import astuple, fields

from bait.ledger import clock, usage
from bait.ledger.records import Row, Subject
from wnodes_lrms.model import Kind, State

COLUMNS = ", ".join(field.name for field in fields(Row))
_HOLES = ", ".join("?" for _ in fields(Row))


def insert(db: sqlite3.Connection, row: Row) -> None:
    """Add a VM's row."""
    db.execute(f"INSERT INTO machine ({COLUMNS}) VALUES ({_HOLES})", astuple(row))  # noqa: S608


def row_of(db: sqlite3.Connection, machine: str) -> Row | None:
    """The row of a VM; None if it has none."""
    found = db.execute(
        f"SELECT {COLUMNS} FROM machine WHERE id = ?",  # noqa: S608
        (machine,),
    ).fetchone()
    return as_row(found) if found else None


def follow(db: sqlite3.Connection, row: Row, state: State | None) -> None:
    """Have the journal of usage follow the VM into its new state; None: it is gone."""
    subject = Subject(
        id=row.lease or row.id,
        machine=row.id,
        kind=row.kind,
        job=row.job,
        restart=row.restart,
        uid=row.uid,
        tag=row.tag,
        cores=row.cores,
        memory=row.memory,
        spec=row.spec,
    )
    usage.follow(db, subject, state, clock.now())


def open_lease(db: sqlite3.Connection, row: Row) -> bool:
    """Write the row's lease down; False if that was used before."""
    done = db.execute(
        "INSERT OR IGNORE INTO lease (id, machine, job, at) VALUES (?, ?, ?, ?)",
        (row.lease, row.id, row.job, time.time()),
    )
    return bool(done.rowcount)


def close_lease(db: sqlite3.Connection, lease: str, reason: str, code: int) -> None:
    """Write down how a lease ended; the first word on it stands."""
    db.execute(
        "UPDATE lease SET reason = ?, code = ?, at = ? WHERE id = ? AND reason IS NULL",
        (reason, code, time.time(), lease),
    )


def give_back(db: sqlite3.Connection, row: Row) -> None:
    """Write down that nobody has the VM's address on the site's network any more."""
    if row.site_address:
        db.execute(
            "INSERT OR REPLACE INTO returned VALUES (?, ?, ?)",
            (row.network, row.site_address, time.time()),
        )


def record(db: sqlite3.Connection, job: str, machine: str, what: str) -> None:
    """Add an event."""
    db.execute("INSERT INTO event VALUES (?, ?, ?, ?)", (time.time(), job, machine, what))


def as_row(values: Iterable[object]) -> Row:
    """A row, of the values of COLUMNS."""
    named = dict(zip((field.name for field in fields(Row)), values, strict=True))
    named["state"] = State(str(named["state"]))
    named["retry"] = bool(named["retry"])
    named["kind"] = Kind(str(named["kind"]))
    return Row(**named)  # type: ignore[arg-type]


def machines_beginning_with(db: sqlite3.Connection, beginning: str) -> list[str]:
    """The ids of all VMs that something is known of and whose id, hexadecimal, begins so."""
    found = db.execute(
        "SELECT DISTINCT machine FROM event WHERE machine >= ? AND machine < ?",
        (beginning, beginning + "g"),
    )
    return [machine for (machine,) in found]
