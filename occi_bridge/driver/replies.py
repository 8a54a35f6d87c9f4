"""What baits answer, as values that are checked when they come in."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, StringConstraints
from pydantic.dataclasses import dataclass

from occi_bridge.driver.reports import (
    Address,
    DeviceName,
    Mac,
    NodeName,
    Said,
    SeenLease,
    Time,
)
from wnodes_lrms.config.load import Tag
from wnodes_lrms.order import JobText, Line
from wnodes_lrms.volumes import LARGEST, Consistency


@dataclass(frozen=True)
class Submitted:
    """The reply to POST /leases."""

    job: JobText


@dataclass(frozen=True)
class Console:
    """The reply to GET /machines/{id}/console."""

    text: Annotated[str, StringConstraints(max_length=65536)]


@dataclass(frozen=True)
class ToldUsage:
    """What a VM has had of a node in one lease."""

    number: Annotated[int, Field(ge=0, lt=1 << 63)]
    dn: Line
    cores: Annotated[int, Field(ge=1, le=100_000)]
    began: Time
    wall: Time
    held: Time


@dataclass(frozen=True)
class Usages:
    """The reply to GET /usages."""

    usages: Annotated[tuple[ToldUsage, ...], Field(max_length=20_000)]


@dataclass(frozen=True)
class Leases:
    """The reply to GET /leases."""

    leases: tuple[SeenLease, ...]


@dataclass(frozen=True)
class Place:
    """The reply to GET /jobs/{job}."""

    node: NodeName | Literal[""]
    known: bool = True


@dataclass(frozen=True)
class News:
    """The reply to GET /news."""

    news: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,40}$")]


@dataclass(frozen=True)
class Device:
    """The reply to PUT /machines/{id}/volumes/{vol}."""

    device: DeviceName


@dataclass(frozen=True)
class ToldVolume:
    """A file or an image in the storage of volumes, whatever it is."""

    id: Annotated[str, StringConstraints(max_length=300)]
    size: Annotated[int, Field(ge=0)]  # GiB


@dataclass(frozen=True)
class Volumes:
    """The reply to GET /volumes."""

    volumes: tuple[ToldVolume, ...]


@dataclass(frozen=True)
class Copy:
    """The reply to PUT /volumes/{id}/copy."""

    done: bool
    size: Annotated[int, Field(ge=1, le=LARGEST)]
    consistency: Consistency | Literal[""]
    at: Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Card:
    """The reply to PUT /machines/{id}/nics/{nic}."""

    mac: Mac
    address: Address | None = None


@dataclass(frozen=True)
class SavedLike:
    """What a saved image is like."""

    consistency: Consistency
    stripped: bool


@dataclass(frozen=True)
class SavedImages:
    """The reply to GET /saved."""

    tags: tuple[Tag, ...]
    busy: tuple[Tag, ...] = ()
    failed: Mapping[Tag, Said] | None = None
    made: Mapping[Tag, SavedLike] | None = None
