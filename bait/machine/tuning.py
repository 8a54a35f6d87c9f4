"""How a VM is fitted to the cores that its allocation has. Pure.

What each value becomes in libvirt's XML is in templates/domain.xml.j2, and the reasons for all of
it in docs/how-it-works.md, "Tuning".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from bait.machine.topology import Topology

QUEUES = 8  # of a card at most: each costs the guest an interrupt, and few are ever busy at once
_STEP = 2  # MiB, the most usual huge page: a cell has whole ones


@dataclass(frozen=True)
class Cell:
    """What a VM has on one NUMA node of the machine."""

    node: int
    vcpus: tuple[int, ...]
    memory: int  # MiB


@dataclass(frozen=True)
class Tuning:
    """How a VM is fitted to its cores. By default: not at all."""

    pins: tuple[int, ...] = ()  # the CPU of each vCPU; none: they run where the kernel likes
    threads: tuple[int, ...] = ()  # the CPUs of QEMU's own threads; none: the same
    # Where its memory is to be. One: the guest sees no NUMA; several: it sees these as its nodes;
    # none: there is nothing to choose.
    cells: tuple[Cell, ...] = ()
    page: int | None = None  # KiB of its huge pages; None: it has pages as any process has
    iothread: bool = False  # its disk has a thread of its own
    queues: int = 1  # of each of its cards


def tune(topology: Topology, cores: int, cpus: Sequence[int], memory: int) -> Tuning:
    """How a VM with so many cores and MiB of memory is fitted to the CPUs of its allocation.

    `cpus` are the machine's own numbers. Where the batch system has not told one for each core,
    nothing is pinned, and memory comes from wherever the kernel takes it.
    """
    pins = tuple(cpus) if len(cpus) == cores else ()
    cells: tuple[Cell, ...] = ()
    if placed := _placed(topology, pins):
        found = _cells([node for node, _cpu in placed], memory)
        if all(cell.memory for cell in found):
            cells, pins = found, tuple(cpu for _node, cpu in placed)
    return Tuning(
        pins=pins,
        threads=_threads(topology, pins, cells),
        cells=cells,
        page=_page(topology, cells, memory),
        iothread=cores > 1,
        queues=min(cores, QUEUES),
    )


def _placed(topology: Topology, cpus: Sequence[int]) -> list[tuple[int, int]]:
    """The CPUs in the order of their NUMA nodes, each with its node; empty where there is only one
    node to have memory from, or a CPU has none near it."""
    nodes = [node for node in topology.nodes if node.memory]
    found = sorted((node.number, cpu) for node in nodes for cpu in node.cpus if cpu in cpus)
    return found if len(nodes) > 1 and len(found) == len(cpus) else []


def _cells(homes: Sequence[int], memory: int) -> tuple[Cell, ...]:
    """The cells of vCPUs that are on these NUMA nodes, which are in order: memory in proportion
    to vCPUs. The first has what is left over; one may have got none."""
    numbers = sorted(set(homes))
    counts = [homes.count(number) for number in numbers]
    parts = [memory * count // len(homes) // _STEP * _STEP for count in counts]
    ends = list(accumulate(counts))
    parts[0] = memory - sum(parts[1:])
    return tuple(
        Cell(number, tuple(range(end - count, end)), part)
        for number, count, end, part in zip(numbers, counts, ends, parts, strict=True)
    )


def _threads(topology: Topology, pins: Sequence[int], cells: Sequence[Cell]) -> tuple[int, ...]:
    """QEMU's own threads are on the VM's CPUs. One that has a single CPU needs that for itself,
    above all while it boots: there they are on all CPUs of the NUMA node, or anywhere."""
    if len(pins) != 1:
        return tuple(pins)
    near = {node.number: node.cpus for node in topology.nodes}
    return tuple(sorted(cpu for cell in cells for cpu in near[cell.node]))


def _page(topology: Topology, cells: Sequence[Cell], memory: int) -> int | None:
    """The size in KiB of the largest huge pages of which enough are free, where they are to be."""
    sizes = {size for node in topology.nodes for size in node.free}
    wanted = {cell.node: cell.memory * 1024 for cell in cells}
    for size in sorted(sizes, reverse=True):
        free = {node.number: node.free.get(size, 0) for node in topology.nodes}
        spare = sum(free.values()) - topology.reserved.get(size, 0)
        whole = not any(part % size for part in (memory * 1024, *wanted.values()))
        there = all(part // size <= free[number] for number, part in wanted.items())
        if whole and there and memory * 1024 // size <= spare:
            return size
    return None
