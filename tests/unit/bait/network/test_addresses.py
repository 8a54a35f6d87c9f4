"""Addresses of guests are given from below, and run out."""

from pathlib import Path

import pytest

from bait.network.addresses import address6_of, free_address
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


def test_the_ipv6_address_that_goes_with_a_mac() -> None:
    """The example of RFC 4291, A."""
    address = address6_of("34:56:78:9a:bc:de", "2001:db8::/64")
    assert str(address) == "2001:db8::3656:78ff:fe9a:bcde"
