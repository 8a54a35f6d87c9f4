"""What `wnodes-bridge --check` finds."""

from collections.abc import Callable
from ipaddress import IPv4Network

import pytest

from occi_bridge import checks
from occi_bridge.occi import schema
from occi_bridge.occi.validate_new import New
from tests.unit.occi_bridge.local_bridge import LocalBridge, person

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]


@pytest.fixture
def bridge(file_url: str, make_bridge: Callable[..., LocalBridge]) -> LocalBridge:
    made = make_bridge(file_url)
    made.heard()
    return made


def test_addresses_that_a_network_gives_no_more_are_told(bridge: LocalBridge) -> None:
    """As when they are reserved for batch VMs later: two would have them."""
    on = {schema.TARGET: "/network/private"}
    for _ in range(2):
        bridge.create(person(), links=[New(schema.NETWORKINTERFACE, (), on)])
    own = bridge.config.bridge
    assert own
    assert list(checks._addresses(own)) == []
    private = next(net for net in own.network if net.name == "private")
    cards = "cards of VMs have addresses that it does not give: 10.1.0.2"
    for reserved, told in (("10.1.0.2/31", f"2 {cards}, 10.1.0.3"), ("10.1.0.2/32", f"1 {cards}")):
        changed = private.model_copy(update={"reserved": (IPv4Network(reserved),)})
        [check] = checks._addresses(own.model_copy(update={"network": (changed,)}))
        assert (check.name, check.seen) == ("network private", told)
    nowhere = own.model_copy(update={"database": f"{own.database}-that-is-not-there"})
    assert list(checks._addresses(nowhere)) == []
