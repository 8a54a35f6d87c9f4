"""The database's rows as values, and the few ways of reading them."""

from dataclasses import dataclass, fields
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from occi_bridge.occi.messages import Value
from occi_bridge.store import tables

Kept = TypeVar("Kept", bound="Row")


@dataclass(slots=True, kw_only=True)
class Row:
    """What all entities have. See store/tables.py for the columns."""

    uid: str
    id: str | None
    owner: str
    shared: str
    created: float
    mixins: list[str]
    attributes: dict[str, Value]

    @property
    def gone(self) -> bool:
        """Whether its owner has deleted it."""
        return self.id is None


@dataclass(slots=True, kw_only=True)
class Driven(Row):
    """An entity that the driver does something about.

    `act` is what was asked of a bait last and `tries` how often that failed since; it is not
    asked again before `again`. What was seen before `acted` says nothing about it any more.
    """

    act: str = ""
    tries: int = 0
    again: float = 0.0
    acted: float = 0.0


@dataclass(slots=True, kw_only=True)
class Compute(Driven):
    """A machine: what it is to be, and what was last known of it."""

    fqan: str = ""
    account: str
    lrms_account: str = ""
    partition: str = ""
    walltime: int
    image: str
    saved: bool = False
    hostname: str
    cores: int
    memory: int
    desired: str = "active"
    method: str = ""
    restart: str = ""
    wish: int = 0
    lease: str = ""
    job: str = ""
    via: str = ""
    lease_state: str = ""
    lease_at: float = 0.0
    state: str = ""
    node: str = ""
    since: float = 0.0
    reason: str = ""
    fault: bool = False
    ran: bool = False

    @property
    def home(self) -> str:
        """The node that has it, by its order or its disk: no other node's word on it counts."""
        return self.node if self.lease or self.ran else ""


@dataclass(slots=True, kw_only=True)
class Network(Row):
    """A network that a user has made."""

    name: str
    subnet: str = ""
    gateway: str = ""
    up: bool = True


@dataclass(slots=True, kw_only=True)
class Interface(Driven):
    """A machine's network card."""

    compute: str
    network: str
    owned: str | None
    mac: str
    assigned: str | None = None
    gateway: str = ""
    address: str = ""
    seen_mac: str = ""
    attached: bool = False
    reason: str = ""


@dataclass(slots=True, kw_only=True)
class Storage(Driven):
    """A user's volume."""

    size: int
    made: bool = False
    online: bool = True
    reason: str = ""


@dataclass(slots=True, kw_only=True)
class Attachment(Driven):
    """A volume that is linked to a machine."""

    compute: str
    storage: str
    device: str = ""
    attached: bool = False
    reason: str = ""


@dataclass(slots=True, kw_only=True)
class Saved:
    """An image that a user makes of a machine. What the driver notes is as in Driven."""

    tag: str
    owner: str
    shared: str = ""
    title: str = ""
    machine: str
    node: str
    state: str = "wanted"
    reason: str = ""
    created: float = 0.0
    act: str = ""
    tries: int = 0
    again: float = 0.0
    acted: float = 0.0


TABLES: dict[type[Row], sa.Table] = {
    Compute: tables.compute,
    Network: tables.network,
    Interface: tables.interface,
    Storage: tables.storage,
    Attachment: tables.attachment,
}


def select(kind: type[Row]) -> sa.Select[Any]:
    """All entities of a kind, in the order in which they were made."""
    own = TABLES[kind]
    of_all = tables.entity.c
    names = [field.name for field in fields(kind)]
    columns = [of_all[name] if name in of_all else own.c[name] for name in names]
    return (
        sa.select(*columns)
        .join_from(own, tables.entity, own.c.uid == of_all.uid)
        .order_by(of_all.created, of_all.uid)
    )


def read(link: Connection, kind: type[Kept], *where: sa.ColumnElement[bool]) -> list[Kept]:
    """The entities of a kind that fit."""
    names = [field.name for field in fields(kind)]
    found = link.execute(select(kind).where(*where)).all()
    return [kind(**dict(zip(names, values, strict=True))) for values in found]


def insert(link: Connection, row: Row, **more: object) -> None:
    """Add an entity; `more` are columns that its class does not have."""
    own = TABLES[type(row)]
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    shared = {name: value for name, value in values.items() if name in tables.entity.c}
    kind = own.name
    link.execute(sa.insert(tables.entity).values(kind=kind, **shared))
    apart = {name: value for name, value in values.items() if name in own.c}
    link.execute(sa.insert(own).values(**apart, **more))


def change(link: Connection, row: Row, **values: object) -> None:
    """Set columns of an entity, in the row and in the database."""
    own = TABLES[type(row)]
    shared = {name: value for name, value in values.items() if name in tables.entity.c}
    apart = {name: value for name, value in values.items() if name not in tables.entity.c}
    for table, changed in ((tables.entity, shared), (own, apart)):
        if changed:
            link.execute(sa.update(table).where(table.c.uid == row.uid).values(**changed))
    for name, value in values.items():
        if name in {field.name for field in fields(row)}:
            setattr(row, name, value)


def remove(link: Connection, row: Row) -> None:
    """Take an entity out of the database."""
    own = TABLES[type(row)]
    link.execute(sa.delete(own).where(own.c.uid == row.uid))
    link.execute(sa.delete(tables.entity).where(tables.entity.c.uid == row.uid))
