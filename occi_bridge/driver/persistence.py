"""What the driver reads of the database and writes into it, and who of several drivers leads."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from occi_bridge.driver.observe import Change
from occi_bridge.store import quarantine, queries, tables
from occi_bridge.store.database import Database
from occi_bridge.store.queries import TABLES
from occi_bridge.store.rows import Attachment, Compute, Interface, Network, Row, Saved, Storage

# Columns that no user ever sees anything of.
_HIDDEN = frozenset({"act", "tries", "again", "acted", "via", "lease", "job", "lease_at"})
_LONGEST = 2000  # characters

Rows = dict[str, Any]


def read_all(db: Database) -> Rows:
    """All rows, by the names of the fields of Snapshot."""
    with db.reading() as link:
        images = link.execute(
            sa.select(*(tables.saved.c[field.name] for field in fields(Saved)))
            .where(tables.saved.c.state.in_(("wanted", "gone")))
            .order_by(tables.saved.c.created)
        )
        return {
            "computes": tuple(queries.read(link, Compute)),
            "interfaces": tuple(queries.read(link, Interface)),
            "attachments": tuple(queries.read(link, Attachment)),
            "storages": tuple(queries.read(link, Storage)),
            "networks": tuple(queries.read(link, Network)),
            "saved": tuple(Saved(**image._mapping) for image in images),
        }


def visible(values: Mapping[str, object]) -> bool:
    """Whether a user may see something of these columns."""
    return not _HIDDEN.issuperset(values)


def apply(db: Database, changes: Sequence[Change]) -> list[Change]:
    """Write down what was observed; those changes that did not come too late for their row."""

    def work(link: Connection) -> list[Change]:
        return [change for change in changes if set_columns(link, change.row, change.values)]

    if not changes:
        return []
    return db.write(work, seen=any(visible(change.values) for change in changes))


def set_columns(
    link: Connection, row: Row | Saved, values: Mapping[str, object], *, always: bool = False
) -> bool:
    """Set columns of a row; False if since it was read a VM's user has asked for something
    else, or it has got another lease. A volume's size is not set if it is to grow further by now.

    `always` for what is so whatever they ask meanwhile: nothing but the row has to be there. Text
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
    if isinstance(row, Storage) and "size" in values:
        where += [table.c.size == row.size]
    done = link.execute(sa.update(table).where(*where).values(**values))
    return bool(done.rowcount)


def forget(db: Database, row: Row) -> None:
    """Take out a row of which nothing is left, a VM with its links; addresses go back with it."""

    def work(link: Connection) -> None:
        gone: list[Row] = []
        if isinstance(row, Compute):
            gone += queries.read(link, Interface, tables.interface.c.compute == row.uid)
            gone += queries.read(link, Attachment, tables.attachment.c.compute == row.uid)
        gone += queries.read(link, type(row), tables.entity.c.uid == row.uid)
        for each in gone:
            queries.remove(link, each)
            if isinstance(each, Interface):
                quarantine.give_back(link, each, db.clock())

    db.write(work)


def forget_image(db: Database, image: Saved) -> None:
    """Take out the row of a saved image that is gone."""
    db.write(
        lambda link: link.execute(sa.delete(tables.saved).where(tables.saved.c.tag == image.tag))
    )
