"""What the tables of networks may not say together: every fault at once, with its place."""

from pathlib import Path

import pytest

from wnodes_lrms.config import load as config
from wnodes_lrms.errors import ConfigError

HEAD = 'cluster = "box"\nlrms = "slurm"\n'
BRIDGE = '[bridge]\nbaits = ["https://hv1:8445"]\n'


def faults(folder: Path, text: str) -> list[str]:
    file = folder / "wnodes.toml"
    file.write_text(HEAD + text)
    try:
        config.load(file)
    except ConfigError as error:
        return error.faults
    return []


def test_all_faults_of_a_file_are_named_at_once(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        """
[network]
subnet = "10.1.0.0/24"
tunnels = "10.1.0.0/16"
[[cloud.network]]
name = "lan"
bridge = "br0"
gateway = "10.2.0.1"
[[cloud.network]]
name = "dmz"
bridge = "br1"
subnet = "10.1.0.128/25"
gateway = "10.2.0.1"
gateway6 = "fe80::1"
[[cloud.network]]
name = "six"
bridge = "br2"
subnet6 = "2001:db8:1::/64"
closed = ["10.0.0.0/8"]
"""
        + BRIDGE
        + """
[[bridge.network]]
name = "lan"
kind = "bridge"
subnet = "10.2.0.0/24"
vni = 7
[[bridge.network]]
name = "one"
kind = "isolated"
vni = 8
[[bridge.network]]
name = "two"
kind = "isolated"
vni = 8
[[bridge.grant]]
match = "*"
networks = ["one", "three"]
""",
    )
    assert found == [
        "network.tunnels: 10.1.0.0/16 has addresses of guests in it (network.subnet)",
        "cloud.network[1].gateway: 10.2.0.1 is of no subnet: give one, or leave it out",
        "cloud.network[2].gateway: 10.2.0.1 is not a host of 10.1.0.128/25",
        "cloud.network[2].gateway6: fe80::1 needs a subnet6",
        "cloud.network[3].closed: has no IPv6 networks, but subnet6 is there",
        "cloud.network[2].subnet: 10.1.0.128/25 and network.subnet, 10.1.0.0/24, have addresses in"
        " common",
        "bridge.network[1].vni: only a network of kind isolated has one",
        "bridge.network[3].vni: 8 is that of bridge.network[2]",
        "bridge.network[1].subnet: is 10.2.0.0/24, but not there in the [[cloud.network]] of the"
        " same name",
        "bridge.grant[1].networks[2]: there is no network «three»",
    ]


def test_a_fault_of_one_node_has_its_name(tmp_path: Path) -> None:
    text = '[network]\ntunnels = "10.1.0.0/24"\n[nodes.hv2.network]\nsubnet = "10.1.0.0/25"\n'
    assert faults(tmp_path, text) == [
        "nodes.hv2.network.tunnels: 10.1.0.0/24 has addresses of guests in it (network.subnet)"
    ]


@pytest.mark.parametrize(
    "text",
    [
        '[network]\ntunnels = "10.1.0.0/24"\n',
        # Two names for one bridge, as for users of two kinds.
        '[[cloud.network]]\nname = "a"\nbridge = "br0"\nsubnet = "10.2.0.0/24"\n'
        '[[cloud.network]]\nname = "b"\nbridge = "br0"\nsubnet = "10.2.0.0/24"\n',
        # The nodes know the router; the VMs need none.
        '[[cloud.network]]\nname = "a"\nbridge = "br0"\nsubnet = "10.2.0.0/24"\n'
        'gateway = "10.2.0.1"\n'
        + BRIDGE
        + '[[bridge.network]]\nname = "a"\nkind = "bridge"\nsubnet = "10.2.0.0/24"\n',
    ],
)
def test_what_is_right(tmp_path: Path, text: str) -> None:
    assert faults(tmp_path, text) == []


def test_rates_that_can_not_be(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        """
[network]
throughput = 0
[[cloud.network]]
name = "lan"
bridge = "br0"
throughput = 1e30
[[batch]]
partition = "short"
[[batch]]
inbound = "10M"
outbound = -1
[[batch]]
inbound = true
outbound = 1.5
""",
    )
    assert found == [
        "network.throughput: input should be greater than or equal to 1",
        "cloud.network[1].throughput: input should be a valid integer",
        "batch[1]: one of disk_iops, disk_rate, inbound, network, outbound, scratch, scratch_most"
        " is needed",
        "batch[2].inbound: input should be a valid integer",
        "batch[2].outbound: input should be greater than or equal to 1",
        "batch[3].inbound: input should be a valid integer",
        "batch[3].outbound: input should be a valid integer",
    ]


def test_rules_for_batch_jobs_that_can_not_be(tmp_path: Path) -> None:
    lan = '[[cloud.network]]\nname = "lan"\nbridge = "br0"\nsubnet = "10.2.0.0/24"\n'
    found = faults(
        tmp_path,
        lan
        + """
[[batch]]
scratch = 10
scratch_most = 5
[[batch]]
network = "Not A Name"
scratch = -1
""",
    )
    assert found == [
        "batch[1]: scratch_most: 5 is less than scratch",
        "batch[2].network: string should match pattern '^[a-z0-9][a-z0-9-]{0,30}$'",
        "batch[2].scratch: input should be greater than or equal to 0",
    ]
    found = faults(
        tmp_path,
        lan
        + """
[[batch]]
network = "lan"
[[batch]]
network = "none"
[[batch]]
network = "here"
[[nodes.hv1.cloud.network]]
name = "here"
bridge = "br1"
""",
    )
    assert found == [
        "batch[1].network: «lan» has a subnet, and no node has addresses of it to give: say which"
        " in its batch",
        "batch[2].network: there is no [[cloud.network]] «none» on any node",
    ]


def test_rates_that_do_not_agree(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        """
[network]
throughput = 100
[[cloud.network]]
name = "lan"
bridge = "br0"
throughput = 50
"""
        + BRIDGE
        + """
[[bridge.network]]
name = "public"
kind = "nat"
[[bridge.network]]
name = "lan"
kind = "bridge"
throughput = 60
throughput_most = 60
[[bridge.network]]
name = "mine"
kind = "isolated"
throughput = 4
throughput_least = 5
throughput_most = 3
[[bridge.grant]]
match = "*"
network = "lan"
networks = ["public"]
[[bridge.grant]]
match = "*"
network = "other"
""",
    )
    assert found == [
        "bridge.grant[1].network: lan is not one of its networks",
        "bridge.grant[2].network: there is no network «other»",
        "bridge.network[1].throughput_most: 100 or less is needed, as the nodes have it in"
        " [network]",
        "bridge.network[2].throughput_most: 50 or less is needed, as the nodes have it in the"
        " [[cloud.network]] of the same name",
        "bridge.network[3].throughput_most: 3 is less than throughput_least, 5",
        "bridge.network[3].throughput: 4 is not between throughput_least and throughput_most",
    ]


def test_what_nftables_does_not_see_can_not_be_closed(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        """
[[cloud.network]]
name = "ovs"
bridge = "ovs0"
openvswitch = true
vlan = 4095
closed = ["10.0.0.0/8"]
""",
    )
    assert found == ["cloud.network[1].vlan: input should be less than or equal to 4094"]
    found = faults(
        tmp_path,
        """
[[cloud.network]]
name = "ovs"
bridge = "ovs0"
openvswitch = true
closed = ["10.0.0.0/8"]
""",
    )
    assert found == ["cloud.network[1].closed: can't be held on Open vSwitch"]


LAN = """
[[cloud.network]]
name = "lan"
bridge = "br0"
subnet = "10.2.0.0/24"
[cloud.network.batch]
"""


def test_addresses_of_nodes_for_batch_vms_that_can_not_be(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        LAN
        + """
hv1 = "10.2.0.64/28"
hv2 = "10.2.1.64/28"
hv3 = "10.2.0.72/29"
[[cloud.network]]
name = "roam"
bridge = "br1"
batch = { hv1 = "10.3.0.0/28" }
[[batch]]
network = "lan"
[[nodes.hv4.cloud.network]]
name = "lan"
bridge = "br0"
subnet = "10.2.0.0/24"
batch = { hv4 = "10.2.0.96/28", hv3 = "10.2.0.80/28" }
[[nodes.hv5.cloud.network]]
name = "lan"
bridge = "br0"
subnet = "10.2.0.0/24"
batch = { hv5 = "10.2.0.96/28" }
""",
    )
    assert found == [
        "cloud.network[1].batch.hv2: 10.2.1.64/28 is not of 10.2.0.0/24",
        "cloud.network[2].batch.hv1: 10.3.0.0/28 is not of a subnet: there is none",
        "cloud.network.batch: 10.2.0.64/28, that of hv1 in «lan», and 10.2.0.72/29, that of hv3 in"
        " «lan», overlap",
        "cloud.network.batch: 10.2.0.96/28, that of hv4 in «lan», and 10.2.0.96/28, that of hv5 in"
        " «lan», overlap",
    ]
    (wrong,) = faults(tmp_path, LAN + '"not a node" = "10.2.0.64/28"\n')
    assert wrong.startswith("cloud.network[1].batch.not a node")
    assert faults(tmp_path, LAN + 'hv1 = "10.2.0.65/28"\n') == [
        "cloud.network[1].batch.hv1: input is not a valid IPv4 network"
    ]
    router = LAN.replace("/24", '/24"\ngateway = "10.2.0.254', 1)
    assert faults(tmp_path, router + 'hv1 = "10.2.0.254/31"\nhv2 = "10.2.0.0/31"\n') == [
        "cloud.network[1].batch.hv1: 10.2.0.254/31 has no address for a VM: the router's, or the"
        " subnet's ends"
    ]


def test_the_bridge_gives_out_nothing_that_a_node_gives(tmp_path: Path) -> None:
    def found(reserved: str) -> list[str]:
        own = f'name = "lan"\nkind = "bridge"\nsubnet = "10.2.0.0/24"\nreserved = [{reserved}]\n'
        parts = 'hv1 = "10.2.0.64/28"\nhv2 = "10.2.0.80/28"\n'
        return faults(tmp_path, LAN + parts + BRIDGE + f"[[bridge.network]]\n{own}")

    assert found('"10.2.0.64/27"') == []
    assert found('"10.2.0.64/28", "10.2.1.0/28"') == [
        "bridge.network[1].reserved: 10.2.1.0/28 is not of 10.2.0.0/24",
        "bridge.network[1].reserved: 10.2.0.80/28 is missing, which node hv2 has for batch VMs",
    ]


def test_ipv6_that_can_not_be(tmp_path: Path) -> None:
    lan = '[[cloud.network]]\nname = "lan"\nbridge = "br0"\nsubnet6 = "2001:db8:1::/64"\n' + BRIDGE
    found = faults(
        tmp_path,
        lan
        + """
[[bridge.network]]
name = "lan"
kind = "bridge"
subnet6 = "2001:db8:2::/64"
[[bridge.network]]
name = "public"
kind = "nat"
subnet6 = "fd00::/64"
""",
    )
    assert found == [
        "bridge.network[2].subnet6: the nodes' own networks have IPv4 alone",
        "bridge.network[1].subnet6: is 2001:db8:2::/64, but 2001:db8:1::/64 in the"
        " [[cloud.network]] of the same name",
    ]
    assert faults(tmp_path, lan + '[[bridge.network]]\nname = "lan"\nkind = "bridge"\n') == []
    for wrong, why in (("2001:db8::/56", "a /64 is needed"), ("fe80::/64", "2000::/3")):
        own = f'name = "a"\nkind = "isolated"\nsubnet6 = "{wrong}"\n'
        (fault,) = faults(tmp_path, BRIDGE + f"[[bridge.network]]\n{own}")
        assert fault.startswith("bridge.network[1].subnet6: ")
        assert why in fault


def test_what_is_counted_has_a_number(tmp_path: Path) -> None:
    own = '[[bridge.network]]\nname = "lan"\nkind = "bridge"\nconsumable = "lan_mbit"\n'
    assert faults(tmp_path, BRIDGE + own + "throughput_most = 100\n") == []
    assert faults(tmp_path, BRIDGE + own) == [
        "bridge.network[1].throughput_most: is missing, which `consumable` needs: else there is no"
        " number"
    ]


def test_hosts_that_can_not_be(tmp_path: Path) -> None:
    def host(name: str, mac: int, address: str) -> str:
        values = f'name = "{name}"\nmac = "52:54:00:00:00:{mac:02x}"\naddress = "{address}"\n'
        return f"[[bridge.network.host]]\n{values}"

    own = '[[bridge.network]]\nname = "lan"\nkind = "bridge"\nsubnet = "10.2.0.0/24"\n'
    own += 'gateway = "10.2.0.1"\nreserved = ["10.2.0.64/28"]\n'
    good = host("vm1.example.org", 1, "10.2.0.9") + host("vm2.example.org", 2, "10.2.0.8")
    assert faults(tmp_path, BRIDGE + own + good) == []
    wrong = host("vm1.example.org", 3, "10.2.0.1") + host("vm4", 2, "10.2.0.9")
    wrong += host("vm5", 5, "10.2.0.70") + host("vm6", 6, "10.3.0.6") + host("vm7", 7, "10.2.0.255")
    other = '[[bridge.network]]\nname = "own"\nkind = "isolated"\n' + host("vm8", 1, "10.2.0.80")
    assert faults(tmp_path, BRIDGE + own + good + wrong + other) == [
        "bridge.network[1].host[3]: vm1.example.org is that of bridge.network[1].host[1]",
        "bridge.network[1].host[3].address: 10.2.0.1 is not one to give of 10.2.0.0/24",
        "bridge.network[1].host[4]: 52:54:00:00:00:02 is that of bridge.network[1].host[2]",
        "bridge.network[1].host[4]: 10.2.0.9 is that of bridge.network[1].host[1]",
        "bridge.network[1].host[5].address: 10.2.0.70 is not one to give of 10.2.0.0/24",
        "bridge.network[1].host[6].address: 10.3.0.6 is not one to give of 10.2.0.0/24",
        "bridge.network[1].host[7].address: 10.2.0.255 is not one to give of 10.2.0.0/24",
        "bridge.network[2].host: only a network of kind bridge has hosts",
        "bridge.network[2].host[1]: 52:54:00:00:00:01 is that of bridge.network[1].host[1]",
        "bridge.network[2].host[1].address: 10.2.0.80 is not one to give of a subnet: there is"
        " none",
    ]
    parts = '[cloud.network.batch]\nhv1 = "10.2.0.64/28"\n'
    ours = host("vm9", 9, "10.2.0.70") + host("vm1.example.org", 10, "10.2.0.80")
    lan = '[[cloud.network]]\nname = "lan"\nbridge = "br0"\nsubnet = "10.2.0.0/24"\n'
    lan += 'gateway = "10.2.0.1"\n' + parts + ours.replace("bridge.network", "cloud.network")
    assert faults(tmp_path, lan + BRIDGE + own + good) == [
        "cloud.network[1].host[2].address: 10.2.0.80 is not one that a node gives of 10.2.0.0/24",
        "bridge.network[1].host[1]: vm1.example.org is that of cloud.network[1].host[2]",
    ]
    host70 = host("vm9", 9, "10.2.0.70").replace("bridge.network", "cloud.network")
    assert faults(tmp_path, LAN + 'hv1 = "10.2.0.64/29"\nhv2 = "10.2.0.72/29"\n' + host70) == [
        "cloud.network[1].batch.hv2: 10.2.0.72/29 has no address for a VM: none of"
        " cloud.network[1].host"
    ]
    for bad in ('mac = "00:16:3e:00:00:01"', 'mac = "52:54:00:AA:00:01"', 'name = "a_b"'):
        key = bad.partition(" ")[0]
        lines = [line for line in host("vm1", 1, "10.2.0.9").splitlines() if key not in line]
        (fault,) = faults(tmp_path, BRIDGE + own + "\n".join([*lines, bad]))
        assert fault.startswith(f"bridge.network[1].host[1].{key}: ")


def test_no_two_nodes_are_told_otherwise_of_a_host(tmp_path: Path) -> None:
    def node(number: int, mac: int) -> str:
        table, address = f"nodes.hv{number}.cloud.network", f"10.2.0.{64 + 8 * number}"
        return f'''[[{table}]]
name = "lan"
bridge = "br0"
subnet = "10.2.0.0/24"
batch = {{ hv{number} = "{address}/29" }}
[[{table}.host]]
name = "job{number}"
mac = "52:54:00:00:00:{mac:02x}"
address = "{address}"
'''

    assert faults(tmp_path, node(1, 1) + node(2, 2)) == []
    assert faults(tmp_path, node(1, 1) + node(2, 1)) == [
        "cloud.network.host: 52:54:00:00:00:01 is that of job1 (10.2.0.72) and job2 (10.2.0.80)"
    ]
