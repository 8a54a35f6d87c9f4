"""Recorded NUMA topologies: a line for each file of sysfs that is read, with what it said."""

import dataclasses
import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bait.machine.topology import Topology, read

DATA = Path(__file__).parents[2] / "data" / "topology"
NAMES = sorted(path.stem for path in DATA.iterdir())


def lay_out(name: str, folder: Path, changes: Mapping[str, str] | None = None) -> Path:
    """A sysfs with these files, some of them changed."""
    lines = (DATA / f"{name}.txt").read_text().splitlines()
    files = dict(line.split(":", 1) for line in lines if not line.startswith("#"))
    for path, content in (files | dict(changes or {})).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(f"{content}\n")
    return folder


@functools.cache
def recorded(name: str, free: int = 0) -> Topology:
    """A recorded machine, with so many huge pages of 2 MiB free on each of its nodes."""
    with tempfile.TemporaryDirectory() as folder:
        found = read(lay_out(name, Path(folder)))
    nodes = [dataclasses.replace(node, free={2048: free}) for node in found.nodes]
    return dataclasses.replace(found, nodes=tuple(nodes))
