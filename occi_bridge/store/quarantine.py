"""The addresses of the site's networks that cards have had, in the caller's transaction.

An address is a card's as long as the card has a row. In the transaction in which the row goes, the
address is written down here, and for a while it is nobody's: others may still send to it what is
not for the next VM. In a user's own network all VMs are theirs.
"""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from occi_bridge.store import tables
from occi_bridge.store.rows import Interface
from wnodes_lrms.addresses import QUARANTINE

_TABLE = tables.returned


def give_back(link: Connection, card: Interface, now: sa.ColumnElement[float]) -> None:
    """Note that a card has gone; `now` is Database.clock(), the same for all bridges."""
    if card.owned or not card.assigned:
        return
    old = sa.or_(_TABLE.c.at < now - QUARANTINE, _is(card.network, card.assigned))
    link.execute(sa.delete(_TABLE).where(old))
    values = {"network": card.network, "address": card.assigned, "at": now}
    link.execute(sa.insert(_TABLE).values(**values))


def resting(link: Connection, network: str, now: sa.ColumnElement[float]) -> set[str]:
    """The addresses that are nobody's yet. What a clock that was wrong calls the future is not
    among them. `now` as above."""
    recent = _TABLE.c.at.between(now - QUARANTINE, now)
    found = link.execute(sa.select(_TABLE.c.address).where(_TABLE.c.network == network, recent))
    return set(found.scalars())


def _is(network: str, address: str) -> sa.ColumnElement[bool]:
    return sa.and_(_TABLE.c.network == network, _TABLE.c.address == address)
