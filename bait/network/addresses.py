"""The addresses of a node's guests: which ones there are, and the link address of each."""

import ipaddress
from collections.abc import Collection
from itertools import islice

from wnodes_lrms.addresses import address6_of
from wnodes_lrms.config.load import Host, Offer
from wnodes_lrms.errors import UnknownError, WnodesError

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


def site_address(offer: Offer, node: str, taken: Collection[str]) -> ipaddress.IPv4Address | None:
    """The lowest of the addresses that this node has on a network of the site's for batch VMs, and
    that nobody has; None on a network where guests ask by DHCP.

    Raises WnodesError if the node has none there, UnknownError while all are taken.
    """
    if offer.subnet is None:
        return None
    if node not in offer.batch:
        raise WnodesError(f"node {node} has no addresses for batch VMs on network {offer.name}")
    never = {offer.subnet.network_address, offer.subnet.broadcast_address, offer.gateway}
    registered = {host.address for host in offer.host}  # if there are any, no others are given
    for address in offer.batch[node]:
        if registered and address not in registered:
            continue
        if address not in never and str(address) not in taken:
            return address
    raise UnknownError(
        f"all addresses of node {node} on network {offer.name} are taken: one is free again a"
        " minute after its VM has ended"
    )


def host_of(offer: Offer | None, address: str | None) -> Host | None:
    """What the site has registered for an address of a batch VM's there, if it has."""
    hosts = offer.host if offer and address else ()
    return next((host for host in hosts if str(host.address) == address), None)


def ipv6_of(mac: str, offer: Offer) -> tuple[str | None, str | None]:
    """The address, with the prefix's length, and the router that a card on a network of the site's
    has by IPv6."""
    if offer.subnet6 is None:
        return None, None
    address = f"{address6_of(mac, offer.subnet6)}/{offer.subnet6.prefixlen}"
    return address, str(offer.gateway6) if offer.gateway6 else None


def mac_of(address: ipaddress.IPv4Address | str) -> str:
    """The link address that goes with an address: locally administered, unique as it is."""
    return "52:54:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(address).packed)
