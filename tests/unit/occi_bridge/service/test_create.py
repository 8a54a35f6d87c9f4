"""What becomes of a name that a user gives to a VM."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from occi_bridge.driver.orders import order
from occi_bridge.service.create import hostname
from tests.unit.occi_bridge.snapshots import LEASE, UID, row


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("Web Server 1", "web-server-1"),
        ("node.example.org", "node"),
        ("-a-", "a"),
        ("ünï", "n"),
        ("…", "vm-11111111"),
        (None, "vm-11111111"),
        ("x" * 80, "x" * 63),
    ],
)
def test_host_names(asked: str | None, expected: str) -> None:
    assert hostname(asked, UID) == expected


@given(st.text())
def test_every_host_name_fits_an_order(asked: str) -> None:
    made = order(row(lease=LEASE, hostname=hostname(asked, UID)), "", (), {}, (), "")
    assert made.hostname
