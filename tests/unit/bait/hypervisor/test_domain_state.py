"""What libvirt's states of a paused domain mean."""

from dataclasses import dataclass

import libvirt
import pytest

from bait.hypervisor.domain_state import condition, sleeps

FULL, HELD, ASLEEP, PANICKED, RUNS = (
    *((True, False, False, False), (False, True, False, False)),
    *((False, False, True, False), (False, True, False, True), (False, False, False, False)),
)


@dataclass
class InState:
    """A domain, of which libvirt says this."""

    said: tuple[int, int]
    asked: int = 0

    def state(self) -> tuple[int, int]:
        self.asked += 1
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
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_CRASHED, PANICKED),
        (libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_CRASHED_PANICKED, (*RUNS[:3], True)),
    ],
)
def test_why_a_domain_stands_still(state: int, reason: int, still: tuple[bool, ...]) -> None:
    domain = InState((state, reason))
    assert condition(domain) == still
    assert domain.asked == 1  # libvirt, for each domain in each round
    assert sleeps(domain) == still[2]
