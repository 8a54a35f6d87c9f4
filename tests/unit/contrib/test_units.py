"""contrib/systemd: how exposed the services are, by systemd's own measure (0 to 10)."""

import os
import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
UNITS = Path(__file__).parents[3] / "contrib" / "systemd"


@pytest.mark.parametrize(("unit", "most"), [("bait", 4.0), ("bridge", 2.0), ("accounting", 3.0)])
def test_a_service_is_not_more_exposed_than_it_must_be(unit: str, most: float) -> None:
    file = UNITS / f"wnodes-{unit}.service"
    argv = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    found = re.search(r"exposure level for .*: ([0-9.]+) ", done.stdout)
    assert found
    assert float(found[1]) <= most
    # What it does not know it passes over.
    assert "Unknown" not in done.stderr
    assert "Failed to parse" not in done.stderr


@pytest.mark.parametrize("unit", ["bait", "bridge", "accounting"])
def test_what_a_service_writes_is_its_own(unit: str) -> None:
    lines = (UNITS / f"wnodes-{unit}.service").read_text().splitlines()
    assert "UMask=0077" in lines


def test_kvm_may_come_after_the_bait_was_started() -> None:
    """systemd passes over a device that is named, and not there yet: the bait would not get it."""
    lines = (UNITS / "wnodes-bait.service").read_text().splitlines()
    allowed = [line for line in lines if line.startswith("DeviceAllow=")]
    assert allowed == ["DeviceAllow=/dev/char/10:232 rw"]
    kvm = Path("/dev/kvm")
    if kvm.exists():
        number = kvm.stat().st_rdev
        assert (os.major(number), os.minor(number)) == (10, 232)
