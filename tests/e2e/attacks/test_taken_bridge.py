"""Attacks by who has a bridge's key and certificate, on the nodes that obey its orders."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.e2e.box import call, machines
from tests.e2e.orders import an_order, give, lease, of


@pytest.fixture
def storage() -> Iterator[str]:
    """A bridge of the node's, for its own use."""
    call("ip", "link", "add", "storage", "type", "bridge")
    yield "storage"
    call("ip", "link", "delete", "storage")


def test_an_order_plugs_into_no_bridge_that_the_node_does_not_offer(storage: str) -> None:
    """They want a machine of their own on the node's storage network."""
    card = {"id": str(uuid4()), "kind": "bridge", "network": storage, "mac": "52:54:00:66:66:66"}
    wish = an_order(nics=[card | {"bridge": storage}])
    with lease(wish) as job:
        refusal = give("hv1", of(wish, job))
        assert refusal.status_code == 422
        assert refusal.json()["error"] == (
            "order refused: network storage is none that this node offers: see [[cloud.network]]"
        )
        assert not machines()
        assert not list(Path("/sys/class/net", storage, "brif").glob("*"))
