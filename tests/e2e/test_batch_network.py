"""A batch VM on a network of the site's on which its node gives the addresses."""

from collections.abc import Iterator

import pytest

from contrib.site.box.layout import NODES
from tests.chaos.site import Box, bait_of
from tests.e2e.box import call, variant
from tests.e2e.listening import listening
from tests.e2e.lrms.interface import Submit

NODE = NODES[0]
TAG = "lan_debian_x86_64"
RULE = f'[[batch]]\nimage = "{TAG}"\nnetwork = "lan"\n\n'
NETWORK = f"""
[[cloud.network]]
name = "lan"
bridge = "box-lan"
subnet = "10.88.0.0/24"
gateway = "10.88.0.1"
subnet6 = "fd88::/64"
[cloud.network.batch]
{NODE} = "10.88.0.64/31"
[[cloud.network.host]]
name = "job1.example.org"
mac = "52:54:00:0a:00:01"
address = "10.88.0.65"
"""


@pytest.fixture
def lan(daemons: Box) -> Iterator[None]:
    """A network beside the first node, with a host on it, for the VMs of one image."""
    file = daemons.site.wnodes_config
    before = file.read_text()
    for line in (
        "ip link add box-lan type bridge",
        "ip link set box-lan up",
        "ip netns add lan",
        "ip link add lan-host type veth peer name in netns lan",
        "ip link set lan-host master box-lan up",
        "ip -n lan address add 10.88.0.1/24 dev in",
        "ip -n lan link set in up",
    ):
        call(*line.split())
    try:
        file.write_text(before.replace("[[batch]]", RULE + "[[batch]]", 1) + NETWORK)
        daemons.again(bait_of(NODE))
        yield
    finally:
        file.write_text(before)
        daemons.again(bait_of(NODE))
        call("ip", "netns", "delete", "lan")
        call("ip", "link", "delete", "box-lan")


@pytest.mark.usefixtures("lan")
def test_a_batch_vm_has_an_address_of_its_nodes_on_a_network_of_the_sites(submit: Submit) -> None:
    with listening("lan") as port, variant(TAG):
        job = submit(
            f"""
echo is called $(cat /proc/sys/kernel/hostname)
ip -o address show dev eth1
ip route
until (: </dev/tcp/10.88.0.1/{port}) 2>/dev/null; do sleep 0.2; done
echo reached
""",
            image=TAG,
            node=NODE,
        ).says("reached")
        assert job.wait().end == "exit 0"
    assert "inet 10.88.0.65/24" in job.output  # the one that is registered
    assert "inet6 fd88::5054:ff:fe0a:1/64" in job.output
    assert "is called job1\n" in job.output
    assert "default via 10.88.0.1 dev eth1" in job.output
    shown = call("wnodes", "job", "show", job.number)  # by an administrator
    assert "network lan as 10.88.0.65" in shown
