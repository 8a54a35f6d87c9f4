"""What VMs have had of the nodes: copies of the rows of the baits' ledgers, as in accounting.

A bait knows each of them by a number. A row is for one VM in one lease, from its start to its end,
or to when the bait was asked last.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from occi_bridge.store import tables
from occi_bridge.store.database import Database

KEPT = 32 * 86400.0  # seconds after its end
MOST = 40_000  # rows of a node: a bait that makes them up does not fill the database


@dataclass(frozen=True)
class Usage:
    """One row. Times are in seconds, `began` since the epoch."""

    number: int
    owner: str
    cores: int
    began: float
    wall: float  # for which the VM ran
    held: float  # for which it was suspended

    @property
    def end(self) -> float:
        """When it ended, or was counted last."""
        return self.began + self.wall + self.held


def keep(db: Database, node: str, told: Iterable[Usage], since: float) -> None:
    """Have what the bait of a node tells; what ended before `since` goes, and of too much what it
    tells no more and ended first. Raises UnknownError."""
    table = tables.usage
    now = {usage.number: usage for usage in told}
    with db.reading() as link:
        had = {usage.number: usage for usage in _read(link, table.c.node == node)}
    changed = [usage for usage in now.values() if usage != had.get(usage.number)]
    gone = [usage.number for usage in had.values() if usage.end < since]
    only_had = {number: had[number] for number in had.keys() - now.keys() - set(gone)}
    too_many = max(len(now) + len(only_had) - MOST, 0)
    gone += sorted(only_had, key=lambda number: only_had[number].end)[:too_many]
    stale = [*gone, *(usage.number for usage in changed if usage.number in had)]
    if not (changed or gone):
        return

    def work(link: Connection) -> None:
        key = sa.and_(table.c.node == sa.bindparam("of"), table.c.number == sa.bindparam("nr"))
        if stale:
            link.execute(sa.delete(table).where(key), [{"of": node, "nr": nr} for nr in stale])
        if changed:
            link.execute(sa.insert(table), [asdict(usage) | {"node": node} for usage in changed])

    db.write(work, seen=False)


def of(link: Connection, owners: Iterable[str]) -> list[Usage]:
    """What users have had."""
    return _read(link, tables.usage.c.owner.in_(list(owners)))


def _read(link: Connection, where: sa.ColumnElement[bool]) -> list[Usage]:
    table = tables.usage.c
    columns = (table.number, table.owner, table.cores, table.began, table.wall, table.held)
    return [Usage(*row) for row in link.execute(sa.select(*columns).where(where))]
