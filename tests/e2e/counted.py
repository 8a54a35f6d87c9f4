"""A network on which the batch system counts what VMs may send, once that knows the consumable."""

from collections.abc import Iterator
from contextlib import contextmanager

from contrib.site.box.layout import NODES
from tests.chaos.site import Box
from tests.e2e.box import machines, wait_until
from tests.e2e.occi import INFRA, OWN, Cloud

CONSUMABLE = "lan_mbit"
HAS, ASKED = 100, 60  # Mbit/s: of each node, and for each VM
_OUT = "wnodes.throughput.outbound"
_NETWORK = f"""
[[bridge.network]]
name = "counted"
kind = "isolated"
vni = 66
throughput_most = {HAS}
consumable = "{CONSUMABLE}"
"""


@contextmanager
def offered(daemons: Box) -> Iterator[None]:
    """Users have such a network while this lasts."""
    file = daemons.site.wnodes_config
    before = file.read_text()
    try:
        file.write_text(before + _NETWORK)
        daemons.again("bridge")
        yield
    finally:
        file.write_text(before)
        daemons.again("bridge")


def third_waits(user: Cloud) -> set[object]:
    """Each node has room for one VM. A third waits in the queue until one has gone, and none may
    send more than its lease has asked for. Where the first two were."""
    card = {
        "kind": f"{INFRA}#networkinterface",
        "mixins": [f"{OWN}networkinterface#throughput"],
        "target": {"location": "/network/counted", "kind": f"{INFRA}#network"},
        "attributes": {_OUT: ASKED},
    }
    vms = [user.machine(links=[card]).wait("active") for _ in NODES]
    places = {each["node"] for each in machines()}
    [link] = user.get(vms[0].path)["links"]
    more = {"attributes": {_OUT: ASKED + 1}}
    refused = user.ask("POST", f"/networkinterface/{link['id']}", more)
    assert (refused.status_code, "stop the VM first" in refused.text) == (409, True)
    third = user.machine(links=[card])
    wait_until(lambda: third.message.startswith("waiting for the batch system"), 30, "it waits")
    vms[0].delete()
    third.wait("active")
    for each in (vms[1], third):
        each.delete()
    wait_until(lambda: not machines(), 60, "all are gone")
    return places
