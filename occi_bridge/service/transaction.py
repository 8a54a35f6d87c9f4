"""One user's request in one transaction: what they see, and what is theirs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from occi_bridge.identity.user import User
from occi_bridge.occi.messages import Entity, OcciError
from occi_bridge.service import entities as view
from occi_bridge.service import vm_entities
from occi_bridge.service.offer import Site
from occi_bridge.service.quota import Amount
from occi_bridge.store import queries, tables
from occi_bridge.store.database import Database
from occi_bridge.store.networks import Net, of_user
from occi_bridge.store.rows import Attachment, Compute, Interface, Network, Row, Storage

Found = TypeVar("Found", bound=Row)
Held = TypeVar("Held", bound=Compute | Network | Storage)

_BY_PATH = {path: kind for kind, path in view.PATHS.items()}
_BY_NAME = {queries.TABLES[kind].name: kind for kind in view.PATHS}


@dataclass(frozen=True)
class Transaction:
    """The database, the site and the user, for one request. Paths are as in Entity.path."""

    link: Connection
    db: Database
    site: Site
    user: User

    def visible(self, table: sa.Table = tables.entity) -> sa.ColumnElement[bool]:
        """The rows of this user: their own, and their group's where the policy says so."""
        mine = table.c.owner == self.user.key
        if not (self.user.grant.share and self.user.group):
            return mine
        return sa.or_(mine, table.c.shared == self.user.group)

    @property
    def shared(self) -> str:
        """The group that is to see what this user makes; "" for none."""
        return self.user.group if self.user.grant.share else ""

    def read(self, kind: type[Found], *where: sa.ColumnElement[bool]) -> list[Found]:
        """What there is of a kind for this user."""
        return queries.existing(self.link, kind, self.visible(), *where)

    def find(self, path: str) -> Row | Net:
        """What is at a path. Raises OcciError 404."""
        folder, name = path[: path.rfind("/") + 1], path[path.rfind("/") + 1 :]
        kind = _BY_PATH.get(folder)
        if kind is Network and name in self.site.nets:
            net = self.site.nets[name]
            if net in self.site.granted(self.user.grant):
                return net
        elif kind:
            found = self.read(kind, tables.entity.c.id == name)
            if kind is Attachment and not found:
                left = (tables.entity.c.uid == name, queries.DETACHING)
                found = queries.read(self.link, kind, self.visible(), *left)
            if found:  # of two that are called so, since the group had another policy, one's own
                return min(found, key=lambda row: row.owner != self.user.key)
        raise OcciError(404, f"there is nothing at {path}")

    def held(self, row: Held) -> Held:
        """A VM, volume or network as it is now; nobody else links it or deletes it meanwhile.

        Who needs the owner's lock as well takes that one first, and a VM's before those of what it
        is linked to. Raises OcciError 409 if it has just been deleted.
        """
        self.db.lock(self.link, f"{queries.TABLES[type(row)].name} {row.uid}")
        found = queries.existing(self.link, type(row), tables.entity.c.uid == row.uid)
        if not found:
            raise OcciError(409, f"{view.PATHS[type(row)]}{row.id} has just been deleted")
        return found[0]

    def machine(self, uid: str) -> Compute:
        """The VM of a link."""
        return queries.read(self.link, Compute, tables.entity.c.uid == uid)[0]

    def lease_of(self, vm: Compute) -> str:
        """The lease that a VM has, "" for none: then the driver asks for none before this
        transaction is over, and for all that the VM has by then."""
        table = tables.compute.c
        query = sa.select(table.lease).where(table.uid == vm.uid).with_for_update()
        return str(self.link.execute(query).scalar_one())

    def locations(self, kind: type[Row] | None) -> list[str]:
        """The paths of all there is of a kind, or of all; the site's networks last.

        Who takes the first network in sight should get one of their own, if they have made any.
        """
        of, volume = tables.entity.c, tables.attachment.c
        shown = sa.or_(queries.THERE, queries.DETACHING)
        where = [self.visible(), shown]
        if kind:
            where.append(of.kind == queries.TABLES[kind].name)
        found = self.link.execute(
            sa.select(of.kind, sa.func.coalesce(of.id, of.uid).label("id"))
            .join_from(tables.entity, tables.attachment, of.uid == volume.uid, isouter=True)
            .where(*where)
            .order_by(of.created, of.uid)
        )
        nets = self.site.granted(self.user.grant) if kind in (None, Network) else []
        own = [view.PATHS[_BY_NAME[row.kind]] + row.id for row in found]
        return own + [f"/network/{net.name}" for net in nets]

    def entities(self, kind: type[Row] | None) -> list[Entity]:
        """All there is of a kind, or of all, whole; in the order of locations()."""
        if kind:
            return self._of_kind(kind)
        found = {entity.path: entity for each in view.PATHS for entity in self._of_kind(each)}
        return [found[path] for path in self.locations(None)]

    def entity(self, row: Row | Net) -> Entity:
        """One entity as it is now, a VM with its links."""
        if isinstance(row, Net):
            return view.site_network(row)
        if isinstance(row, Compute):
            return self._machines([row], self.links_of([row]))[0]
        if isinstance(row, Interface | Attachment):
            whole = self.entity(self.machine(row.compute))
            return next(link for link in whole.links if link.id == (row.id or row.uid))
        return view.network(row) if isinstance(row, Network) else view.storage(row)  # type: ignore[arg-type]

    def machine_with(self, row: Compute, links: Iterable[Row]) -> Entity:
        """A VM with these links, which are all that it has."""
        links = list(links)
        cards = [link for link in links if isinstance(link, Interface)]
        volumes = [link for link in links if isinstance(link, Attachment)]
        return self._machines([row], (cards, volumes))[0]

    def links_of(self, machines: Sequence[Compute]) -> tuple[list[Interface], list[Attachment]]:
        """The links of a VM, or of all that this user sees; also the volumes that a guest has not
        let go of since their links were deleted."""
        cards = queries.TABLES[Interface].c.compute
        volumes = queries.TABLES[Attachment].c.compute
        shown = sa.or_(queries.THERE, queries.DETACHING)
        if len(machines) == 1:
            uid = machines[0].uid
            return (
                queries.existing(self.link, Interface, cards == uid),
                queries.read(self.link, Attachment, volumes == uid, shown),
            )
        return self.read(Interface), queries.read(self.link, Attachment, self.visible(), shown)

    def used(self, owner: str) -> Amount:
        """What counts for an owner's quota: all that they have not deleted, and the VMs that stay
        until images of them are written."""
        read = sa.select(tables.saved.c.machine).where(tables.saved.c.state == "wanted")
        stays = sa.or_(queries.THERE, tables.entity.c.uid.in_(read))
        own = sa.and_(tables.entity.c.owner == owner, stays)
        size, volume = tables.compute.c, tables.storage.c
        storage = (
            sa.select(sa.func.coalesce(sa.func.sum(volume.size), 0))
            .join_from(tables.storage, tables.entity, volume.uid == tables.entity.c.uid)
            .where(own)
        )
        used = self._row(
            sa.select(
                sa.func.count(),
                sa.func.coalesce(sa.func.sum(size.cores), 0),
                sa.func.coalesce(sa.func.sum(size.memory), 0),
                storage.correlate(None).scalar_subquery(),
            )
            .join_from(tables.compute, tables.entity, size.uid == tables.entity.c.uid)
            .where(own)
        )
        return Amount(*map(int, used))

    @cached_property
    def leaving(self) -> int:
        """How many things that this user has deleted were still there when it was first asked."""
        of = tables.entity.c
        return self.count(tables.entity, of.owner == self.user.key, of.id.is_(None))

    def count(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
        """How many rows of a table fit."""
        return int(self._row(sa.select(sa.func.count()).select_from(table).where(*where))[0])

    def _row(self, query: sa.Select[Any]) -> Sequence[Any]:
        return tuple(self.link.execute(query).one())

    def _of_kind(self, kind: type[Row]) -> list[Entity]:
        if kind is Network:
            nets = [view.site_network(net) for net in self.site.granted(self.user.grant)]
            return [view.network(row) for row in self.read(Network)] + nets
        if kind is Storage:
            return [view.storage(row) for row in self.read(Storage)]
        machines = self.read(Compute)
        whole = self._machines(machines, self.links_of([]))
        if kind is Compute:
            return whole
        links = {link.path: link for machine in whole for link in machine.links}
        return [links[path] for path in self.locations(kind) if path in links]

    def _machines(
        self, machines: Iterable[Compute], links: tuple[list[Interface], list[Attachment]]
    ) -> list[Entity]:
        cards: dict[str, list[Interface]] = {}
        volumes: dict[str, list[Attachment]] = {}
        for card in links[0]:
            cards.setdefault(card.compute, []).append(card)
        for volume in links[1]:
            volumes.setdefault(volume.compute, []).append(volume)
        ends = {card.owned for card in links[0] if card.owned}
        ends |= {volume.storage for volume in links[1]}
        machines = list(machines)
        around = vm_entities.Around(
            self._ids(ends), self._nets(links[0]), self._nodes({row.node for row in machines})
        )
        return [
            vm_entities.compute(row, cards.get(row.uid, ()), volumes.get(row.uid, ()), around)
            for row in machines
        ]

    def _ids(self, uids: set[str]) -> Mapping[str, str]:
        """What users call the networks and volumes at the ends of links."""
        if not uids:
            return {}
        of = tables.entity.c
        ends = of.kind.in_([tables.network.name, tables.storage.name])
        where = of.uid.in_(uids) if len(uids) < 100 else ends
        found = self.link.execute(sa.select(of.uid, of.id).where(where, queries.THERE))
        return {row.uid: row.id for row in found}

    def _nets(self, cards: Sequence[Interface]) -> Mapping[str, Net]:
        """The site's networks, and those of their own that say more of these cards than their rows:
        which address they have by IPv6."""
        if not any(card.owned for card in cards):
            return self.site.nets
        own = map(of_user, self.read(Network, tables.network.c.subnet6 != ""))
        return {**self.site.nets, **{net.name: net for net in own}}

    def _nodes(self, names: set[str]) -> Mapping[str, vm_entities.Heard]:
        names = names - {""}
        if not names:
            return {}
        found = self.link.execute(sa.select(tables.bait).where(tables.bait.c.node.in_(names)))
        return {row.node: vm_entities.Heard(row.seen, row.silent) for row in found}
