"""Addresses of guests are given from below, and run out."""

from pathlib import Path

import pytest

from bait.network.addresses import free_address
from tests.unit.conftest import GUESTS, settings
from wnodes_lrms.config import load as config
from wnodes_lrms.errors import WnodesError


def test_addresses_are_given_from_below_and_run_out(tmp_path: Path) -> None:
    file = tmp_path / "wnodes.toml"
    file.write_text(settings(tmp_path).replace(f"{GUESTS}.0/24", "10.0.0.0/29"))
    subnet = config.load(file).network.subnet
    used: set[str] = set()
    for last_byte in range(2, 7):
        address = str(free_address(subnet, used))
        assert address == f"10.0.0.{last_byte}"
        used.add(address)
    with pytest.raises(WnodesError, match="larger subnet"):
        free_address(subnet, used)
    assert str(free_address(subnet, used - {"10.0.0.4"})) == "10.0.0.4"
