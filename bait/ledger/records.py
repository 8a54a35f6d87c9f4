"""The ledger's rows as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from wnodes_lrms.model import Kind, State
from wnodes_lrms.rates import Rates


@dataclass(frozen=True)
class Row:
    """A VM as the ledger has it. The LRMS's facts are empty until the bait has read them."""

    id: str
    job: str
    restart: int
    state: State
    since: float  # seconds since the epoch, of the last change of state
    uid: int | None = None
    tag: str = ""
    cores: int = 0
    memory: int = 0  # MiB of the guest
    address: str | None = None
    digests: str = ""  # SHA-256 of the cached files in use, space between
    reason: str = ""  # why it failed
    retry: bool = True  # whether that may go better another time
    kind: Kind = Kind.BATCH
    lease: str = ""  # cloud: the lease that it runs in, empty without one
    ends: float | None = None  # cloud: when the lease's walltime is over, seconds since the epoch
    spec: str = ""  # cloud: the order, as JSON
    inbound: int | None = None  # batch: Mbit/s that the site lets its card carry; None: no limit
    outbound: int | None = None
    network: str = ""  # batch: the site's network that it has a second card on; "": none
    site_address: str | None = None  # batch: its address there; None: it asks by DHCP
    site_mac: str | None = None  # batch: what is registered for that; None: it follows from the VM

    @property
    def rates(self) -> Rates:
        """What the site lets each card of a batch VM carry."""
        return Rates(self.inbound, self.outbound)


@dataclass(frozen=True)
class Given:
    """A volume that a VM has."""

    device: str  # as vdc
    readonly: bool = False  # others may have it too, and read


@dataclass(frozen=True)
class Lease:
    """An order that was accepted here, and how its lease ended."""

    id: str
    machine: str
    job: str
    at: float  # seconds since the epoch, of the last change
    reason: str | None = None  # None: it goes on
    code: int | None = None  # exit code of the lease job


@dataclass(frozen=True)
class Event:
    """Something that happened to a job's VM."""

    at: float  # seconds since the epoch
    job: str
    machine: str
    what: str


@dataclass(frozen=True)
class Moved:
    """A VM's state has changed; None: it had, or has, no row."""

    kind: Kind
    old: State | None
    new: State | None
    machine: str
    job: str


class Clock(StrEnum):
    """Which of a usage's two counts goes on."""

    RUNS = "runs"
    HELD = "held"  # it stands still, in its allocation
    CLOSED = "closed"


@dataclass(frozen=True)
class Tenure:
    """A VM in its allocation."""

    id: str  # the lease's for a cloud VM, the VM's own for a batch VM
    machine: str
    kind: Kind
    job: str
    restart: int
    uid: int | None
    tag: str
    cores: int
    memory: int  # MiB


@dataclass(frozen=True)
class Subject(Tenure):
    """A VM whose usage is followed."""

    spec: str  # the order of a cloud VM, as JSON


@dataclass(frozen=True)
class Usage(Tenure):
    """What a VM has had of the node in one allocation."""

    number: int  # of this node, never used again
    dn: str  # of the cloud user; empty for a batch VM
    fqan: str
    began: float  # seconds since the epoch
    wall: float  # seconds that it has run
    held: float  # seconds that it was suspended
    clock: Clock
    at: float  # seconds since the epoch: when these counts were last brought up to date
    ended: float | None = None  # began + wall + held, once it is closed
    disk: int = 0  # GiB that its disks can hold; 0: not known
    inbound: int = 0  # bytes that its cards received
    outbound: int = 0  # bytes that they sent
    sent: float | None = None  # wall + held when last put into a message; its end once that was
    message: int | None = None  # that message


@dataclass(frozen=True)
class Load:
    """What libvirt counts of a running VM."""

    disk: int  # GiB that its disks can hold
    cards: Mapping[str, tuple[int, int]]  # card → bytes received and sent since its domain began
