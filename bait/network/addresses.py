"""The addresses of a node's guests: which ones there are, and the link address of each."""

import ipaddress
from collections.abc import Collection
from itertools import islice

from wnodes_lrms.errors import WnodesError

_MOST = 1022  # guests of a node: DHCP's table is written out for them


def guest_addresses(subnet: ipaddress.IPv4Network) -> list[ipaddress.IPv4Address]:
    """Those that guests get, the lowest first; the subnet's first one is the node's."""
    return list(islice(subnet.hosts(), 1, _MOST))


def free_address(subnet: ipaddress.IPv4Network, used: Collection[str]) -> ipaddress.IPv4Address:
    """The lowest address that no VM has. WnodesError if there is none."""
    for address in guest_addresses(subnet):
        if str(address) not in used:
            return address
    raise WnodesError(f"all addresses of {subnet} are taken: give [network] a larger subnet")


def mac_of(address: ipaddress.IPv4Address | str) -> str:
    """The link address that goes with an address: locally administered, unique as it is."""
    return "52:54:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(address).packed)
