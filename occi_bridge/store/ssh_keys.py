"""SSH keys (public halves) that users have the page remember."""

import time
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from occi_bridge.store import tables
from occi_bridge.store.database import Database

_MOST = 20  # of one user; the oldest goes


@dataclass(frozen=True)
class SshKey:
    """A key, and what its user calls it."""

    name: str
    key: str


class SshKeys:
    """All users' keys. Each method may block, and raises UnknownError."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def of(self, owner: str) -> list[SshKey]:
        """Those of a user, the newest first."""
        table = tables.ssh_key.c
        with self._db.reading() as link:
            found = link.execute(
                sa.select(table.name, table.key)
                .where(table.owner == owner)
                .order_by(table.created.desc(), table.name)
            )
            return [SshKey(row.name, row.key) for row in found]

    def remember(self, owner: str, key: SshKey) -> None:
        """Keep a key; one of the same name goes."""
        table = tables.ssh_key

        def work(link: Connection) -> None:
            self._db.lock(link, f"owner {owner}")
            mine = table.c.owner == owner
            link.execute(sa.delete(table).where(mine, table.c.name == key.name))
            latest = sa.select(table.c.name).where(mine).order_by(table.c.created.desc())
            old = list(link.execute(latest.offset(_MOST - 1)).scalars())
            link.execute(sa.delete(table).where(mine, table.c.name.in_(old)))
            values = {"owner": owner, "name": key.name, "key": key.key, "created": time.time()}
            link.execute(sa.insert(table).values(**values))

        self._db.write(work)

    def forget(self, owner: str, name: str) -> None:
        """Keep it no more."""
        table = tables.ssh_key
        mine = (table.c.owner == owner, table.c.name == name)
        self._db.write(lambda link: link.execute(sa.delete(table).where(*mine)))
