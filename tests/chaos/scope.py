"""What is tried on each batch system: all of it on Slurm; where leases go through DRMAA, that."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.chaos import batchwalks, cloudtable, slowwalks
from tests.chaos.faults import IN_TURN, Fault, Move
from tests.chaos.walk import Walk


@dataclass(frozen=True)
class Scope:
    """Of one run."""

    name: str  # of its files
    walks: Mapping[str, Walk]
    kinds: tuple[Fault, ...]
    turns: tuple[Fault, ...] = IN_TURN


_ALL = {**batchwalks.WALKS, **cloudtable.WALKS}
_WITH_LEASES = (
    *("cloud: life", "cloud: published"),
    *(f"cloud: lease cancelled while {state}" for state in ("starting", "ready", "hibernating")),
    *(f"cloud: deleted while {state}" for state in ("requested", "ready", "stopping", "stopped")),
    *slowwalks.WALKS,
)
# Made for these moves on Slurm alone. Grid Engine's prolog announces no lease job to its bait, so
# nothing is promised to one and taken back; and it kills a job that is deleted so late that a VM's
# memory is always written before.
_AIMLESS = ("cloud: published", "cloud: lease cancelled while hibernating")
_ON_DRMAA = {
    name: Walk(_ALL[name].make) if name in _AIMLESS else _ALL[name] for name in _WITH_LEASES
}
SCOPES: Mapping[str, Scope] = {
    # Each bait can ask Slurm for all leases: there it matters less which one has submitted them.
    "slurm": Scope(
        "chaos",
        _ALL,
        tuple(fault for fault in Fault if fault is not Fault.LIBRARY),
        (*IN_TURN, Fault.OTHER),
    ),
    "gridengine": Scope(
        "chaos-gridengine",
        _ON_DRMAA | slowwalks.DRMAA,
        (
            *(Fault.COMMIT, Fault.BAIT, Fault.BRIDGE, Fault.LEASE, Fault.CONTROLLER),
            *(Fault.FROZEN, Fault.OTHER, Fault.LIBRARY),
        ),
    ),
}


def aims(walks: Mapping[str, Walk]) -> set[Move]:
    """The moves that these walks are for."""
    return {move for walk in walks.values() for move in walk.aims}
