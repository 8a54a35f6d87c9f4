"""The whole site, for those whom their grant lets see it: its nodes, and whose VMs are there.

Nothing here changes anything.
"""

from dataclasses import dataclass, field

import sqlalchemy as sa

from occi_bridge.service.transaction import Transaction
from occi_bridge.store import tables
from occi_bridge.store.states import LIVE
from wnodes_lrms.model import Room

_MISSING = "no node yet"
_NAMES = {"lrms": "batch system"}  # of sources, as people call them
_AWAY = 90.0  # seconds that a source has not answered a bait that does: it is asked every 15 to 30


@dataclass
class Had:
    """How many VMs somebody has, or a node; and what those have that are up, or about to be."""

    vms: int = 0
    live: int = 0
    cores: int = 0
    memory: int = 0  # MiB
    places: set[str] = field(default_factory=set)  # nodes of a user's, or users on a node

    def add(self, *, live: bool, cores: int, memory: int, place: str) -> None:
        """One more VM."""
        self.vms += 1
        self.places.add(place)
        if live:
            self.live += 1
            self.cores += cores
            self.memory += memory


@dataclass(frozen=True)
class Source:
    """What a bait asks: its batch system, or libvirt. `heard`: when it answered last; 0: never."""

    name: str
    heard: float
    away: bool


@dataclass(frozen=True)
class Node:
    """A node, or a bait that has not said of which it is. Times in seconds since the epoch."""

    name: str
    url: str
    silent: bool
    seen: float  # when it answered last, to within half a minute while it does; 0: never
    drained: str  # why it takes no new VMs; "": it does
    drained_by: float  # when what still runs there is ended; 0: at no set time
    has: Had
    room: Room | None  # what of it no job has; None: not known
    sources: list[Source]


@dataclass(frozen=True)
class Overview:
    """All of it. `led` is until when a driver leads, which asks the baits."""

    nodes: list[Node]
    users: dict[str, Had]
    led: float


def overview(tx: Transaction) -> Overview:
    """The site as it was heard of last; of VMs, those that their users have not deleted."""
    compute, entity, bait = tables.compute.c, tables.entity.c, tables.bait
    rows = tx.link.execute(
        sa.select(compute.node, compute.state, compute.cores, compute.memory, entity.owner)
        .join_from(tables.compute, tables.entity, compute.uid == entity.uid)
        .where(entity.id.is_not(None))
    )
    users: dict[str, Had] = {}
    nodes: dict[str, Had] = {}
    for row in rows:
        what = {"live": row.state in LIVE, "cores": row.cores, "memory": row.memory}
        users.setdefault(row.owner, Had()).add(**what, place=row.node or _MISSING)
        if row.node:
            nodes.setdefault(row.node, Had()).add(**what, place=row.owner)
    heard = tx.link.execute(sa.select(bait).order_by(bait.c.node, bait.c.url))
    return Overview(
        nodes=[
            Node(
                name=row.node,
                url=row.url,
                silent=row.silent,
                seen=row.seen,
                drained=row.drained,
                drained_by=row.drained_by,
                has=nodes.get(row.node, Had()),
                room=Room(**row.room) if row.room and not row.silent else None,
                sources=[
                    Source(_NAMES.get(name, name), at, away=row.seen - at > _AWAY)
                    for name, at in row.sources.items()
                ],
            )
            for row in heard
        ],
        users=dict(sorted(users.items(), key=lambda each: (-each[1].cores, each[0]))),
        led=tx.link.execute(sa.select(tables.leader.c.until)).scalar_one(),
    )
