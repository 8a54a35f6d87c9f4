"""The command's names for what is OCCI's are the service's."""

from occi_bridge.occi import schema
from wnodes_lrms.cli.cloud import client, entities


def test_the_names_are_the_services() -> None:
    assert (client.INFRA, entities.INFRA) == (schema.INFRA, schema.INFRA)
    assert (entities.OWN, entities.IPNETWORK) == (schema.OWN, schema.IPNETWORK)
    assert entities.IPV6NETWORK == schema.IPV6NETWORK
    assert entities.LEASE_EXPECTED == schema.LEASE_EXPECTED
    assert entities.LEASE_END == schema.LEASE_END


def test_addresses_of_both_kinds() -> None:
    both = {schema.NETWORK_ADDRESS: "10.7.0.0/24", schema.NETWORK_ADDRESS6: "fd12::/64"}
    row = entities.network({"id": "1", "attributes": {"occi.network.state": "active", **both}})
    assert (row["address"], row["address6"]) == ("10.7.0.0/24", "fd12::/64")
    has = {schema.TARGET: "/network/1", schema.ADDRESS: "10.7.0.1", schema.ADDRESS6: "fd12::1"}
    card = entities.card({"id": "1", "attributes": has})
    assert (card["address"], card["address6"], card["hostname"]) == ("10.7.0.1", "fd12::1", "")
    named = entities.card({"id": "1", "attributes": has | {schema.HOSTNAME: "vm1.example.org"}})
    assert named["hostname"] == "vm1.example.org"


def test_a_vm_with_little_said_of_it() -> None:
    found = {"id": "1", "mixins": [], "attributes": {"occi.compute.state": "inactive"}}
    row = entities.vm(found)
    assert (row["name"], row["address"], row["image"], row["networks"]) == ("", "", "", [])
