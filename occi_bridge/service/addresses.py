"""The addresses that cards get: a MAC, and one of IPv4 where their network gives them."""

import ipaddress
import secrets
from collections.abc import Collection

import sqlalchemy as sa

from occi_bridge.occi import schema
from occi_bridge.occi.messages import OcciError
from occi_bridge.occi.validate_new import New
from occi_bridge.service.transaction import Transaction
from occi_bridge.store import tables
from occi_bridge.store.networks import Net
from occi_bridge.store.quarantine import resting
from wnodes_lrms.addresses import QUARANTINE

_RESTS = f"another VM's until a moment ago: try again in {QUARANTINE:.0f} seconds"


def new_mac(never: Collection[str]) -> str:
    """A link address that is not one of these: on the site's networks they have to be told apart.

    The table takes none twice. What one that is taken was for is then done anew, with another.
    """
    mac = ""
    while not mac or mac in never:
        mac = "52:54:00:" + secrets.token_bytes(3).hex(":")
    return mac


def new_address(tx: Transaction, net: Net, new: New) -> str | None:
    """An address of the network that no card has, the one that is asked for, if any is; None where
    the network gives none. Raises OcciError 400, 409."""
    name = schema.ADDRESS
    asked = str(new.attributes.get(name, "")).partition("/")[0]
    if ":" in asked:
        raise OcciError(400, f"{name}: a card's IPv6 address follows from its MAC; leave it out")
    if net.pool is None:
        if asked:
            raise OcciError(409, f"{name}: network {net.name} gives addresses by itself, or none")
        return None
    table = tables.interface.c
    query = sa.select(table.assigned).where(table.network == net.name, table.assigned.is_not(None))
    taken = set(tx.link.execute(query).scalars())  # first: what goes meanwhile is found resting
    taken |= _without_mac(tx, net)
    rest = set() if net.owned else resting(tx.link, net.name, tx.db.clock())
    if not asked:
        try:
            return net.free_address(taken | rest)
        except LookupError as error:
            raise OcciError(409, f"{error}{f', or {_RESTS}' if rest else ''}") from error
    address = f"{asked}/{net.pool.prefixlen}"
    if not net.gives(ip_of(name, asked)) or address in taken:
        raise OcciError(409, f"{name}: {asked} is taken, or not one of {net.pool}")
    if address in rest:
        raise OcciError(409, f"{name}: {asked} was {_RESTS}")
    return address


def _without_mac(tx: Transaction, net: Net) -> set[str]:
    """The addresses of the network whose MAC is a card's, wherever that is."""
    if not net.hosts or net.pool is None:
        return set()
    column = tables.interface.c.mac
    used = sa.select(column).where(column.in_([host.mac for host in net.hosts.values()]))
    macs = set(tx.link.execute(used).scalars())
    length = net.pool.prefixlen
    return {f"{at}/{length}" for at, host in net.hosts.items() if host.mac in macs}


def ip_of(name: str, text: str) -> ipaddress.IPv4Address:
    """An IPv4 address of this attribute. Raises OcciError 400."""
    try:
        return ipaddress.IPv4Address(text)
    except ValueError as error:
        raise OcciError(400, f"{name}: {error}") from error
