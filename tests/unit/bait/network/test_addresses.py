"""Addresses of guests are given from below, and run out."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import pytest

from bait.network.addresses import free_address, host_of, ipv6_of, site_address
from tests.unit.conftest import GUESTS, settings
from wnodes_lrms.config import load as config
from wnodes_lrms.config.load import Host, Offer
from wnodes_lrms.errors import UnknownError, WnodesError


def test_addresses_are_given_from_below_and_run_out(tmp_path: Path) -> None:
    file = tmp_path / "wnodes.toml"
    file.write_text(settings(tmp_path).replace(f"{GUESTS}.0/24", "10.0.0.0/29"))
    subnet = config.load(file).network.subnet
    used: set[str] = set()
    for last_byte in range(2, 7):
        address = str(free_address(subnet, used))
        assert address == f"10.0.0.{last_byte}"
        used.add(address)
    with pytest.raises(WnodesError, match="larger subnet"):
        free_address(subnet, used)
    assert str(free_address(subnet, used - {"10.0.0.4"})) == "10.0.0.4"


LAN = Offer(
    name="lan",
    bridge="br0",
    subnet=IPv4Network("10.2.0.0/24"),
    gateway=IPv4Address("10.2.0.2"),
    batch={"hv1": IPv4Network("10.2.0.0/29"), "hv2": IPv4Network("10.2.0.255/32")},
)


def test_a_node_gives_what_is_its_own_on_a_network_of_the_sites() -> None:
    """Never the network's own ends, nor its router."""
    taken: set[str] = set()
    for last_byte in (1, 3, 4, 5, 6, 7):
        taken.add(str(site_address(LAN, "hv1", taken)))
        assert f"10.2.0.{last_byte}" in taken
    assert len(taken) == 6
    assert str(site_address(LAN, "hv1", taken - {"10.2.0.5"})) == "10.2.0.5"
    for node in ("hv1", "hv2"):
        with pytest.raises(UnknownError, match=f"all addresses of node {node} on network lan"):
            site_address(LAN, node, taken)
    with pytest.raises(WnodesError, match="node hv3 has no addresses for batch VMs") as caught:
        site_address(LAN, "hv3", taken)
    assert not isinstance(caught.value, UnknownError)  # another node may have some
    assert site_address(Offer(name="lan", bridge="br0"), "hv3", taken) is None


def test_where_hosts_are_registered_a_node_gives_those_that_are_its_own() -> None:
    hosts = tuple(
        Host(name=f"vm{last}", mac=f"52:54:00:00:00:0{last}", address=IPv4Address(f"10.2.0.{last}"))
        for last in (3, 9, 5)
    )
    lan = LAN.model_copy(update={"host": hosts})
    taken: set[str] = set()
    for _ in range(2):
        taken.add(str(site_address(lan, "hv1", taken)))
    assert taken == {"10.2.0.3", "10.2.0.5"}
    with pytest.raises(UnknownError, match="all addresses of node hv1 on network lan"):
        site_address(lan, "hv1", taken)
    assert host_of(lan, "10.2.0.5") == hosts[2]
    assert host_of(lan, "10.2.0.4") is host_of(lan, None) is host_of(None, "10.2.0.5") is None


def test_what_a_card_has_by_ipv6() -> None:
    six = Offer(name="six", bridge="br0", subnet6=IPv6Network("2001:db8:1::/64"))
    assert ipv6_of("56:00:00:00:00:02", LAN) == (None, None)
    own = "2001:db8:1:0:5400:ff:fe00:2/64"
    assert ipv6_of("56:00:00:00:00:02", six) == (own, None)
    routed = six.model_copy(update={"gateway6": IPv6Address("fe80::1")})
    assert ipv6_of("56:00:00:00:00:02", routed) == (own, "fe80::1")
