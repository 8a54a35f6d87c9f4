"""A domain of ours, and a libvirt as it was seen, as values. Pure."""

from dataclasses import dataclass

MARK = "urn:wnodes-lrms:machine:1"
PANICKED = "the guest's kernel has panicked"
FULL = (
    "it stands still, for the site's storage is full and a volume of its could not be written: it"
    " goes on by itself when there is room"
)


@dataclass(frozen=True)
class Domain:
    """A running domain that bears our mark."""

    id: str
    job: str
    restart: int
    stuck: bool = False  # QEMU holds it because there was no room for what it wrote
    held: bool = False  # it was suspended
    asleep: bool = False  # the guest has put itself to sleep
    panicked: bool = False  # its kernel has told so, and it stands still since then


@dataclass(frozen=True)
class Inventory:
    """What a libvirt offers, seen without changing anything."""

    version: str
    networks: frozenset[str]  # active ones
    qemu: tuple[int, int] | None  # uid and gid of its QEMU processes; None: it does not tell
    confined_by: frozenset[str]  # security models
