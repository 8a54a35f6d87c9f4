"""What libvirt's states of a paused domain mean."""

from dataclasses import dataclass

import libvirt
import pytest

from bait.hypervisor.domain_state import sleeps, stands_still

FULL, HELD, ASLEEP, RUNS = (
    *((True, False, False), (False, True, False)),
    *((False, False, True), (False, False, False)),
)


@dataclass
class InState:
    """A domain, of which libvirt says this."""

    said: tuple[int, int]

    def state(self) -> tuple[int, int]:
        return self.said


@pytest.mark.parametrize(
    ("state", "reason", "still"),
    [
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR, FULL),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER, HELD),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION, RUNS),
        # So it says after it was away while the guest fell asleep (libvirt 9.0, QEMU 7.2).
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_UNKNOWN, ASLEEP),
        (libvirt.VIR_DOMAIN_PMSUSPENDED, libvirt.VIR_DOMAIN_PMSUSPENDED_UNKNOWN, ASLEEP),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_UNKNOWN, RUNS),
    ],
)
def test_why_a_domain_stands_still(state: int, reason: int, still: tuple[bool, bool, bool]) -> None:
    domain = InState((state, reason))
    assert stands_still(domain) == still
    assert sleeps(domain) == still[2]
