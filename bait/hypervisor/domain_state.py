"""What libvirt says of a domain's state and traffic, in our words."""

from collections.abc import Mapping
from typing import Any

import libvirt

# Of a domain that libvirt itself has paused for a moment, and lets go on.
_PASSING = frozenset(
    {
        libvirt.VIR_DOMAIN_PAUSED_MIGRATION,
        libvirt.VIR_DOMAIN_PAUSED_SAVE,
        libvirt.VIR_DOMAIN_PAUSED_DUMP,
        libvirt.VIR_DOMAIN_PAUSED_SHUTTING_DOWN,
        libvirt.VIR_DOMAIN_PAUSED_SNAPSHOT,
        libvirt.VIR_DOMAIN_PAUSED_STARTING_UP,
    }
)


def traffic_of_cards(stats: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """From the keys `net.count`, `net.<n>.name`, `net.<n>.rx.bytes`, `net.<n>.tx.bytes`."""
    numbers = range(int(stats.get("net.count", 0)))
    return {
        str(stats[f"net.{n}.name"]): (
            int(stats[f"net.{n}.rx.bytes"]),
            int(stats[f"net.{n}.tx.bytes"]),
        )
        for n in numbers
        if {f"net.{n}.name", f"net.{n}.rx.bytes", f"net.{n}.tx.bytes"} <= stats.keys()
    }


def condition(domain: libvirt.virDomain) -> tuple[bool, bool, bool, bool]:
    """Whether QEMU holds it for want of room, somebody has suspended it, it sleeps by itself, and
    its guest's kernel has told of its panic."""
    try:
        state, reason = domain.state()
    except libvirt.libvirtError:
        return False, False, False, False  # gone since it was listed
    return *_standstill(state, reason), _panicked(state, reason)


def has_panicked(domain: libvirt.virDomain) -> bool:
    """Whether the guest's kernel has told of its panic."""
    return condition(domain)[3]


def is_stuck(domain: libvirt.virDomain) -> bool:
    """Whether QEMU holds it because there was no room for what it wrote."""
    return condition(domain)[0]


def sleeps(domain: libvirt.virDomain) -> bool:
    """Whether the guest has put itself to sleep."""
    return _asleep(*domain.state())


def _asleep(state: int, reason: int) -> bool:
    # A libvirtd that was away when the guest fell asleep finds it paused, and can't say why.
    unseen = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_UNKNOWN)
    return state == libvirt.VIR_DOMAIN_PMSUSPENDED or (state, reason) == unseen


def _standstill(state: int, reason: int) -> tuple[bool, bool, bool]:
    if _asleep(state, reason):
        return False, False, True
    paused = state == libvirt.VIR_DOMAIN_PAUSED and reason not in _PASSING
    full = reason == libvirt.VIR_DOMAIN_PAUSED_IOERROR
    return paused and full, paused and not full, False


def _panicked(state: int, reason: int) -> bool:
    """A libvirt that was away then calls it paused."""
    paused = state == libvirt.VIR_DOMAIN_PAUSED and reason == libvirt.VIR_DOMAIN_PAUSED_CRASHED
    return bool(paused or state == libvirt.VIR_DOMAIN_CRASHED)
