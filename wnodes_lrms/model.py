"""The words of the project as values: an allocation, a VM, and the states of its life."""

import uuid
from dataclasses import dataclass
from enum import StrEnum

_NAMESPACE = uuid.UUID("4a0d6bd3-8a5c-5f0e-9d5e-3c1f0a4f7a11")


class State(StrEnum):
    """Where a VM is in its life. A VM that is gone has no state: its row is deleted."""

    REQUESTED = "requested"
    BUILDING = "building"
    STARTING = "starting"  # all is there but the domain, which libvirt is about to be asked for
    BOOTING = "booting"
    READY = "ready"
    PAUSED = "paused"  # the batch system has suspended its job: it stands still until that goes on
    SUSPENDED = "suspended"  # its user has: it stands still, in its lease
    ASLEEP = "asleep"  # the guest has put itself to sleep (ACPI S3), in its lease
    STOPPING = "stopping"  # asked to shut down; then STOPPED
    HIBERNATING = "hibernating"  # its memory is being written; then HIBERNATED
    STOPPED = "stopped"  # no domain and no lease, its disk is kept
    HIBERNATED = "hibernated"  # the same, and its memory is kept too
    FAILED = "failed"
    ENDING = "ending"


class Kind(StrEnum):
    """Whose a VM is: a batch job's own, or a cloud user's, in a lease."""

    BATCH = "batch"
    CLOUD = "cloud"


@dataclass(frozen=True)
class Allocation:
    """What the LRMS has granted to a job on this node."""

    job: str
    restart: int
    uid: int
    gid: int
    account: str
    partition: str
    cores: int
    memory: int  # MiB
    cpus: tuple[int, ...]  # the node's own CPU numbers, empty where the LRMS does not tell
    workdir: str
    tag: str  # empty: the job asks for no machine
    by: str = ""  # what named the tag: environment, constraint, default; empty: not told
    scratch: str = ""  # WNODES_SCRATCH as its user has written it; empty: not asked for


@dataclass(frozen=True)
class Owner:
    """The user that a payload runs as, as the node knows them."""

    name: str
    uid: int
    gid: int
    groups: tuple[tuple[str, int], ...]  # name and number, the primary group first
    home: str


def machine_id(cluster: str, job: str, restart: int) -> str:
    """The VM's UUID. It follows from the job: if it is asked for twice, it is still one VM."""
    return str(uuid.uuid5(_NAMESPACE, f"{cluster}/{job}/{restart}"))


@dataclass(frozen=True)
class Room:
    """What of a node no job has, so that one that asks for no more could begin there now.

    Memory is in MiB, None where the batch system does not count it.
    """

    cores: int
    memory: int | None
