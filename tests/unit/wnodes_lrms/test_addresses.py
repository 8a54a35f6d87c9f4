"""Addresses of cards by IPv6."""

from ipaddress import IPv6Network

import pytest

from wnodes_lrms.addresses import address6_of, fault6


def test_the_ipv6_address_that_goes_with_a_mac() -> None:
    """The example of RFC 4291, A."""
    address = address6_of("34:56:78:9a:bc:de", "2001:db8::/64")
    assert str(address) == "2001:db8::3656:78ff:fe9a:bcde"


@pytest.mark.parametrize(
    ("subnet", "why"),
    [
        ("2001:db8:1::/64", ""),
        ("fd12:3456:789a:1::/64", ""),
        ("fd12:3456:789a::/48", "a /64 is needed"),
        ("fd12:3456:789a:1::/112", "a /64 is needed"),
        ("fe80::/64", "2000::/3 and fc00::/7 alone"),
        ("ff02::/64", "2000::/3 and fc00::/7 alone"),
        ("::/64", "2000::/3 and fc00::/7 alone"),
    ],
)
def test_what_hosts_may_have(subnet: str, why: str) -> None:
    fault = fault6(IPv6Network(subnet))
    assert why in fault
    assert bool(fault) is bool(why)
