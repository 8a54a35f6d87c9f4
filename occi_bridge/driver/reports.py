"""What baits tell: their VMs, how leases ended, and the leases in the LRMS. As values.

The replies are those of the bait's HTTPS API; times are seconds since the epoch. A node may be in
other hands than its site's: what is none of these words is no answer, and texts for people have
one line and an end.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from wnodes_lrms.lrms.lease import Lease, LeaseState
from wnodes_lrms.order import JobText
from wnodes_lrms.rates import Mbits, Rates
from wnodes_lrms.tunnel import End, NetworkName, Tunnel

_LONGEST = 1000  # characters of a text for people


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text[:_LONGEST]).strip()


def _address(text: str) -> str:
    if text:
        ipaddress.IPv4Interface(text)
    return text


Id = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
]  # a UUID
NodeName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$")]
Said = Annotated[str, AfterValidator(_one_line)]
Mac = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2}(:[0-9a-f]{2}){5})?$")]
Address = Annotated[
    str, StringConstraints(pattern=r"^[0-9./]{0,18}$"), AfterValidator(_address)
]  # with or without a prefix; "": not known
DeviceName = Annotated[str, StringConstraints(pattern=r"^([a-z]{1,8}[0-9]{0,3})?$")]
Time = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
# What a bait asks: lrms, libvirt; a later release may have more.
SourceName = Annotated[str, StringConstraints(pattern=r"^[a-z]{1,16}$")]
MachineState = Literal[
    "requested", "building", "running", "crashed", "suspended", "stopping", "stopped", "failed"
]


Count = Annotated[int, Field(ge=0, lt=1 << 63)]


@dataclass(frozen=True)
class SeenFlow:
    """What a limited card carries one way."""

    limit: Mbits
    passing: Count = 0  # bits a second, over the last seconds
    dropped: Count = 0  # packets


@dataclass(frozen=True)
class SeenNic:
    """A network card, as its VM has it."""

    id: Id
    mac: Mac = ""
    address: Address | None = None
    inbound: Mbits | None = None  # as its order has it
    outbound: Mbits | None = None
    flows: Mapping[Literal["inbound", "outbound"], SeenFlow] = field(default_factory=dict)

    @property
    def rates(self) -> Rates:
        """What its order has, in Mbit/s."""
        return Rates(self.inbound, self.outbound)

    def shown(self, now: float) -> dict[str, float]:
        """What it carries, for Interface.flows: limits and what passes in Mbit/s, packets that were
        dropped, and when that was seen."""
        found: dict[str, float] = {}
        for way, flow in self.flows.items():
            found[f"{way}.limit"] = flow.limit
            found[f"{way}.measured"] = round(flow.passing / 1e6, 1)
            found[f"{way}.dropped"] = flow.dropped
        return found | {"at": now} if found else {}


@dataclass(frozen=True)
class SeenVolume:
    """A volume, and the device that its VM sees it as."""

    id: Id
    device: DeviceName = ""


@dataclass(frozen=True)
class Machine:
    """A VM, as the bait of its node tells of it."""

    id: Id
    state: MachineState
    lease: Id | Literal[""] = ""  # "": its disk is here, and nothing of it runs
    job: JobText | Literal[""] = ""
    reason: Said = ""
    since: Time = 0.0
    nics: tuple[SeenNic, ...] = ()
    volumes: tuple[SeenVolume, ...] = ()
    crashed: bool = False  # it runs, and its guest's kernel has panicked


@dataclass(frozen=True)
class Outcome:
    """A lease that ended on a node, and why."""

    lease: Id
    reason: Said = ""


@dataclass(frozen=True)
class Waiting:
    """A lease job that waits on a node for its order."""

    lease: Id
    job: JobText


@dataclass(frozen=True)
class Draining:
    """That a node takes no new VMs."""

    reason: Said
    by: Time | None = None  # when what still runs there is ended


@dataclass(frozen=True)
class Free:
    """What of a node no job has, at a time, for people to see."""

    cores: Annotated[int, Field(ge=0, le=1 << 20)]
    memory: Annotated[int, Field(ge=0, le=1 << 30)] | None = None  # MiB; None: not counted


def _if_it_is_one(told: object, check: ValidatorFunctionWrapHandler) -> object:
    """Of what is only shown to people a bait need not be silent."""
    try:
        return check(told)
    except ValidationError:
        return None


@dataclass(frozen=True)
class Machines:
    """The reply to GET /machines."""

    node: NodeName
    machines: tuple[Machine, ...]
    outcomes: tuple[Outcome, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    end: End | Literal[""] = ""
    tunnels: Mapping[NetworkName, Tunnel] = field(default_factory=dict)
    drain: Draining | None = None
    local_volumes: bool = False
    room: Annotated[Free | None, WrapValidator(_if_it_is_one)] = None
    sources: Annotated[
        Annotated[Mapping[SourceName, Time], Field(max_length=8)] | None,
        WrapValidator(_if_it_is_one),
    ] = None


@dataclass(frozen=True)
class Report:
    """What one bait said at a time; `at` is when it was asked.

    `end` is where its node's tunnels to other nodes end, "" if it has none; `tunnels` are the
    private networks that it was told to have there. `local_volumes`: those that are made there are
    for VMs of its node alone.
    """

    url: str
    node: str
    at: float
    machines: Mapping[str, Machine]
    outcomes: Mapping[str, str]  # lease: reason
    waiting: Mapping[str, frozenset[str]] = field(default_factory=dict)  # lease: jobs
    end: str = ""
    tunnels: Mapping[str, Tunnel] = field(default_factory=dict)
    drain: Draining | None = None
    local_volumes: bool = False
    room: Free | None = None
    sources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SeenLease(Lease):
    """A lease job, as a bait tells that the LRMS has it."""

    lease: Id
    job: JobText
    user: Said
    state: LeaseState
    node: Said = ""
    reason: Said = ""
    expected: Time = 0.0


@dataclass(frozen=True)
class LeasesSeen:
    """The lease jobs that a bait knows of, all of the LRMS or only its own. `at`: when asked."""

    at: float
    leases: Mapping[str, tuple[Lease, ...]]  # a lease has one job, or by mishap two


@dataclass(frozen=True)
class Reports:
    """All that is known of the nodes now.

    `baits` has those that answered lately, by URL. `nodes` is where each node's bait is, as far as
    ever known, also of the silent ones; `ends` where its tunnels end. `leases` is what those list
    that were asked for it and could tell, by URL; `mute` are those that could not. `gone` has the
    jobs of which the batch system says that there is no such one, and for how many seconds it has
    said nothing else. `back` is when a bait, or the batch system through it, was heard again after
    it had not been. `unheard`: some bait has never said which node it is on.
    """

    baits: Mapping[str, Report] = field(default_factory=dict)
    nodes: Mapping[str, str] = field(default_factory=dict)
    leases: Mapping[str, LeasesSeen] = field(default_factory=dict)
    mute: frozenset[str] = frozenset()
    gone: Mapping[str, float] = field(default_factory=dict)
    all_answer: bool = False
    back: Mapping[str, float] = field(default_factory=dict)
    ends: Mapping[str, str] = field(default_factory=dict)
    unheard: bool = False

    def has_lost(self, node: str) -> bool:
        """Whether the site has no bait of this node any more. While one has not said where it is,
        as under a new URL, that may be it."""
        return not (self.unheard or node in self.nodes)

    @cached_property
    def urls(self) -> frozenset[str]:
        """Where the nodes' baits are, as far as ever known."""
        return frozenset(self.nodes.values())

    @cached_property
    def first(self) -> str:
        """The URL of a bait for what any can be asked; "" if none answers."""
        return min(self.baits, default="")

    @cached_property
    def sharing(self) -> tuple[str, ...]:
        """The URLs of the baits that answer, and whose volumes other nodes have too; in order."""
        return tuple(sorted(url for url, said in self.baits.items() if not said.local_volumes))

    @cached_property
    def submits(self) -> str:
        """The same for a lease: one that gets answers from the batch system, if any does."""
        able = (url for url in self.baits if url not in self.mute)
        return min(able, default=self.first)

    def of_node(self, node: str) -> Report | None:
        """What the bait of a node said; None while it is silent."""
        report = self.baits.get(self.nodes.get(node, ""))
        return report if report and report.node == node else None
