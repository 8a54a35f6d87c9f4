"""The few ways of reading and writing rows."""

from dataclasses import fields
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from occi_bridge.store import tables
from occi_bridge.store.rows import Attachment, Compute, Interface, Network, Row, Storage

Kept = TypeVar("Kept", bound="Row")


TABLES: dict[type[Row], sa.Table] = {
    Compute: tables.compute,
    Network: tables.network,
    Interface: tables.interface,
    Storage: tables.storage,
    Attachment: tables.attachment,
}


THERE = tables.entity.c.id.is_not(None)  # its owner has not deleted it


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


def existing(link: Connection, kind: type[Kept], *where: sa.ColumnElement[bool]) -> list[Kept]:
    """Those that their owner has not deleted."""
    return read(link, kind, THERE, *where)


# Deleted by its owner, and the guest still has it.
DETACHING = sa.and_(sa.not_(THERE), tables.attachment.c.attached)


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
