"""The bait's ledger: which VMs it has promised, where each stands, and what happened.

The row of a VM lives as long as the VM; its events stay, for `wnodes job show`.
Every change is on disk before the act that it announces. A VM's state changes as
bait/ledger/states.py allows and in no other way; with it, in the same transaction, goes the
journal of its usage.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

from bait.ledger import clock, sql, usage
from bait.ledger.records import Event, Given, Lease, Load, Moved, Row, Usage
from bait.ledger.states import MOVES, may
from bait.ledger.store import Store, prune
from wnodes_lrms.model import Kind, State


class Ledger:
    """The VMs of a node. Safe to use from many threads. Every method raises WnodesError."""

    def __init__(self, path: Path) -> None:
        """Open its file, made at the first use. Raises WnodesError if that can't be done."""
        self.store = Store(path)
        # Hears of each change of a state: when it is on disk, and before what follows from it.
        self.on_move: Callable[[Moved], None] = lambda _moved: None

    def close(self) -> None:
        """Close the file; whoever still asks gets a WnodesError."""
        self.store.close()

    def prune(self) -> None:
        """Forget what was over long ago."""
        with self.store.change() as db:
            prune(db, time.time())

    # VMs

    def promise(self, row: Row) -> bool:
        """Add a VM; False, and no change, if it is there already."""
        with self.store.change() as db:
            done = sql.row_of(db, row.id) is None
            if done:
                sql.insert(db, row)
                sql.record(db, row.job, row.id, "requested")
        return done and self._moved(row, None, row.state)

    def change(self, machine: str, what: str, **values: object) -> Row | None:
        """Set columns of a row and record why; the row as it is then.

        None, and no change, if it is gone, or can't go from its state into the wanted one.
        """
        return self._change(machine, what, values, lambda _row: True)

    def move(self, row: Row, what: str, being: Collection[State], **values: object) -> Row | None:
        """The same, if the VM is still in that row's lease and in one of these states.

        None, and no change, if not: somebody else has begun something with it.
        """
        return self._change(
            row.id, what, values, lambda now: now.lease == row.lease and now.state in being
        )

    def record(self, job: str, machine: str, what: str) -> None:
        """Record that something happened, without a change of the row."""
        with self.store.change() as db:
            sql.record(db, job, machine, what)

    def forget(self, row: Row, what: str, code: int = 0) -> None:
        """Delete the row of a VM that is gone, and record that; its volumes are free again.

        If it was in a lease, `what` has ended that, with this exit code. A VM that something
        else was begun with meanwhile stays.
        """
        with self.store.change() as db:
            now = sql.row_of(db, row.id)
            gone = (
                now is not None
                and may(now.kind, now.state, None)
                and (now.lease == row.lease or now.state is State.ENDING)
            )
            if now and gone:
                sql.follow(db, row, None)
                sql.give_back(db, now)
                db.execute("DELETE FROM machine WHERE id = ?", (row.id,))
                db.execute("DELETE FROM attached WHERE machine = ?", (row.id,))
                sql.record(db, row.job, row.id, what)
            sql.close_lease(db, row.lease, what, code)
        if now and gone:
            self._moved(row, now.state, None)

    def withdraw(self, row: Row) -> None:
        """Take a promise back that nothing was done for, and that nobody asked for: no row, and no
        event, is left of it. A VM that something was begun for stays."""
        with self.store.change() as db:
            now = sql.row_of(db, row.id)
            gone = now is not None and now.state is State.REQUESTED
            if gone:
                db.execute("DELETE FROM machine WHERE id = ?", (row.id,))
                db.execute("DELETE FROM event WHERE machine = ?", (row.id,))
        if gone:
            self._moved(row, State.REQUESTED, None)

    def get(self, machine: str) -> Row | None:
        """The row of a VM."""
        with self.store.change() as db:
            return sql.row_of(db, machine)

    def rows(self, job: str | None = None) -> list[Row]:
        """All VMs, or those of a job, the oldest first."""
        with self.store.change() as db:
            found = db.execute(
                f"SELECT {sql.COLUMNS} FROM machine WHERE ? IS NULL OR job = ? ORDER BY rowid",  # noqa: S608
                (job, job),
            )
            return [sql.as_row(values) for values in found]

    def events(self, name: str) -> list[Event]:
        """What happened to a job's VMs, or to a VM, the oldest first."""
        with self.store.change() as db:
            found = db.execute(
                "SELECT at, job, machine, what FROM event WHERE job = ? OR machine = ?"
                " ORDER BY rowid",
                (name, name),
            )
            return [Event(*values) for values in found]

    def returned(self, network: str, since: float) -> set[str]:
        """The addresses on a network of the site's that were given back at this time (seconds
        since the epoch) or later. What a clock that was wrong calls the future is not among them.
        """
        with self.store.change() as db:
            found = db.execute(
                "SELECT address FROM returned WHERE network = ? AND at BETWEEN ? AND ?",
                (network, since, time.time()),
            )
            return {address for (address,) in found}

    # Leases

    def open_lease(self, row: Row) -> bool:
        """Let a lease carry a VM: its row is new, or takes the place of the one at rest.

        False, and no change, if the lease's order has been used before, or the VM is not at
        rest.
        """
        with self.store.change() as db:
            old = sql.row_of(db, row.id)
            begins = (old.state if old else None, row.state) in MOVES[row.kind]
            done = begins and (old is None or old.kind is row.kind) and sql.open_lease(db, row)
            if done:
                db.execute("DELETE FROM machine WHERE id = ?", (row.id,))
                sql.insert(db, row)
                sql.record(db, row.job, row.id, f"order of lease {row.lease} accepted")
        return done and self._moved(row, old.state if old else None, row.state)

    def refuse_lease(self, lease: str, machine: str, job: str, reason: str) -> None:
        """Write down that an order was refused; nothing if it is known already."""
        with self.store.change() as db:
            new = db.execute(
                "INSERT OR IGNORE INTO lease VALUES (?, ?, ?, ?, ?, 1)",
                (lease, machine, job, time.time(), reason),
            )
            if new.rowcount:
                sql.record(db, job, machine, f"order refused: {reason}")

    def rest(self, row: Row, state: State, what: str, code: int) -> None:
        """The VM has no domain and no lease any more; what ended the lease, and how.

        A VM that is to be removed, or has another lease by now, stays as it is.
        """
        with self.store.change() as db:
            now = sql.row_of(db, row.id)
            rests = now is not None and now.lease == row.lease and may(row.kind, now.state, state)
            if rests:
                sql.follow(db, row, state)
                db.execute(
                    "UPDATE machine SET state = ?, since = ?, reason = ?, job = '', lease = '',"
                    " ends = NULL WHERE id = ?",
                    (state, time.time(), what, row.id),
                )
                sql.record(db, row.job, row.id, f"{state}: {what}")
            sql.close_lease(db, row.lease, what, code)
        if now and rests:
            self._moved(row, now.state, state)

    def close_lease(self, lease: str, reason: str, code: int) -> None:
        """Write down how a lease ended; the first word on it stands."""
        with self.store.change() as db:
            sql.close_lease(db, lease, reason, code)

    def lease(self, lease: str) -> Lease | None:
        """A lease whose order was accepted or refused here."""
        with self.store.change() as db:
            found = db.execute("SELECT * FROM lease WHERE id = ?", (lease,)).fetchone()
            return Lease(*found) if found else None

    def leases_of(self, name: str) -> list[Lease]:
        """The leases of a VM or of a job, the oldest first."""
        with self.store.change() as db:
            found = db.execute(
                "SELECT * FROM lease WHERE machine = ? OR job = ? ORDER BY at", (name, name)
            )
            return [Lease(*values) for values in found]

    def ended_leases(self, most: int) -> list[Lease]:
        """The leases that ended here last, the newest first."""
        with self.store.change() as db:
            found = db.execute(
                "SELECT * FROM lease WHERE reason IS NOT NULL ORDER BY at DESC LIMIT ?", (most,)
            )
            return [Lease(*values) for values in found]

    # Volumes

    def attach(self, volume: str, machine: str, device: str, *, readonly: bool = False) -> bool:
        """Give a volume to a VM; False if one has it already, unless all of them only read."""
        with self.store.change() as db:
            done = db.execute(
                "INSERT INTO attached SELECT ?, ?, ?, ? WHERE NOT EXISTS (SELECT * FROM attached"
                " WHERE volume = ? AND (machine = ? OR NOT readonly OR NOT ?))",
                (volume, machine, device, readonly, volume, machine, readonly),
            )
            return bool(done.rowcount)

    def detach(self, machine: str, volume: str | None = None) -> None:
        """Take a volume, or all, from a VM."""
        with self.store.change() as db:
            db.execute(
                "DELETE FROM attached WHERE machine = ? AND (? IS NULL OR volume = ?)",
                (machine, volume, volume),
            )

    def attached(self, machine: str) -> dict[str, Given]:
        """The volumes that are given to a VM."""
        with self.store.change() as db:
            found = db.execute(
                "SELECT volume, device, readonly FROM attached WHERE machine = ? ORDER BY rowid",
                (machine,),
            )
            return {volume: Given(device, bool(readonly)) for volume, device, readonly in found}

    def holders(self, volume: str) -> dict[str, Given]:
        """The VMs that a volume is given to: one, or several that read."""
        with self.store.change() as db:
            found = db.execute(
                "SELECT machine, device, readonly FROM attached WHERE volume = ? ORDER BY rowid",
                (volume,),
            )
            return {machine: Given(device, bool(readonly)) for machine, device, readonly in found}

    # Usage

    def tick(self, loads: Mapping[str, Load]) -> None:
        """Bring the usages of the VMs that were just seen running up to date."""
        with self.store.change() as db:
            usage.tick(db, loads, clock.now())

    def stop_clock(self, machine: str, ago: float) -> None:
        """The VM has gone by itself; its last sign of life was so many seconds ago."""
        now = clock.now()
        with self.store.change() as db:
            usage.stop(db, machine, replace(now, utc=now.utc - ago, ticks=now.ticks - ago))

    def usages(self, kind: Kind | None = None, since: float = 0.0) -> list[Usage]:
        """The usages that are open or ended after `since` (epoch), the oldest first."""
        with self.store.change() as db:
            return usage.usages(db, kind, since)

    # Notes

    def note(self, key: str) -> str | None:
        """A small fact about the node."""
        with self.store.change() as db:
            found = db.execute("SELECT value FROM note WHERE key = ?", (key,)).fetchone()
            return str(found[0]) if found else None

    def set_note(self, key: str, value: str | None) -> None:
        """Write such a fact down; None: it holds no more."""
        with self.store.change() as db:
            db.execute("DELETE FROM note WHERE key = ?", (key,))
            if value is not None:
                db.execute("INSERT INTO note VALUES (?, ?)", (key, value))

    def _change(
        self, machine: str, what: str, values: dict[str, object], agrees: Callable[[Row], bool]
    ) -> Row | None:
        with self.store.change() as db:
            old = sql.row_of(db, machine)
            if old is None or not agrees(old):
                return None
            if "state" in values:
                if not may(old.kind, old.state, State(str(values["state"]))):
                    return None
                values["since"] = time.time()
            setters = ", ".join(f"{name} = ?" for name in values)
            db.execute(
                f"UPDATE machine SET {setters} WHERE id = ?",  # noqa: S608 (names are ours)
                (*values.values(), machine),
            )
            row = sql.row_of(db, machine)
            assert row  # noqa: S101 (it was there, in this transaction)
            if (row.network, row.site_address) != (old.network, old.site_address):
                sql.give_back(db, old)
            if "state" in values:
                sql.follow(db, row, row.state)
            sql.record(db, row.job, machine, what)
        self._moved(row, old.state, row.state)
        return row

    def _moved(self, row: Row, old: State | None, new: State | None) -> bool:
        if old is not new:
            self.on_move(Moved(row.kind, old, new, row.id, row.job))
        return True
