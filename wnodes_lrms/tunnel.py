"""A private network that spans nodes, as the bridge tells each bait of it: who is on it, and behind
which other node (VXLAN, RFC 7348). Both read and write it by this description.
"""

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from wnodes_lrms.order import Mac

USERS_VNIS = range(1 << 23, 1 << 24)  # of users' networks; below them are those of the site's


_FORM = r"^[0-9.]{7,15}:[1-9][0-9]{0,4}$"  # one text for each end


def split(end: str) -> tuple[ipaddress.IPv4Address, int]:
    """Address and port of a node's end of its tunnels. Raises ValueError if it has no such form."""
    if not re.fullmatch(_FORM, end):
        raise ValueError(f"{end} is not an address and a port")
    address, _, port = end.partition(":")
    number = int(port)
    if number > 65535:
        raise ValueError(f"{port} is not a port")
    return ipaddress.IPv4Address(address), number


@lru_cache(1 << 14)  # a driver asks for each node about each other one, again and again
def another(end: str, own: str, network: ipaddress.IPv4Network) -> bool:
    """Whether an end may be another node's, for the node whose own end that is: at a host's address
    in the network of the tunnels, and at the same port. Nodes that share a host's loopback, as in
    tests, differ in the port alone.
    """
    (address, port), (here, own_port) = split(end), split(own)
    if address not in network:
        return False
    if here.is_loopback:
        return (address, port) != (here, own_port)
    edges = {network[0], network[-1]} if network.prefixlen < 31 else set()
    return address not in edges | {here} and port == own_port


def _end(text: str) -> str:
    split(text)
    return text


End = Annotated[
    str, StringConstraints(pattern=_FORM), AfterValidator(_end)
]  # of a node's tunnels, as 10.1.0.3:4789
NetworkName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class Tunnel(BaseModel):
    """How one node reaches the rest of a network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vni: int = Field(ge=1, lt=1 << 24, description="VXLAN network identifier")
    ends: Mapping[End, tuple[Mac, ...]] = Field(
        description="the cards behind each other node, by the end of its tunnels"
    )
