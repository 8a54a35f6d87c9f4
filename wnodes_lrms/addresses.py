"""Addresses of VMs' cards, as bridge and baits give them. Pure."""

import ipaddress

QUARANTINE = 60.0  # seconds that what a card had is nobody's, once it has gone
# The ranges that hosts may have: global unicast (RFC 4291, 2.4) and unique local ones (RFC 4193).
_OF_HOSTS = (ipaddress.IPv6Network("2000::/3"), ipaddress.IPv6Network("fc00::/7"))


def address6_of(mac: str, subnet: str | ipaddress.IPv6Network) -> ipaddress.IPv6Address:
    """The address of a /64 that goes with a link address: a modified EUI-64 (RFC 4291, A).

    So nobody has to give it out, or take it back: it is as unique as the MAC.
    """
    first, *rest = bytes.fromhex(mac.replace(":", ""))
    last = bytes([first ^ 2, *rest[:2], 0xFF, 0xFE, *rest[2:]])
    return ipaddress.IPv6Network(subnet)[int.from_bytes(last, "big")]


def fault6(subnet: ipaddress.IPv6Network) -> str:
    """Why cards can't have addresses of it; empty if they can."""
    if subnet.prefixlen != 64:
        return "a /64 is needed: addresses follow from MACs"
    if not any(subnet.subnet_of(hosts) for hosts in _OF_HOSTS):
        return "hosts have addresses of 2000::/3 and fc00::/7 alone"
    return ""
