"""The batch systems that the site can have, and the one that it was brought up with."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from . import gridengine, slurm
from .layout import Layout, Memory
from .part import Part
from .process import Processes

DEFAULT = "slurm"


class BatchSystem(Protocol):
    """What a module of the site about a batch system has."""

    @property
    def IN_SERVICE(self) -> Sequence[str]: ...  # noqa: N802 (a module's constant)

    def configure(self, site: Layout, memory: Memory) -> None:
        """Write its configuration."""

    def settings(self, site: Layout) -> Mapping[str, str]:
        """What it fills into wnodes.toml."""

    def covers(self, site: Layout) -> Mapping[Path, Path]:
        """Files of the site's own, and which of the machine's each one covers for all daemons."""

    def foundations(self, site: Layout) -> Sequence[Part]:
        """What has to run before it."""

    def controller(self, site: Layout, memory: Memory) -> Part:
        """Its central daemon."""

    def admit(self, site: Layout, memory: Memory, inside: Sequence[str]) -> None:
        """Tell the running controller of nodes, queues and accounts; `inside` is put before
        commands that have to see what the daemons see."""

    def nodes(self, site: Layout, memory: Memory, processes: Processes) -> Iterator[Part]:
        """The nodes' daemons; a later one may need that the earlier ones run by then."""

    def answers(self, site: Layout, memory: Memory) -> bool:
        """Whether the controller is up."""

    def cancel_all(self, site: Layout, memory: Memory) -> Sequence[str]:
        """Cancel every job; those that had not wholly ended."""

    def node_state(self, site: Layout, memory: Memory, node: str) -> str:
        """How a node stands, in its words; one of IN_SERVICE if it takes jobs."""

    def environment(self, site: Layout, memory: Memory) -> Mapping[str, str]:
        """What its commands need in any shell."""

    def clear(self, memory: Memory) -> None:
        """Take away what it has left on the machine."""


SYSTEMS: Mapping[str, BatchSystem] = {"slurm": slurm, "gridengine": gridengine}


def name(memory: Memory) -> str:
    """Which one the site has."""
    chosen: str = memory.get("lrms", DEFAULT)
    return chosen


def system(memory: Memory) -> BatchSystem:
    """Its module."""
    return SYSTEMS[name(memory)]


def environment(site: Layout, memory: Memory) -> dict[str, str]:
    """What any shell needs to use the site."""
    return {**site.environment(), **system(memory).environment(site, memory)}
