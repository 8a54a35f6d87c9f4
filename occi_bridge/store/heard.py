"""Which baits were heard of, when, and which node each is on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from occi_bridge.store import tables
from occi_bridge.store.database import Database
from wnodes_lrms.model import Room

_FREE = 120.0  # seconds for which what was free is told; that a bait answers is noted each 30


def out_of_reach(db: Database, link: Connection, patience: float) -> bool:
    """Whether for `patience` seconds no bait has answered, or no driver has led to ask them."""
    bait, since = tables.bait.c, db.clock() - patience
    heard = sa.or_(sa.not_(bait.silent), bait.seen >= since)
    found = link.execute(
        sa.select(
            (tables.leader.c.until < since).label("unled"),
            sa.exists().select_from(tables.bait).label("known"),  # else nobody has answered yet
            sa.exists().where(heard).label("heard"),
        )
    ).one()
    return bool(found.unled or (found.known and not found.heard))


@dataclass(frozen=True)
class Heard:
    """What a bait said last. Times are in seconds since the epoch."""

    node: str
    seen: float
    drained: str = ""  # why its node takes no new VMs; "": it does
    drained_by: float = 0.0  # when what still runs there is ended; 0: at no set time
    room: Mapping[str, int | None] = field(default_factory=dict)  # fields of a Room; or nothing
    sources: Mapping[str, float] = field(default_factory=dict)  # when each answered last; 0: never


def told(db: Database, url: str, by: Heard | None, *, silent: bool) -> None:
    """Write down that a bait answers, or that it does not any more; and what it said, if ever."""
    table = tables.bait
    values: dict[str, object] = {"silent": silent, **(asdict(by) if by else {})}

    def work(link: Connection) -> None:
        done = link.execute(sa.update(table).where(table.c.url == url).values(**values))
        if not done.rowcount:
            link.execute(sa.insert(table).values(url=url, **values))

    db.write(work)


def rooms(db: Database, link: Connection) -> list[Room]:
    """What is free of each node that takes VMs and has told it; of none that was heard long ago, as
    all were where no driver leads."""
    table, since = tables.bait.c, db.clock() - _FREE
    takes = (table.silent.is_(False), table.drained == "", table.seen >= since)
    found = sa.select(table.room).where(*takes)
    return [Room(**told) for told in link.execute(found).scalars() if told]


def still(db: Database, by: Mapping[str, Heard]) -> None:
    """Write down that baits still answer, by their URLs, and what they said; one that was never
    told of stays unknown."""
    table = tables.bait
    names = [field.name for field in fields(Heard)]
    known = sa.update(table).where(table.c.url == sa.bindparam("of"))
    known = known.values({name: sa.bindparam(f"new_{name}") for name in names})
    rows = [
        {"of": url, **{f"new_{name}": value for name, value in asdict(each).items()}}
        for url, each in sorted(by.items())
    ]
    if rows:
        db.write(lambda link: link.execute(known, rows))


def url(link: Connection, node: str) -> str | None:
    """Where the bait of a node is; None where none has answered for it."""
    table = tables.bait.c
    found = sa.select(table.url).where(table.node == node).order_by(table.silent, table.seen.desc())
    return link.execute(found).scalars().first()


def nodes(db: Database, urls: Sequence[str]) -> dict[str, str]:
    """Where the bait of each node is, as far as ever known; those not in `urls` are forgotten."""
    table = tables.bait

    def work(link: Connection) -> dict[str, str]:
        link.execute(sa.delete(table).where(table.c.url.not_in(urls)))
        found = link.execute(sa.select(table).where(table.c.node != ""))
        return {row.node: row.url for row in found}

    return db.write(work)
