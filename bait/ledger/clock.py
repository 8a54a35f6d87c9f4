"""Times that a step of the system's clock can't falsify."""

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Moment:
    """A point in time: by the calendar, and by how long this boot of the node has lasted."""

    utc: float  # seconds since the epoch
    boot: str  # another one after each boot
    ticks: float  # seconds since that boot, time asleep included


def now() -> Moment:
    """This moment."""
    return Moment(time.time(), _boot_id(), time.clock_gettime(time.CLOCK_BOOTTIME))


def between(boot: str, ticks: float, later: Moment) -> float:
    """Seconds from a point in the past; 0 if it was before a reboot, where nobody can tell."""
    return max(0.0, later.ticks - ticks) if boot == later.boot else 0.0


@cache
def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()
