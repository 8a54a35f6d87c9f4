"""What baits tell: their machines, how leases ended, and the leases in the LRMS. As values.

The replies are those of the bait's HTTPS API; times are seconds since the epoch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from wnodes_lrms.lease import Lease

MachineState = Literal[
    "requested", "building", "running", "suspended", "stopping", "stopped", "failed"
]


@dataclass(frozen=True)
class SeenNic:
    """A network card, as its machine has it."""

    id: str
    mac: str = ""
    address: str | None = None


@dataclass(frozen=True)
class SeenVolume:
    """A volume, and the device that its machine sees it as."""

    id: str
    device: str = ""


@dataclass(frozen=True)
class Machine:
    """A machine, as the bait of its node tells of it."""

    id: str
    state: MachineState
    lease: str = ""  # "": its disk is here, and nothing of it runs
    job: str = ""
    reason: str = ""
    since: float = 0.0
    nics: tuple[SeenNic, ...] = ()
    volumes: tuple[SeenVolume, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """A lease that ended on a node, and why."""

    lease: str
    reason: str = ""


@dataclass(frozen=True)
class Machines:
    """The reply to GET /machines."""

    node: str
    machines: tuple[Machine, ...]
    outcomes: tuple[Outcome, ...] = ()


@dataclass(frozen=True)
class Sight:
    """What one bait said at a time; `at` is when it was asked."""

    url: str
    node: str
    at: float
    machines: Mapping[str, Machine]
    outcomes: Mapping[str, str]  # lease: reason


@dataclass(frozen=True)
class LeasesSeen:
    """What the LRMS said at a time of all lease jobs, through some bait."""

    at: float
    leases: Mapping[str, tuple[Lease, ...]]  # a lease has one job, or by mishap two


@dataclass(frozen=True)
class Sights:
    """All that is known of the nodes now.

    `baits` has those that answered lately, by URL. `nodes` is where each node's bait is, as far as
    ever known, also of the silent ones. `leases` is None while nobody can ask the LRMS.
    """

    baits: Mapping[str, Sight] = field(default_factory=dict)
    nodes: Mapping[str, str] = field(default_factory=dict)
    leases: LeasesSeen | None = None
    all_answer: bool = False

    def of_node(self, node: str) -> Sight | None:
        """What the bait of a node said; None while it is silent."""
        return self.baits.get(self.nodes.get(node, ""))
