"""What the driver reads of the database and writes into it, and who of several drivers leads."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from occi_bridge.driver.observe import Change
from occi_bridge.driver.reports import Sight
from occi_bridge.store import rows, tables
from occi_bridge.store.database import Database
from occi_bridge.store.rows import (
    TABLES,
    Attachment,
    Compute,
    Interface,
    Network,
    Row,
    Saved,
    Storage,
)

# Columns that no user ever sees anything of.
_HIDDEN = frozenset({"act", "tries", "again", "acted", "via", "lease", "job", "lease_at"})
_LONGEST = 2000  # characters
_LEADER = "driver"

Rows = dict[str, Any]


def read_all(db: Database) -> Rows:
    """All rows, by the names that World has for them."""
    with db.reading() as link:
        images = link.execute(
            sa.select(*(tables.saved.c[field.name] for field in fields(Saved)))
            .where(tables.saved.c.state.in_(("wanted", "gone")))
            .order_by(tables.saved.c.created)
        )
        return {
            "computes": tuple(rows.read(link, Compute)),
            "interfaces": tuple(rows.read(link, Interface)),
            "attachments": tuple(rows.read(link, Attachment)),
            "storages": tuple(rows.read(link, Storage)),
            "networks": tuple(rows.read(link, Network)),
            "saved": tuple(Saved(**image._mapping) for image in images),
        }


def visible(values: Mapping[str, object]) -> bool:
    """Whether a user may see something of these columns."""
    return not _HIDDEN.issuperset(values)


def apply(db: Database, changes: Sequence[Change]) -> list[Change]:
    """Write down what was learned; those changes that did not come too late for their row."""

    def work(link: Connection) -> list[Change]:
        return [change for change in changes if set_columns(link, change.row, change.values)]

    if not changes:
        return []
    return db.write(work, seen=any(visible(change.values) for change in changes))


def set_columns(
    link: Connection, row: Row | Saved, values: Mapping[str, object], *, always: bool = False
) -> bool:
    """Set columns of a row; False if since it was read a machine's user has wished something
    else, or it has got another lease.

    `always` for what is so whatever they wish meanwhile: nothing but the row has to be there. Text
    that a bait has told is cut where nobody would read on.
    """
    values = {
        name: value[:_LONGEST] if isinstance(value, str) else value
        for name, value in values.items()
    }
    if isinstance(row, Saved):
        table = tables.saved
        where = [table.c.tag == row.tag]
    else:
        table = TABLES[type(row)]
        where = [table.c.uid == row.uid]
    if isinstance(row, Compute) and not always:
        where += [table.c.wish == row.wish, table.c.lease == row.lease]
    done = link.execute(sa.update(table).where(*where).values(**values))
    return bool(done.rowcount)


def forget(db: Database, row: Row) -> None:
    """Take out a row of which nothing is left, a machine with its links."""

    def work(link: Connection) -> None:
        if isinstance(row, Compute):
            for kind in (Interface, Attachment):
                for each in rows.read(link, kind, TABLES[kind].c.compute == row.uid):
                    rows.remove(link, each)
        rows.remove(link, row)

    db.write(work)


def forget_image(db: Database, image: Saved) -> None:
    """Take out the row of a saved image that is gone."""
    db.write(
        lambda link: link.execute(sa.delete(tables.saved).where(tables.saved.c.tag == image.tag))
    )


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


def out_of_reach(link: Connection, now: float, patience: float) -> bool:
    """Whether for `patience` seconds no bait has answered, or no driver has led to ask them."""
    if link.execute(sa.select(tables.leader.c.until)).scalar_one() < now - patience:
        return True
    baits = [(row.silent, row.seen) for row in link.execute(sa.select(tables.bait))]
    return bool(baits) and all(silent and seen < now - patience for silent, seen in baits)


def told(db: Database, url: str, sight: Sight | None, *, silent: bool) -> None:
    """Write down that a bait answers, with what it said last, or that it does not any more."""
    table = tables.bait
    values: dict[str, object] = {"silent": silent}
    if sight:
        values |= {"node": sight.node, "seen": sight.at}

    def work(link: Connection) -> None:
        done = link.execute(sa.update(table).where(table.c.url == url).values(**values))
        if not done.rowcount:
            link.execute(sa.insert(table).values(url=url, **values))

    db.write(work)


def nodes(db: Database, urls: Sequence[str]) -> dict[str, str]:
    """Where the bait of each node is, as far as ever known; those not in `urls` are forgotten."""
    table = tables.bait

    def work(link: Connection) -> dict[str, str]:
        link.execute(sa.delete(table).where(table.c.url.not_in(urls)))
        found = link.execute(sa.select(table).where(table.c.node != ""))
        return {row.node: row.url for row in found}

    return db.write(work)
