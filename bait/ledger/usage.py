"""The journal of wallclock: how long each VM has run, each second once.

A usage is one stretch of a VM in one allocation. It is opened by the same transaction that
says that the VM is about to start, and closed by the one that says that it is about to end,
so that no crash comes between. Seconds are counted by the kernel's clock since boot: a step of the
calendar's clock changes nothing. What runs is brought up to date every few seconds, so a crash of
the whole node loses no more than that.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import fields

from bait.ledger.clock import Moment, between
from bait.ledger.records import Clock, Load, Subject, Usage
from wnodes_lrms.model import Kind, State
from wnodes_lrms.order import Order

_COLUMNS = ", ".join(field.name for field in fields(Usage))
_RUNNING = {State.STARTING, State.BOOTING, State.READY, State.STOPPING, State.HIBERNATING}
_PROVEN = {State.BOOTING, State.READY}  # from here on there was a domain


def follow(db: sqlite3.Connection, subject: Subject, state: State | None, at: Moment) -> None:
    """Write down what a VM's new state means for its usage, in the caller's transaction."""
    machine = subject.machine
    _bring_up_to_date(db, machine, at)
    if state is State.STARTING:
        # A start that a killed bait began, and nobody finished, has cost nothing.
        db.execute("DELETE FROM usage WHERE machine = ? AND ended IS NULL AND ran = 0", (machine,))
        _open(db, subject, at)
        _start_again(db, machine, at)
    elif state in (State.PAUSED, State.SUSPENDED, State.ASLEEP):
        _turn(db, machine, Clock.HELD)
    elif state in _RUNNING:
        _turn(db, machine, Clock.RUNS)
        if state in _PROVEN:
            db.execute("UPDATE usage SET ran = 1 WHERE machine = ? AND ended IS NULL", (machine,))
    elif state is not State.BUILDING:  # a cold restart goes on in the same lease
        _close(db, machine)


def stop(db: sqlite3.Connection, machine: str, at: Moment) -> None:
    """The VM was last seen alive then: what comes until its usage is closed does not count."""
    _bring_up_to_date(db, machine, at)
    _turn(db, machine, Clock.CLOSED)


def tick(db: sqlite3.Connection, loads: Mapping[str, Load], at: Moment) -> None:
    """Bring the usages of VMs that were seen alive up to date, with their traffic."""
    for machine, load in loads.items():
        _bring_up_to_date(db, machine, at)
        _count(db, machine, load)


def usages(db: sqlite3.Connection, kind: Kind | None, since: float) -> list[Usage]:
    """The usages of a kind, or all, that are open or ended after `since`; the oldest first."""
    found = db.execute(
        f"SELECT {_COLUMNS} FROM usage WHERE (? IS NULL OR kind = ?)"  # noqa: S608 (ours)
        " AND (ended IS NULL OR ended >= ?) ORDER BY number",
        (kind, kind, since),
    )
    return [_as_usage(values) for values in found]


def _open(db: sqlite3.Connection, subject: Subject, at: Moment) -> None:
    dn, fqan = "", ""
    if subject.kind is Kind.CLOUD:
        order = Order.model_validate_json(subject.spec)
        dn, fqan = order.dn, order.fqan
    # One that is open goes on: a cold restart in the same lease.
    db.execute(
        "INSERT OR IGNORE INTO usage (id, machine, kind, job, restart, uid, tag, cores, memory, dn,"
        " fqan, began, clock, at, boot, ticks) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,"
        " ?, ?)",
        (
            *(subject.id, subject.machine, subject.kind, subject.job, subject.restart),
            *(subject.uid, subject.tag, subject.cores, subject.memory, dn, fqan),
            *(at.utc, Clock.RUNS, at.utc, at.boot, at.ticks),
        ),
    )


def _start_again(db: sqlite3.Connection, machine: str, at: Moment) -> None:
    """Let a clock that was stopped go on: a cold restart of a VM that was lost."""
    db.execute(
        "UPDATE usage SET clock = ?, at = ?, boot = ?, ticks = ? WHERE machine = ?"
        " AND ended IS NULL AND clock = ?",
        (Clock.RUNS, at.utc, at.boot, at.ticks, machine, Clock.CLOSED),
    )


def _turn(db: sqlite3.Connection, machine: str, clock: Clock) -> None:
    """Count something else from now on, unless it was stopped."""
    db.execute(
        "UPDATE usage SET clock = ? WHERE machine = ? AND ended IS NULL AND clock != ?",
        (clock, machine, Clock.CLOSED),
    )


def _close(db: sqlite3.Connection, machine: str) -> None:
    db.execute("DELETE FROM usage WHERE machine = ? AND ended IS NULL AND ran = 0", (machine,))
    db.execute(
        "UPDATE usage SET ended = began + wall + held, clock = ? WHERE machine = ?"
        " AND ended IS NULL",
        (Clock.CLOSED, machine),
    )


def _bring_up_to_date(db: sqlite3.Connection, machine: str, at: Moment) -> None:
    found: Iterable[tuple[int, str, str, float]] = db.execute(
        "SELECT number, clock, boot, ticks FROM usage WHERE machine = ? AND ended IS NULL",
        (machine,),
    ).fetchall()
    for number, clock, boot, ticks in found:
        if clock == Clock.CLOSED:
            continue
        column = "held" if clock == Clock.HELD else "wall"
        db.execute(
            f"UPDATE usage SET {column} = {column} + ?, at = ?, boot = ?, ticks = ?"  # noqa: S608
            " WHERE number = ?",
            (between(boot, ticks, at), at.utc, at.boot, at.ticks, number),
        )


def _count(db: sqlite3.Connection, machine: str, load: Load) -> None:
    """Add what its cards carried since the last time; a card that begins again is a new one."""
    found = db.execute(
        "SELECT number, inbound, outbound, counted FROM usage WHERE machine = ? AND ended IS NULL",
        (machine,),
    ).fetchone()
    if found is None:
        return
    number, inbound, outbound, text = found
    counted = json.loads(text)
    for card, (received, sent) in load.cards.items():
        before = counted.get(card, (0, 0))
        again = received < before[0] or sent < before[1]
        inbound += received - (0 if again else before[0])
        outbound += sent - (0 if again else before[1])
    db.execute(
        "UPDATE usage SET ran = 1, inbound = ?, outbound = ?, counted = ?, disk = ?"
        " WHERE number = ?",
        (inbound, outbound, json.dumps(counted | dict(load.cards)), load.disk, number),
    )


def _as_usage(values: tuple[object, ...]) -> Usage:
    named = dict(zip((field.name for field in fields(Usage)), values, strict=True))
    named["kind"] = Kind(str(named["kind"]))
    named["clock"] = Clock(str(named["clock"]))
    return Usage(**named)  # type: ignore[arg-type]
