"""What is tried on each batch system: all of it on Slurm; where leases go through DRMAA, that."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.chaos import batchwalks, cloudtable, slowwalks
from tests.chaos.faults import Fault, Move
from tests.chaos.walk import Walk


@dataclass(frozen=True)
class Scope:
    """Of one run."""

    name: str  # of its files
    walks: Mapping[str, Walk]
    kinds: tuple[Fault, ...]


_ALL = {**batchwalks.WALKS, **cloudtable.WALKS}
_WITH_LEASES = (
    *("cloud: life", "cloud: published"),
    *(f"cloud: lease cancelled while {state}" for state in ("starting", "ready", "hibernating")),
    *(f"cloud: deleted while {state}" for state in ("requested", "ready", "stopping", "stopped")),
    *slowwalks.WALKS,
)
SCOPES: Mapping[str, Scope] = {
    "slurm": Scope("chaos", _ALL, tuple(f for f in Fault if f is not Fault.LIBRARY)),
    "gridengine": Scope(
        "chaos-gridengine",
        {name: _ALL[name] for name in _WITH_LEASES} | slowwalks.DRMAA,
        (
            *(Fault.COMMIT, Fault.BAIT, Fault.BRIDGE, Fault.LEASE, Fault.CONTROLLER),
            *(Fault.FROZEN, Fault.OTHER, Fault.LIBRARY),
        ),
    ),
}


def aims(walks: Mapping[str, Walk]) -> set[Move]:
    """The moves that these walks are for."""
    return {move for walk in walks.values() for move in walk.aims}
