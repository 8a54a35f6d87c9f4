"""Where a node is: its own networks and addresses, which no guest has."""

import ipaddress
import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wnodes_lrms.run import LOCAL, run

_VXLAN = 50  # bytes of a packet that it takes, over IPv4
_ETHERNET = 1500  # bytes of a guest's packet, where the nodes' own network would carry more


@dataclass(frozen=True)
class Surroundings:
    """What is the node's own, by IPv4."""

    networks: tuple[str, ...] = ()  # that it is itself on
    addresses: tuple[str, ...] = ()  # its own, and its routers'


@dataclass(frozen=True, order=True)
class TunnelEnd:
    """A node's end of the tunnels of private networks."""

    address: str
    mtu: int  # bytes of a guest's packet that fits through


def interfaces() -> set[str]:
    """The names of all interfaces of the node."""
    return {name for _number, name in socket.if_nameindex()}


def own_macs(cards: Path = Path("/sys/class/net")) -> set[str]:
    """The MACs of all interfaces of the node. One that goes meanwhile, as a guest's, has none: the
    kernel says then that there is no such file, or that it can't be read (EINVAL)."""
    found: set[str] = set()
    for card in cards.glob("*/address"):
        with suppress(OSError):
            found.add(card.read_text().strip())
    return found


def surroundings() -> Surroundings:
    """Where the node is, by iproute2. Raises WnodesError if it can't be told."""
    routes, links = _ip("route", "show", "table", "main"), _ip("address", "show")
    networks = {route["dst"] for route in routes if route.get("scope") == "link"}
    routers = {r["gateway"] for r in routes if r["dst"] == "default" and "gateway" in r}
    own = {each["local"] for link in links for each in link.get("addr_info", ())}
    return Surroundings(
        tuple(sorted(networks - {"default"})),
        tuple(sorted(address for address in own | routers if not address.startswith("127."))),
    )


def tunnel_end(network: ipaddress.IPv4Network) -> TunnelEnd | None:
    """The node's end in the network of the tunnels; None if it has no address there.

    Raises WnodesError if it can't be told.
    """
    found = {
        TunnelEnd(each["local"], min(_ETHERNET, link["mtu"] - _VXLAN))
        for link in _ip("address", "show")
        for each in link.get("addr_info", ())
        if ipaddress.IPv4Address(each["local"]) in network
    }
    return min(found, default=None)


def _ip(*arguments: str) -> list[dict[str, Any]]:
    said = run(["ip", "-json", "-4", *arguments], deadline=LOCAL)
    found: list[dict[str, Any]] = json.loads(said or "[]")
    return found
