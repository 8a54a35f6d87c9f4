"""Networks: the addresses that they give, their names, and who may choose them."""

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from occi_bridge.store.networks import Net, granted, own_name
from tests.unit.occi_bridge.snapshots import UID, card
from wnodes_lrms.config.load import CloudNetwork, Grant, Host


def net(kind: str, subnet: str | None = None, gateway: str | None = None) -> Net:
    return Net(
        name="a",
        kind=kind,
        subnet=ipaddress.IPv4Network(subnet) if subnet else None,
        gateway=ipaddress.IPv4Address(gateway) if gateway else None,
    )


def test_addresses_are_given_out_in_turn_and_never_the_router() -> None:
    bridged = net("bridge", "10.0.0.0/29", "10.0.0.1")
    taken: list[str] = []
    for last in (2, 3, 4, 5, 6):
        taken.append(str(bridged.free_address(taken)))
        assert taken[-1] == f"10.0.0.{last}/29"
    with pytest.raises(LookupError, match=r"all addresses of 10\.0\.0\.0/29 are taken"):
        bridged.free_address(taken)
    assert bridged.free_address(taken[1:]) == "10.0.0.2/29"


def test_what_is_reserved_is_never_given_out() -> None:
    kept = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/30", "10.0.0.6/31", "10.0.0.10/32")))
    bridged = replace(net("bridge", "10.0.0.0/28", "10.0.0.5"), reserved=kept)
    taken: list[str] = []
    for last in (4, 8, 9, 11, 12, 13, 14):
        taken.append(str(bridged.free_address(taken)))
        assert taken[-1] == f"10.0.0.{last}/28"
    with pytest.raises(LookupError):
        bridged.free_address(taken)
    assert bridged.gives(ipaddress.IPv4Address("10.0.0.9"))
    for never in ("10.0.0.0", "10.0.0.15", "10.0.0.5", "10.0.0.7", "10.0.0.10", "10.0.1.9"):
        assert not bridged.gives(ipaddress.IPv4Address(never))
    nothing = replace(bridged, reserved=(ipaddress.IPv4Network("10.0.0.0/28"),))
    with pytest.raises(LookupError):
        nothing.free_address(())
    within = tuple(map(ipaddress.IPv4Network, ("10.0.0.8/29", "10.0.0.2/32", "10.0.0.0/29")))
    with pytest.raises(LookupError):  # in whatever order, and one within another
        replace(bridged, reserved=within).free_address(())
    partly = replace(bridged, reserved=(*within[1:], ipaddress.IPv4Network("10.0.0.8/30")))
    assert partly.free_address(()) == "10.0.0.12/28"
    # The half of a large network is not walked through.
    large = replace(net("bridge", "10.0.0.0/8"), reserved=(ipaddress.IPv4Network("10.0.0.0/9"),))
    assert large.free_address(()) == "10.128.0.0/8"


def test_the_ipv6_address_of_a_card_follows_from_its_mac() -> None:
    mine = card(network="a", mac="52:54:00:00:00:01", assigned="10.0.0.2/24")
    plain = net("isolated", "10.0.0.0/24")
    assert plain.address6(mine) is plain.nic(mine).address6 is None
    dual = replace(plain, subnet6=ipaddress.IPv6Network("fd12::/64"))
    assert dual.address6(mine) == dual.nic(mine).address6 == "fd12::5054:ff:fe00:1/64"
    assert dual.nic(mine).address == "10.0.0.2/24"


def test_networks_that_give_no_addresses() -> None:
    assert net("nat", "10.0.0.0/24").free_address(()) is None
    assert net("bridge").free_address(()) is None


@given(st.integers(8, 28), st.sets(st.integers(0, 12)))
def test_an_address_is_free_and_in_the_network(length: int, some: set[int]) -> None:
    isolated = net("isolated", f"10.0.0.0/{length}")
    hosts = {f"10.0.0.{number}/{length}" for number in some}
    found = isolated.free_address(hosts)
    assert found is not None
    assert found not in hosts
    interface = ipaddress.IPv4Interface(found)
    assert interface.network == isolated.subnet
    assert interface.ip not in (interface.network[0], interface.network[-1])


def test_grants_choose_networks() -> None:
    both = [CloudNetwork(name="a", kind="nat"), CloudNetwork(name="b", kind="nat")]
    names = [each.name for each in granted(both, Grant(match="*", networks=("b",)))]
    assert names == ["b"]
    assert len(granted(both, Grant(match="*"))) == 2


def test_the_name_of_a_users_network_fits_a_bridge() -> None:
    name = own_name(UID)
    assert name == "u-1111111100"
    assert len(f"wn-{name}") <= 15


def test_where_hosts_are_registered_no_other_address_is_given() -> None:
    hosts = {
        ipaddress.IPv4Address(f"10.0.0.{last}"): Host.model_validate(
            {"name": f"vm{last}", "mac": f"52:54:00:00:00:0{last}", "address": f"10.0.0.{last}"}
        )
        for last in (5, 3)
    }
    bridged = replace(net("bridge", "10.0.0.0/29", "10.0.0.1"), hosts=hosts)
    assert bridged.free_address(()) == "10.0.0.5/29"
    assert bridged.free_address(("10.0.0.5/29",)) == "10.0.0.3/29"
    with pytest.raises(LookupError, match=r"all 2 addresses of 10\.0\.0\.0/29 are taken"):
        bridged.free_address(("10.0.0.5/29", "10.0.0.3/29"))
    assert bridged.gives(ipaddress.IPv4Address("10.0.0.3"))
    assert not bridged.gives(ipaddress.IPv4Address("10.0.0.4"))
    found = bridged.host("10.0.0.3/29")
    assert found is not None
    assert (found.name, found.mac) == ("vm3", "52:54:00:00:00:03")
    assert bridged.host("10.0.0.4/29") is bridged.host(None) is None
