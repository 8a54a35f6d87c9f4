"""Attacks by who has a bridge's key and certificate, on the nodes that obey its orders."""

import os
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import jwt
import pytest

from tests.e2e.conftest import IMAGE, call, wait_until
from tests.e2e.occi import context

SITE = Path(os.environ["WNODES_SITE"])
CONFIG = tomllib.loads((SITE / "etc" / "wnodes.toml").read_text())


@pytest.fixture
def storage() -> Iterator[str]:
    """A bridge of the node's, for its own use."""
    call("ip", "link", "add", "storage", "type", "bridge")
    yield "storage"
    call("ip", "link", "delete", "storage")


@pytest.fixture
def bait() -> Iterator[httpx.Client]:
    """The service of a bait, as the bridge sees it."""
    bridge = CONFIG["bridge"]
    tls = context(Path(bridge["certificate"]), Path(bridge["key"]))
    with httpx.Client(base_url=bridge["baits"][0], verify=tls, trust_env=False) as client:
        yield client


def test_an_order_plugs_into_no_bridge_that_the_node_does_not_offer(
    bait: httpx.Client, storage: str
) -> None:
    """They want a machine of their own on the node's storage network."""
    lease, machine = str(uuid4()), str(uuid4())
    card = {"id": str(uuid4()), "kind": "bridge", "network": storage, "bridge": storage}
    order = {
        "lease": lease,
        "machine": machine,
        "hostname": "thief",
        "dn": "/C=IT/O=Box/CN=Nobody at all",
        "account": CONFIG["cloud"]["accounts"][0],
        "lrms_account": "cloud",
        "walltime": 600,
        "cores": 1,
        "memory": 256,
        "image": IMAGE,
        "node": "hv1",
        "nics": [card | {"mac": "52:54:00:66:66:66"}],
    }
    claims = {"jti": lease, "aud": "wnodes-lrms:box", "iat": time.time(), "exp": time.time() + 600}
    key = Path(CONFIG["bridge"]["order_key"]).read_text()
    token = jwt.encode(claims | {"order": order}, key, algorithm="EdDSA")
    answer = bait.post("/leases", json={"token": token})
    assert answer.status_code == 201, answer.text
    said: list[str] = []

    def told() -> bool:
        shown = bait.get("/machines").json()
        said.extend(o["reason"] for o in shown["outcomes"] if o["lease"] == lease)
        said.extend(m["state"] for m in shown["machines"] if m["id"] == machine)
        return bool(said) and said[-1] not in ("requested", "building")

    try:
        wait_until(told, 60, "what became of the order")
        plugged = list(Path("/sys/class/net", storage, "brif").glob("*"))
    finally:
        bait.delete(f"/machines/{machine}")
    assert plugged == []
    assert said == [
        "order refused: network storage is none that this node offers: see [[cloud.network]]"
    ]
