"""The images that a user sees: the site's, and those saved from VMs, also while they are made."""

from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from occi_bridge.service.transaction import Transaction
from occi_bridge.store import tables
from wnodes_lrms.images.catalogue import Image
from wnodes_lrms.volumes import Consistency

_STATES = {"wanted": "being saved", "ready": "", "failed": "failed", "gone": "being deleted"}
_SAVED = {  # and any other: while stopped
    Consistency.CRASH: "saved while it ran",
    Consistency.FROZEN: "frozen and saved while it ran",
}


class Whose(StrEnum):
    """Who has offered an image."""

    SITE = "site"
    OWN = "own"
    GROUP = "group"  # somebody of the user's group


@dataclass(frozen=True)
class Offered:
    """An image. `state` is empty for one that VMs can be made of."""

    tag: str
    title: str
    whose: Whose
    memory: int = 0  # MiB that a VM of it needs; 0: as the VM that it was saved from
    context: str = ""  # how its VMs learn their keys: see docs/images.md
    shared: str = ""  # the group that may use it, too
    state: str = ""
    reason: str = ""  # why that is so
    created: float = 0.0  # seconds since the epoch; 0: the site does not say


def of_site(images: list[Image]) -> list[Offered]:
    """Those of the site's catalogue."""
    return [
        Offered(each.tag, each.tag, Whose.SITE, memory=each.min_memory, context=each.context)
        for each in images
    ]


def saved(tx: Transaction) -> list[Offered]:
    """Those that the user, or their group, has saved, the newest first."""
    table = tables.saved.c
    own = table.owner == tx.user.key
    seen = sa.or_(own, sa.and_(tx.visible(tables.saved), table.state == "ready"))
    rows = tx.link.execute(sa.select(tables.saved).where(seen).order_by(table.created.desc()))
    return [
        Offered(
            row.tag,
            (row.title or row.tag) + like(row.consistency, row.stripped),
            Whose.OWN if row.owner == tx.user.key else Whose.GROUP,
            shared=row.shared,
            state=_STATES[row.state],
            reason=row.reason,
            created=row.created,
        )
        for row in rows
    ]


def like(consistency: str, stripped: bool) -> str:
    """What is to be known of a saved image, after its title; nothing of one that is of before."""
    if not consistency:
        return ""
    said = _SAVED.get(Consistency(consistency), "saved while stopped")
    return f" ({said}{'' if stripped else ' with its SSH host keys'})"
