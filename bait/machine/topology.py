"""The NUMA nodes of this machine: their CPUs, memory and free huge pages, as the kernel tells.

Sources of the formats, all of Linux: Documentation/ABI/stable/sysfs-devices-node and
Documentation/admin-guide/mm/hugetlbpage.rst.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_TOTAL = re.compile(r"MemTotal: +([0-9]+) kB")
_POOL = re.compile(r"hugepages-([0-9]+)kB")


@dataclass(frozen=True)
class NumaNode:
    """A NUMA node, which may lack memory or CPUs."""

    number: int
    cpus: frozenset[int]
    memory: int  # KiB
    free: Mapping[int, int] = field(default_factory=dict)  # size of a huge page in KiB: how many


@dataclass(frozen=True)
class Topology:
    """A machine's NUMA nodes: one where memory is equally far from all CPUs, or none where the
    kernel does not tell."""

    nodes: tuple[NumaNode, ...] = ()
    # Huge pages that count as free until the process touches them that they are reserved for:
    # size in KiB: how many, on whichever node.
    reserved: Mapping[int, int] = field(default_factory=dict)


def read(sysfs: Path = Path("/sys")) -> Topology:
    """The topology at this moment. What can't be read is not there; nothing is raised."""
    folders = (sysfs / "devices/system/node").glob("node[0-9]*")
    nodes = tuple(sorted(map(_node, folders), key=lambda node: node.number))
    return Topology(nodes, dict(_pools(sysfs / "kernel/mm/hugepages", "resv_hugepages")))


def _node(folder: Path) -> NumaNode:
    mask = int(_text(folder / "cpumap").replace(",", "") or "0", 16)
    cpus = frozenset(cpu for cpu in range(mask.bit_length()) if mask >> cpu & 1)
    total = _TOTAL.search(_text(folder / "meminfo"))
    free = dict(_pools(folder / "hugepages", "free_hugepages"))
    return NumaNode(int(folder.name[4:]), cpus, int(total[1]) if total else 0, free)


def _pools(folder: Path, name: str) -> Iterator[tuple[int, int]]:
    for pool in folder.glob("hugepages-*kB"):
        if size := _POOL.fullmatch(pool.name):
            yield int(size[1]), int(_text(pool / name) or "0")


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
