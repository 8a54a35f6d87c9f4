"""Links of tokens' subjects to DNs: one person, who keeps what they have when they move.

What somebody has is kept under one name. For a token's subject that is linked, that is the DN from
then on. A link is made only while nothing is kept under the subject itself: of that nobody could
say afterwards whose it is.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from occi_bridge.store import queries, tables
from occi_bridge.store.database import Database
from wnodes_lrms.errors import ConflictError, UnknownError

log = logging.getLogger(__name__)

_KINDS = {
    tables.compute.name: "VMs",
    tables.network.name: "networks",
    tables.storage.name: "volumes",
}


@dataclass(frozen=True)
class Made:
    """A link, and when it was made (epoch seconds)."""

    subject: str
    dn: str
    created: float


class Links:
    """All links, as they were when the database answered last. Safe to use from many threads."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: Mapping[str, str] = {}

    def __call__(self) -> Mapping[str, str]:
        """The DN of each subject that is linked. Blocks for a query."""
        try:
            with self._db.glancing() as link:
                self._known = dict(_rows(link))
        except UnknownError as error:
            log.warning("links: %s; going on with those of before", error)
        return self._known

    def make(self, subject: str, dn: str) -> None:
        """Link a token's subject to a DN. Raises ConflictError, UnknownError."""
        self._db.write(lambda link: make(self._db, link, subject, dn))

    def remove(self, subject: str) -> bool:
        """Take a link away; whether there was one. Raises UnknownError."""
        return self._db.write(lambda link: remove(self._db, link, subject))

    def of(self, owner: str) -> Sequence[Made]:
        """The links to a DN. Raises UnknownError."""
        with self._db.reading() as link:
            return [made for made in listed(link) if made.dn == owner]


def make(db: Database, link: Connection, subject: str, dn: str) -> None:
    """Link them; what is so already is success. Raises ConflictError."""
    db.lock(link, f"owner {subject}", f"owner {dn}")
    other = dict(_rows(link)).get(subject)
    if other == dn:
        return
    if other:
        raise ConflictError(f"{subject} is linked to {other}: remove that link first")
    if kept := _kept(link, subject):
        raise ConflictError(
            f"{subject} can't be linked before what it has of its own is gone ({', '.join(kept)})"
        )
    values = {"subject": subject, "owner": dn, "created": time.time()}
    link.execute(sa.insert(tables.link).values(**values))


def remove(db: Database, link: Connection, subject: str) -> bool:
    """Take a link away; whether there was one."""
    db.lock(link, f"owner {subject}")
    gone = link.execute(sa.delete(tables.link).where(tables.link.c.subject == subject))
    return bool(gone.rowcount)


def listed(link: Connection) -> list[Made]:
    """All links."""
    table = tables.link.c
    found = link.execute(sa.select(table.subject, table.owner, table.created).order_by(table.owner))
    return [Made(row.subject, row.owner, row.created) for row in found]


def owner(link: Connection, subject: str) -> str:
    """The name under which what a token's user has is kept."""
    table = tables.link.c
    found = link.execute(sa.select(table.owner).where(table.subject == subject)).scalar()
    return found or subject


def _rows(link: Connection) -> list[tuple[str, str]]:
    table = tables.link.c
    return [(row.subject, row.owner) for row in link.execute(sa.select(table.subject, table.owner))]


def _kept(link: Connection, owner: str) -> list[str]:
    """What there is under a name, in words."""
    found: list[str] = []
    of = tables.entity.c
    for kind, name in _KINDS.items():
        count = link.execute(
            sa.select(sa.func.count()).where(of.owner == owner, of.kind == kind, queries.THERE)
        ).scalar_one()
        found += [f"{name}: {count}"] if count else []
    for table, name in ((tables.saved, "saved images"), (tables.mixin, "mixins")):
        count = link.execute(
            sa.select(sa.func.count()).select_from(table).where(table.c.owner == owner)
        ).scalar_one()
        found += [f"{name}: {count}"] if count else []
    return found
