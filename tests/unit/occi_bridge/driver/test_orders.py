"""The order that goes to a bait, made of what the database has."""

import ipaddress

import pytest
from pydantic import ValidationError

from occi_bridge.driver.orders import SSH_KEY, order
from occi_bridge.occi import schema
from occi_bridge.store.networks import Net
from tests.unit.occi_bridge.snapshots import CARD, LEASE, UID, VOLUME, card, link, row


def test_an_order_has_all_that_a_bait_needs() -> None:
    wanted = row(lease=LEASE, saved=True, fqan="/vo", partition="main", lrms_account="grid")
    wanted.attributes = {SSH_KEY: "ssh-ed25519 AAAA anna"}
    gone = card(uid=VOLUME, id=None)
    elsewhere = card(uid=UID, network="taken-away")
    private = Net(
        name="a",
        kind="bridge",
        subnet=ipaddress.IPv4Network("10.0.0.0/24"),
        gateway=ipaddress.IPv4Address("10.0.0.1"),
    )
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
    assert made.readonly == ()


def test_a_lease_asks_for_the_features_of_its_networks() -> None:
    nets = {
        name: Net(name=name, kind="bridge", feature=feature)
        for name, feature in (("a", "net_b"), ("b", "net_a"), ("c", ""), ("d", "net_b"))
    }
    cards = [card(network=name) for name in nets] + [card(network="gone")]
    asked = order(row(lease=LEASE), "", cards, nets, (), "").lease_request
    assert asked.features == ("net_a", "net_b")
    plain = order(row(lease=LEASE), "", cards[2:3], nets, (), "").lease_request
    assert "features" not in plain.model_dump(exclude_defaults=True)  # earlier baits know none


def test_a_lease_asks_for_what_its_vm_may_send_where_that_is_counted() -> None:
    nets = {
        name: Net(name=name, kind="bridge", consumable=counted, most=100)
        for name, counted in (("a", "lan_mbit"), ("b", "lan_mbit"), ("c", ""), ("d", "wan_mbit"))
    }
    cards = [card(network=name, attributes={schema.OUTBOUND: 30}) for name in "abc"]
    cards += [card(network="d"), card(network="d", id=None), card(network="gone")]
    asked = order(row(lease=LEASE), "", cards, nets, (), "hv1").lease_request
    assert asked.consumables == {"lan_mbit": 60, "wan_mbit": 100}
    plain = order(row(lease=LEASE), "", cards[2:3], nets, (), "").lease_request
    assert "consumables" not in plain.model_dump(exclude_defaults=True)  # earlier baits know none


def test_an_order_says_what_is_only_to_be_read() -> None:
    disk = link(mixins=[schema.READONLY])
    made = order(row(lease=LEASE), "", (), {}, (disk, link(id=None, mixins=disk.mixins)), "hv1")
    assert [str(each) for each in made.readonly] == [VOLUME]
    assert made.volumes == made.readonly


def test_a_row_that_makes_no_order_is_refused() -> None:
    with pytest.raises(ValidationError, match="memory"):
        order(row(lease=LEASE, memory=8), "", (), {}, (), "")
