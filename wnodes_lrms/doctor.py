"""What `wnodes doctor` finds: the words of a check.

What is asked of a batch system is in its folder (its checks.py); what is asked of a
node itself (KVM, libvirt, images, permissions) is the bait's: see bait/checks/node.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a thing stands. Only a fault keeps jobs from getting VMs."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was seen, and what to type or change if anything."""

    name: str
    status: Status
    seen: str
    remedy: str = ""


def ok(name: str, seen: str) -> Check:
    """All is as it should be."""
    return Check(name, Status.OK, seen)


def warning(name: str, seen: str, remedy: str) -> Check:
    """Jobs get VMs, but slower, fewer or with less than they could have."""
    return Check(name, Status.WARNING, seen, remedy)


def fault(name: str, seen: str, remedy: str) -> Check:
    """Jobs can't get VMs, or something is unsafe."""
    return Check(name, Status.FAULT, seen, remedy)


def unknown(name: str, seen: str, remedy: str = "") -> Check:
    """It could not be found out."""
    return Check(name, Status.UNKNOWN, seen, remedy)


def publishing(site: str | None, queue: str, there: bool) -> Check:
    """Whether the wallclock of cloud VMs gets to APEL: is its queue there?"""
    if site is None:
        return ok("accounting", "recorded here, not published: [accounting] site is not set")
    if there:
        return ok("accounting", f"published as {site}, by {queue}")
    return warning(
        "accounting",
        f"{queue} is no folder: nothing can be published, nothing is lost",
        "install APEL's SSM, or set queue in [accounting] to the folder that it sends from",
    )


def summary(checks: Sequence[Check]) -> str:
    """How many checks need a person's attention."""
    counted = []
    for status, many in ((Status.FAULT, "faults"), (Status.WARNING, "warnings")):
        number = sum(check.status is status for check in checks)
        counted.append(f"{number or 'no'} {status if number == 1 else many}")
    missing = sum(check.status is Status.UNKNOWN for check in checks)
    if missing:
        counted.append(f"{missing} could not be told")
    return ", ".join(counted)
