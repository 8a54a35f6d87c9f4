"""What the kernel tells of NUMA nodes: see data/topology for where each recording comes from."""

from pathlib import Path

import pytest

from bait.machine.topology import NumaNode, Topology, read
from tests.unit.bait.machine.recordings import NAMES, lay_out, recorded


def cpus(topology: Topology) -> list[int]:
    return [len(node.cpus) for node in topology.nodes]


def test_recorded_machines() -> None:
    assert cpus(recorded("one-node")) == [2]
    assert cpus(recorded("two-sockets")) == [8, 8]
    assert cpus(recorded("two-nodes-a-socket")) == [8] * 8
    assert cpus(recorded("smt-and-four-nodes-a-socket")) == [12] * 8
    second = recorded("two-sockets").nodes[1]
    assert second == NumaNode(1, frozenset(range(8, 16)), 16777216, {2048: 0})
    fourth = recorded("smt-and-four-nodes-a-socket").nodes[3]
    assert fourth.cpus == {*range(18, 24), *range(66, 72)}


@pytest.mark.parametrize("name", NAMES)
def test_each_cpu_has_one_node(name: str) -> None:
    nodes = recorded(name).nodes
    assert [node.number for node in nodes] == list(range(len(nodes)))
    everyone = [cpu for node in nodes for cpu in node.cpus]
    assert sorted(everyone) == list(range(len(everyone)))
    assert all(node.memory for node in nodes)


def test_huge_pages_are_counted_where_they_are(tmp_path: Path) -> None:
    pages = {
        "devices/system/node/node0/hugepages/hugepages-1048576kB/free_hugepages": "3",
        "devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages": "512",
        "kernel/mm/hugepages/hugepages-2048kB/resv_hugepages": "12",
    }
    found = read(lay_out("two-sockets", tmp_path, pages))
    assert [node.free for node in found.nodes] == [{2048: 0, 1048576: 3}, {2048: 512}]
    assert found.reserved == {2048: 12}


def test_nodes_with_no_cpus_or_no_memory_and_none_at_all(tmp_path: Path) -> None:
    strange = {
        "devices/system/node/node0/cpumap": "0",
        "devices/system/node/node1/meminfo": "Node 1 MemTotal:       0 kB",
    }
    first, second = read(lay_out("two-sockets", tmp_path, strange)).nodes
    assert (first.cpus, second.memory) == (frozenset(), 0)
    assert read(tmp_path / "nowhere") == Topology()


def test_this_machine() -> None:
    found = read()
    assert found.nodes
    assert any(node.memory and node.cpus for node in found.nodes)
