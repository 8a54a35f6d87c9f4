"""The command's names for what is OCCI's are the service's."""

from occi_bridge.occi import schema
from wnodes_lrms.cli.cloud import client, entities


def test_the_names_are_the_services() -> None:
    assert (client.INFRA, entities.INFRA) == (schema.INFRA, schema.INFRA)
    assert (entities.OWN, entities.IPNETWORK) == (schema.OWN, schema.IPNETWORK)
    assert entities.LEASE_EXPECTED == schema.LEASE_EXPECTED
    assert entities.LEASE_END == schema.LEASE_END


def test_a_vm_with_little_said_of_it() -> None:
    found = {"id": "1", "mixins": [], "attributes": {"occi.compute.state": "inactive"}}
    row = entities.vm(found)
    assert (row["name"], row["address"], row["image"], row["networks"]) == ("", "", "", [])
