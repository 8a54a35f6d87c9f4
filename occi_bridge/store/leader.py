"""Who of several drivers leads, by the database's own clock."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from occi_bridge.store import tables
from occi_bridge.store.database import Database

_LEADER = "driver"


def lead(db: Database, holder: str, life: float) -> bool:
    """Become or stay the driver that acts, for `life` seconds; False if another one is."""

    def work(link: Connection) -> bool:
        table = tables.leader
        now = db.now(link)
        done = link.execute(
            sa.update(table)
            .where(
                table.c.name == _LEADER,
                sa.or_(table.c.holder == holder, table.c.until < now),
            )
            .values(holder=holder, until=now + life)
        )
        return bool(done.rowcount)

    return db.write(work, seen=False)


def step_down(db: Database, holder: str) -> None:
    """Let another driver lead at once."""
    table = tables.leader

    def work(link: Connection) -> None:
        ours = sa.update(table).where(table.c.holder == holder)
        link.execute(ours.values(holder="", until=db.now(link)))

    db.write(work, seen=False)


def expect(db: Database) -> None:
    """A bridge starts: some driver is about to lead, and users need not wait for that."""
    table = tables.leader

    def work(link: Connection) -> None:
        now = db.now(link)
        link.execute(sa.update(table).where(table.c.until < now).values(until=now))

    db.write(work, seen=False)
