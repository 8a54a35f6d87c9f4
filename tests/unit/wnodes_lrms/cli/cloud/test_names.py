"""Which of several things a word means."""

import pytest

from wnodes_lrms.cli.cloud.faults import NoneSuchError
from wnodes_lrms.cli.cloud.names import one
from wnodes_lrms.errors import RejectedError

ROWS = [
    {"id": "0b5f1", "name": "web"},
    {"id": "0b77a", "name": "database"},
    {"id": "web", "name": "x"},
    {"id": "c1", "name": "twin"},
    {"id": "c2", "name": "twin"},
]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("0b5f1", "0b5f1"),
        ("0b5", "0b5f1"),
        ("web", "web"),  # an id, before a name
        ("data", "0b77a"),
        ("c1", "c1"),
    ],
)
def test_one_is_meant(given: str, meant: str) -> None:
    assert one(ROWS, given, "VM")["id"] == meant


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("0b", "VM «0b» could be several: 0b5f1 (web), 0b77a (database)"),
        ("twin", "VM «twin» could be several: c1 (twin), c2 (twin)"),
        ("", "which VM? Its name or id is needed, and is empty"),
    ],
)
def test_several_could_be_meant(given: str, said: str) -> None:
    with pytest.raises(RejectedError) as caught:
        one(ROWS, given, "VM")
    assert (str(caught.value), caught.value.exit_status) == (said, 1)


def test_none_is_meant() -> None:
    with pytest.raises(NoneSuchError, match=r"no VM «databse»; the nearest: database$"):
        one(ROWS, "databse", "VM")
    with pytest.raises(NoneSuchError, match=r"no VM «base»; the nearest: database$"):
        one(ROWS, "base", "VM")
    with pytest.raises(NoneSuchError, match=r"no VM «q»: there is no VM at all$"):
        one([], "q", "VM")
    with pytest.raises(NoneSuchError, match=r"no size «q»; there are a, b$"):
        one([{"name": "a"}, {"name": "b"}], "q", "size", ("name",))
