"""Requests and answers of the bait's HTTPS service, as /openapi.json describes them."""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from wnodes_lrms.config.load import Tag
from wnodes_lrms.lrms.lease import LeaseState
from wnodes_lrms.tunnel import NetworkName, Tunnel
from wnodes_lrms.volumes import LARGEST, Consistency

LONGEST_TOKEN = 130000


class Asked(BaseModel):
    """A request's body. An unknown key is a fault."""

    model_config = ConfigDict(extra="forbid")


class Token(Asked):
    """A request for a lease, or the order for its VM, signed by a bridge (wnodes_lrms/order.py)."""

    token: str = Field(min_length=1, max_length=LONGEST_TOKEN, description="a JSON Web Token")


class Stop(Asked):
    """graceful, acpioff: by ACPI, in `[cloud].shutdown_time` seconds; poweroff: at once."""

    method: Literal["graceful", "acpioff", "poweroff"]


class Restart(Asked):
    """graceful: by ACPI; warm: as by a reset button; cold: a new start in the same lease."""

    method: Literal["graceful", "warm", "cold"]


class Suspend(Asked):
    """suspend: held, with its lease; hibernate: memory to disk, the lease is freed."""

    method: Literal["suspend", "hibernate"]


class Save(Asked):
    """The disk becomes an image of its own."""

    tag: Tag


class Size(Asked):
    """The size of a volume."""

    size: int = Field(ge=1, le=LARGEST, description="GiB")


class CopyOf(Asked):
    """The volume that another is to be a copy of."""

    of: UUID


class Tunnels(Asked):
    """The private networks that have VMs on this node and on others."""

    tunnels: dict[NetworkName, Tunnel] = Field(max_length=4096)


class Submitted(BaseModel):
    """A lease that the LRMS has taken."""

    lease: UUID
    job: str = Field(description="the LRMS's job id")


class LeaseShown(BaseModel):
    """A lease as the LRMS tells of it."""

    lease: str
    job: str
    user: str = Field(description="the local user that it runs as")
    state: LeaseState
    node: str = Field(description="empty: none yet, or the LRMS does not tell")
    reason: str = Field(description="why it waits, or how it ended")
    expected: float = Field(
        0.0,
        description="when it is to begin as things are now, seconds since the epoch; 0: the LRMS"
        " does not tell",
    )


class LeasesShown(BaseModel):
    """The leases that the LRMS has; ended ones may be absent."""

    leases: list[LeaseShown]


class FlowShown(BaseModel):
    """What a card carries one way, where that is limited."""

    limit: int = Field(description="Mbit/s that are in force")
    passing: int = Field(description="bits a second, over the last seconds")
    passed: int = Field(description="bytes since the limit is there")
    dropped: int = Field(description="packets")


class NicShown(BaseModel):
    """A network card of a VM."""

    id: str
    mac: str
    address: str = Field(description="empty where the bait does not know it")
    inbound: int | None = Field(None, description="Mbit/s that its order has")
    outbound: int | None = Field(None, description="Mbit/s that its order has")
    flows: dict[Literal["inbound", "outbound"], FlowShown] = {}


class Device(BaseModel):
    """Where a guest sees a volume."""

    device: str = Field(description="as vdc")


class VolumeOfMachine(Device):
    """A volume that is in a VM."""

    id: str


class MachineShown(BaseModel):
    """A VM of a cloud user."""

    id: str
    lease: str = Field(description="empty: none, its disk is kept here")
    job: str
    state: Literal["requested", "building", "running", "suspended", "stopping", "stopped", "failed"]
    crashed: bool = Field(description="it counts as running, and its guest's kernel has panicked")
    reason: str
    cores: int
    memory: int = Field(description="MiB of the guest")
    image: str
    since: float = Field(description="of its state, seconds since the epoch")
    node: str
    nics: list[NicShown]
    volumes: list[VolumeOfMachine]


class UsageShown(BaseModel):
    """What a cloud VM has had of the node in one lease: a row of what accounting is made of."""

    number: int = Field(description="of this node, never used again")
    dn: str = Field(description="the user, as in the order")
    cores: int
    began: float = Field(description="seconds since the epoch")
    wall: float = Field(description="seconds that it has run")
    held: float = Field(description="seconds that it was suspended")


class UsagesShown(BaseModel):
    """The usages of a node, the oldest first; of very many the newest."""

    usages: list[UsageShown]


class Console(BaseModel):
    """What a guest wrote on its serial console."""

    text: str = Field(description="the last 16 KiB, as they are: with whatever a guest writes")


class Outcome(BaseModel):
    """A lease that has ended on this node."""

    lease: str
    machine: str
    job: str
    reason: str


class Waiting(BaseModel):
    """A lease job whose process waits here for its order."""

    lease: str = Field(description="that it says it is")
    job: str


class Place(BaseModel):
    """Where a job runs."""

    node: str = Field(description="empty: on none, or on several")
    known: bool = Field(description="false: the batch system says that it has no such job")


class News(BaseModel):
    """A word that changes with each change on the node."""

    news: str


class DrainShown(BaseModel):
    """That the node takes no new VMs."""

    since: float = Field(description="seconds since the epoch")
    by: float | None = Field(description="when what still runs is ended; null: at no set time")
    reason: str


class RoomShown(BaseModel):
    """What of the node no job has, for people to see: nothing is decided by it."""

    cores: int
    memory: int | None = Field(
        description="MiB of a guest; null: the batch system does not count it by node"
    )
    at: float = Field(description="when that was so, seconds since the epoch")


class MachinesShown(BaseModel):
    """The cloud VMs of a node, the lease jobs that wait for an order, and how the last leases
    ended, the newest 200."""

    node: str
    waiting: list[Waiting]
    machines: list[MachineShown]
    outcomes: list[Outcome]
    end: str = Field(description="of this node's tunnels, as 10.1.0.3:4789; empty: it has none")
    tunnels: dict[NetworkName, Tunnel] = Field(description="as they were put here last")
    drain: DrainShown | None = Field(description="null: it takes new VMs")
    local_volumes: bool = Field(description="volumes made here are for VMs of this node alone")
    room: RoomShown | None = Field(description="null: not known")
    sources: dict[Literal["lrms", "libvirt"], float] = Field(
        description="when each answered this bait last, seconds since the epoch; 0: never"
    )


class SavedLike(BaseModel):
    """What a saved image is like."""

    consistency: Consistency = Field(
        description="offline: its VM did not run; crash: it did; frozen: it did, and its guest had"
        " written down all it had"
    )
    stripped: bool = Field(description="it has no SSH host keys, and no id, of its VM any more")


class SavedShown(BaseModel):
    """The images that users have saved."""

    tags: list[str]
    busy: list[str] = Field(description="being written on this node")
    failed: dict[str, str] = Field(description="tag: why, on this node")
    made: dict[str, SavedLike] = Field({}, description="by tag, while this bait remembers")


class VolumeShown(BaseModel):
    """A volume."""

    id: str
    size: int = Field(description="GiB")


class CopyShown(BaseModel):
    """How far the copy of a volume is."""

    done: bool = Field(description="false: it is being made; ask again")
    size: int = Field(description="GiB")
    consistency: Consistency | Literal[""] = Field(
        description="offline: nobody wrote on the volume; crash: a VM did, so that it is as after"
        " a power cut; frozen: that VM's guest had written down all it had; empty: not known"
    )
    at: float = Field(description="of which time it is, seconds since the epoch; 0: not known")


class VolumesShown(BaseModel):
    """All volumes; any node can open them."""

    volumes: list[VolumeShown]


class State(BaseModel):
    """How this bait is."""

    node: str
    version: str
    machines: int = Field(description="of cloud users, those at rest too")
    lrms: Literal["ok", "away"]
    libvirt: Literal["ok", "away"]


class Fault(BaseModel):
    """Why a request was not done."""

    error: str = Field(description="one sentence")
