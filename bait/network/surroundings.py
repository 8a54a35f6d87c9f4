"""Where a node is: its own networks and addresses, which no guest has."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wnodes_lrms.run import run

_DEADLINE = 10.0  # seconds


@dataclass(frozen=True)
class Surroundings:
    """What is the node's own, by IPv4."""

    networks: tuple[str, ...] = ()  # that it is itself on
    addresses: tuple[str, ...] = ()  # its own, and its routers'


def own_macs() -> set[str]:
    """The MACs of all interfaces of the node."""
    links = Path("/sys/class/net").glob("*/address")
    return {link.read_text().strip() for link in links if link.exists()}


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


def _ip(*arguments: str) -> list[dict[str, Any]]:
    said = run(["ip", "-json", "-4", *arguments], deadline=_DEADLINE)
    found: list[dict[str, Any]] = json.loads(said or "[]")
    return found
