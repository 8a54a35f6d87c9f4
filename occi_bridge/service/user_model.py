"""What a user finds in the discovery interface: the site's templates, and mixins of their own."""

import sqlalchemy as sa

from occi_bridge.occi.messages import Definition, OcciError
from occi_bridge.occi.mixins import site_model
from occi_bridge.occi.model import Mixin, Model
from occi_bridge.service import quota
from occi_bridge.service.entities import PATHS
from occi_bridge.service.images import like
from occi_bridge.service.links import check_tags
from occi_bridge.service.transaction import Transaction
from occi_bridge.store import queries, tables


def model(tx: Transaction) -> Model:
    """The categories that the user sees."""
    saved, own = tables.saved, tables.mixin
    images = tx.link.execute(
        sa.select(saved.c.tag, saved.c.title, saved.c.consistency, saved.c.stripped)
        .where(tx.visible(saved), saved.c.state == "ready")
        .order_by(saved.c.created)
    )
    mine = tx.link.execute(
        sa.select(own).where(own.c.owner == tx.user.key).order_by(own.c.scheme, own.c.term)
    )
    site = site_model(
        [(image.tag, "") for image in tx.site.images(tx.user.grant)],
        tx.site.templates,
        [(image.tag, image.title + like(image.consistency, image.stripped)) for image in images],
    )
    return site.with_own(
        Mixin(
            row.term,
            row.scheme,
            row.title or row.term,
            parent=row.parent,
            location=row.location,
            user=True,
        )
        for row in mine
    )


def add_mixin(tx: Transaction, definition: Definition) -> None:
    """Add a mixin of the user's own. Raises OcciError 403, 409."""
    table = tables.mixin
    same = sa.or_(
        sa.and_(table.c.scheme == definition.scheme, table.c.term == definition.term),
        table.c.location == definition.location,
    )
    tx.db.lock(tx.link, f"owner {tx.user.key}")
    mine = table.c.owner == tx.user.key
    if tx.link.execute(sa.select(table.c.term).where(mine, same)).first():
        raise OcciError(409, f"{definition.id} or its location is there already")
    fault = quota.full("mixins", tx.count(table, mine), quota.MIXINS)
    if fault:
        raise OcciError(403, fault)
    tx.link.execute(
        sa.insert(table).values(
            owner=tx.user.key,
            scheme=definition.scheme,
            term=definition.term,
            title=definition.title,
            location=definition.location,
            parent=definition.rel,
        )
    )


def remove_mixin(tx: Transaction, mixin: str) -> None:
    """Remove a mixin of the user's own, and from all entities. Raises OcciError 404."""
    table = tables.mixin.c
    own = (table.owner == tx.user.key, table.scheme.concat(table.term) == mixin)
    if not tx.link.execute(sa.delete(tables.mixin).where(*own)).rowcount:
        raise OcciError(404, f"you have no mixin {mixin}")
    tag(tx, mixin, set(), among=None)


def remove_image(tx: Transaction, image: Mixin) -> None:
    """Withdraw an image that the user saved; the driver removes it. Raises OcciError 403, 409."""
    stands = (tables.compute.c.image == image.value, tables.compute.c.saved)
    if tx.link.execute(sa.select(tables.compute.c.uid).where(*stands)).first():
        raise OcciError(409, f"{image.id}: there are VMs made from it: delete them")
    saved = tables.saved.c
    mine = (saved.owner == tx.user.key, saved.tag == image.value, saved.state == "ready")
    changed = sa.update(tables.saved).where(*mine).values(state="gone")
    if not tx.link.execute(changed).rowcount:
        raise OcciError(403, f"{image.id} is not yours")


def tag(tx: Transaction, mixin: str, bearing: set[str], *, among: set[str] | None) -> None:
    """Let just these rows have a mixin, of all that the user sees or of those in `among` (uids)."""
    for kind in PATHS:
        for row in tx.read(kind):
            has, shall = mixin in row.mixins, row.uid in bearing
            if has == shall or (among is not None and row.uid not in among):
                continue
            mixins = [name for name in row.mixins if name != mixin]
            if shall:
                mixins.append(mixin)
                check_tags(mixins)
            queries.change(tx.link, row, mixins=mixins)
