"""How VMs are fitted to their cores, on recorded machines and on any."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bait.machine.topology import NumaNode, Topology
from bait.machine.tuning import Cell, Tuning, tune
from tests.unit.bait.machine.recordings import NAMES, recorded

GIB = 1024


def test_where_all_memory_is_equally_near_nothing_is_placed() -> None:
    assert tune(recorded("one-node"), 1, (1,), GIB) == Tuning(pins=(1,))


def test_on_one_of_two_sockets() -> None:
    found = tune(recorded("two-sockets"), 4, (8, 9, 10, 11), GIB)
    assert found == Tuning(
        pins=(8, 9, 10, 11),
        threads=(8, 9, 10, 11),
        cells=(Cell(1, (0, 1, 2, 3), GIB),),
        iothread=True,
        queues=4,
    )


def test_a_vms_only_cpu_is_not_shared_with_qemus_own_threads() -> None:
    found = tune(recorded("two-sockets"), 1, (9,), GIB)
    assert (found.pins, found.threads) == ((9,), tuple(range(8, 16)))
    assert found.cells == (Cell(1, (0,), GIB),)
    assert not found.iothread


def test_over_both_sockets_the_guest_has_two_nodes_in_proportion() -> None:
    found = tune(recorded("two-sockets"), 4, (6, 7, 8, 5), GIB)
    assert found.pins == (5, 6, 7, 8)
    assert found.cells == (Cell(0, (0, 1, 2), 768), Cell(1, (3,), 256))


def test_a_whole_machine_with_several_nodes_a_socket() -> None:
    found = tune(recorded("two-nodes-a-socket"), 64, tuple(range(64)), 100000)
    assert [cell.node for cell in found.cells] == list(range(8))
    assert [cell.memory for cell in found.cells] == [12500] * 8
    assert found.cells[7].vcpus == tuple(range(56, 64))
    assert found.queues == 8  # not one for each of its cores


def test_both_threads_of_a_core_are_on_one_node() -> None:
    found = tune(recorded("smt-and-four-nodes-a-socket"), 4, (6, 7, 54, 55), 2 * GIB)
    assert found.cells == (Cell(1, (0, 1, 2, 3), 2 * GIB),)
    across = tune(recorded("smt-and-four-nodes-a-socket"), 4, (5, 53, 6, 54), 2 * GIB)
    assert across.pins == (5, 53, 6, 54)
    assert [cell.node for cell in across.cells] == [0, 1]


@pytest.mark.parametrize("cpus", [(), (8,), (8, 9, 10)])
def test_where_the_batch_system_does_not_tell_each_core_nothing_is_bound(
    cpus: tuple[int, ...],
) -> None:
    assert tune(recorded("two-sockets"), 2, cpus, GIB) == Tuning(iothread=True, queues=2)


def test_cpus_that_the_kernel_does_not_list_are_pinned_as_they_are_and_nothing_is_placed() -> None:
    found = tune(recorded("two-sockets"), 2, (1, 99), GIB)
    assert (found.pins, found.threads, found.cells) == ((1, 99), (1, 99), ())


def test_memory_too_small_to_share_out_is_not_placed() -> None:
    found = tune(recorded("two-nodes-a-socket"), 64, tuple(range(64)), 10)
    assert (len(found.pins), found.cells) == (64, ())


def test_a_node_that_has_memory_only_is_nobodys() -> None:
    """As with high-bandwidth or CXL memory, which the kernel has as nodes without CPUs."""
    near = NumaNode(0, frozenset({0, 1}), 1 << 20)
    far = NumaNode(1, frozenset(), 1 << 20)
    assert tune(Topology((near, far)), 2, (0, 1), GIB).cells == (Cell(0, (0, 1), GIB),)


def test_cpus_whose_node_has_no_memory_have_it_from_anywhere() -> None:
    nodes = [NumaNode(n, frozenset({n}), (1 << 20) * (n < 2)) for n in range(3)]
    assert tune(Topology(tuple(nodes)), 2, (0, 2), GIB).cells == ()


@pytest.mark.parametrize(
    ("free", "memory", "page"),
    [(512, 1024, 2048), (511, 1024, None), (512, 1025, None), (0, 1024, None), (9999, 2, 2048)],
)
def test_huge_pages_are_taken_if_enough_are_free(free: int, memory: int, page: int | None) -> None:
    assert tune(recorded("two-sockets", free), 1, (0,), memory).page == page


def test_huge_pages_are_to_be_free_where_the_memory_is_to_be() -> None:
    nodes = (
        NumaNode(0, frozenset({0, 1}), 1 << 22, {2048: 600, 1048576: 0}),
        NumaNode(1, frozenset({2, 3}), 1 << 22, {2048: 100, 1048576: 1}),
    )
    machine = Topology(nodes, {2048: 60})
    assert tune(machine, 1, (0,), 1024).page == 2048
    assert tune(machine, 1, (2,), 1024).page == 1048576  # the larger
    assert tune(machine, 1, (2,), 512).page is None
    assert tune(machine, 2, (1, 2), 200).page == 2048
    assert tune(machine, 2, (1, 2), 202).page == 2048  # 102 MiB and 100
    assert tune(machine, 2, (1, 2), 201).page is None  # no whole pages
    assert tune(machine, 2, (1, 2), 404).page is None  # 101 of 100
    assert tune(machine, 2, (), 1280).page == 2048  # of which it is not told where: anywhere
    assert tune(machine, 2, (), 1282).page is None  # the last 60 are reserved


def nodes_of(cpus: list[list[int]], free: list[int], has: list[bool]) -> Topology:
    return Topology(
        tuple(
            NumaNode(number, frozenset(of), 1 << 20 if memory else 0, {2048: pages})
            for number, (of, pages, memory) in enumerate(zip(cpus, free, has, strict=True))
        )
    )


@st.composite
def machines(draw: st.DrawFn) -> tuple[Topology, list[int]]:
    """Any machine of up to 64 CPUs in up to 8 nodes, and all CPUs' numbers."""
    count = draw(st.integers(1, 64))
    nodes = draw(st.integers(0, 8))
    where = draw(st.lists(st.integers(0, max(nodes - 1, 0)), min_size=count, max_size=count))
    cpus: list[list[int]] = [[c for c in range(count) if where[c] == n] for n in range(nodes)]
    free = draw(st.lists(st.integers(0, 4096), min_size=nodes, max_size=nodes))
    has = draw(st.lists(st.booleans(), min_size=nodes, max_size=nodes))
    return nodes_of(cpus, free, has), list(range(count))


@given(st.data(), machines(), st.integers(1, 1 << 20))
def test_whatever_the_machine(
    data: st.DataObject, machine: tuple[Topology, list[int]], memory: int
) -> None:
    """Each core and each MiB is given once, to the node that it is of."""
    topology, everyone = machine
    cpus = data.draw(st.lists(st.sampled_from(everyone), unique=True, min_size=1))
    found = tune(topology, len(cpus), tuple(cpus), memory)
    at = {cpu: node for node in topology.nodes for cpu in node.cpus}
    assert Counter(found.pins) == Counter(cpus)
    assert len(cpus) == 1 or Counter(found.threads) == Counter(cpus)
    if not found.cells:
        alone = sum(node.memory > 0 for node in topology.nodes) < 2
        lost = any(cpu not in at or not at[cpu].memory for cpu in cpus)
        assert alone or lost or memory < 2 * len(cpus) + 2
        return
    assert sum(cell.memory for cell in found.cells) == memory
    assert [n for cell in found.cells for n in cell.vcpus] == list(range(len(cpus)))
    for cell in found.cells:
        assert cell.memory > 0
        assert {at[found.pins[vcpu]].number for vcpu in cell.vcpus} == {cell.node}
    assert len({cell.node for cell in found.cells}) == len(found.cells)
    if found.page:
        for cell in found.cells:
            assert cell.memory * 1024 % found.page == 0
            assert cell.memory * 1024 // found.page <= topology.nodes[cell.node].free[2048]


@given(st.sampled_from(NAMES), st.integers(1, 96), st.integers(1, 1 << 20))
def test_without_a_binding_nothing_but_the_number_of_cores_counts(
    name: str, cores: int, memory: int
) -> None:
    found = tune(recorded(name), cores, (), memory)
    assert found == Tuning(iothread=cores > 1, queues=min(cores, 8))
