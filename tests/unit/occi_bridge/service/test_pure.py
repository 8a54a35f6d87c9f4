"""The small pure parts: quota, networks and their addresses, orders, host names."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from occi_bridge.driver.orders import SSH_KEY, order
from occi_bridge.service.create import hostname
from occi_bridge.service.quota import Amount, excess
from occi_bridge.store.networks import Net, granted, own_name
from tests.unit.occi_bridge.snapshots import CARD, LEASE, UID, VOLUME, card, link, row
from wnodes_lrms.config.load import CloudNetwork, Grant

GRANT = Grant(match="*", machines=2, cores=4, memory=4096, storage=10)


@pytest.mark.parametrize(
    ("used", "asked", "said"),
    [
        (Amount(), Amount(2, 4, 4096, 10), None),
        (Amount(2), Amount(1), "quota of machines: 2 used, 1 asked, 2 allowed"),
        (Amount(cores=3), Amount(1, 2), "quota of cores: 3 used, 2 asked, 4 allowed"),
        (
            Amount(memory=4000),
            Amount(1, 1, 97),
            "quota of memory: 4000 MiB used, 97 asked, 4096 allowed",
        ),
        (
            Amount(storage=10),
            Amount(storage=1),
            "quota of storage: 10 GiB used, 1 asked, 10 allowed",
        ),
        (Amount(machines=9), Amount(storage=1), None),  # it was lowered: other things still fit
        (Amount(cores=9), Amount(cores=-1), None),
    ],
)
def test_quota(used: Amount, asked: Amount, said: str | None) -> None:
    assert excess(GRANT, used, asked) == said


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
    assert len(granted(both, GRANT)) == 2


def test_the_name_of_a_users_network_fits_a_bridge() -> None:
    name = own_name(UID)
    assert name == "u-1111111100"
    assert len(f"wn-{name}") <= 15


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("Web Server 1", "web-server-1"),
        ("node.example.org", "node"),
        ("-a-", "a"),
        ("ünï", "n"),
        ("…", "vm-11111111"),
        (None, "vm-11111111"),
        ("x" * 80, "x" * 63),
    ],
)
def test_host_names(asked: str | None, expected: str) -> None:
    assert hostname(asked, UID) == expected


@given(st.text())
def test_every_host_name_fits_an_order(asked: str) -> None:
    made = order(row(lease=LEASE, hostname=hostname(asked, UID)), "", (), {}, (), "")
    assert made.hostname


def test_an_order_has_all_that_a_bait_needs() -> None:
    wanted = row(lease=LEASE, saved=True, fqan="/vo", partition="main", lrms_account="grid")
    wanted.attributes = {SSH_KEY: "ssh-ed25519 AAAA anna"}
    gone = card(uid=VOLUME, id=None)
    elsewhere = card(uid=UID, network="taken-away")
    private = net("bridge", "10.0.0.0/24", "10.0.0.1")
    mine = card(network="a", assigned="10.0.0.2/24", gateway="10.0.0.1")
    cards = (mine, gone, elsewhere)
    made = order(wanted, "ZGF0YQ==", cards, {"a": private}, (link(), link(id=None)), "hv1")
    assert (str(made.machine), str(made.lease), made.node) == (UID, LEASE, "hv1")
    assert (made.dn, made.fqan, made.partition) == ("/CN=Anna", "/vo", "main")
    assert made.ssh_keys == ("ssh-ed25519 AAAA anna",)
    assert made.user_data == "ZGF0YQ=="
    assert [str(nic.id) for nic in made.nics] == [CARD]
    assert (made.nics[0].address, made.nics[0].gateway) == ("10.0.0.2/24", "10.0.0.1")
    assert [str(each) for each in made.volumes] == [VOLUME]


def test_a_row_that_makes_no_order_is_refused() -> None:
    with pytest.raises(ValidationError, match="memory"):
        order(row(lease=LEASE, memory=8), "", (), {}, (), "")
