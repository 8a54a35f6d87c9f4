"""Copies of what baits account: each row once, changed as it goes on, and gone when it is old."""

import pytest
import sqlalchemy as sa

from occi_bridge.store import tables, usage
from occi_bridge.store.database import Database
from occi_bridge.store.usage import Usage

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = pytest.mark.integration

OF_ANNA = Usage(1, "anna", 2, 1000.0, 60.0, 0.0)
OF_BOB = Usage(2, "bob", 1, 1100.0, 60.0, 5.0)


def all_of(db: Database, *owners: str) -> list[Usage]:
    with db.reading() as link:
        return sorted(usage.of(link, owners), key=lambda each: each.began)


def test_rows_are_kept_by_node_and_number(db: Database) -> None:
    usage.keep(db, "hv1", [OF_ANNA, OF_BOB], 0.0)
    usage.keep(db, "hv2", [Usage(1, "anna", 1, 3000.0, 10.0, 0.0)], 0.0)
    assert all_of(db, "anna") == [OF_ANNA, Usage(1, "anna", 1, 3000.0, 10.0, 0.0)]
    assert all_of(db, "bob", "nobody") == [OF_BOB]
    later = Usage(1, "anna", 2, 1000.0, 90.0, 0.0)
    usage.keep(db, "hv1", [later, OF_BOB], 0.0)
    assert all_of(db, "anna")[0] == later


def test_no_answer_is_forgotten_for_that(db: Database) -> None:
    """Nothing that is kept by the revision has it in it."""

    def revision() -> int:
        with db.reading() as link:
            return int(link.execute(sa.select(sa.func.sum(tables.changes.c.number))).scalar_one())

    before = revision()
    usage.keep(db, "hv1", [OF_ANNA], 0.0)
    usage.keep(db, "hv1", iter([OF_ANNA]), 0.0)
    assert all_of(db, "anna") == [OF_ANNA]
    assert revision() == before


def test_what_ended_long_ago_goes(db: Database) -> None:
    usage.keep(db, "hv1", [OF_ANNA, OF_BOB], 0.0)
    usage.keep(db, "hv1", [OF_BOB], 1062.0)
    assert all_of(db, "anna", "bob") == [OF_BOB]
    usage.keep(db, "hv1", [], 1166.0)
    assert all_of(db, "anna", "bob") == []


def test_a_node_has_only_so_many_rows_whatever_it_tells(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that makes up numbers, and ends that are yet to come: nothing of it would ever go."""
    monkeypatch.setattr(usage, "MOST", 3)
    usage.keep(db, "hv2", [Usage(1, "bob", 1, 1.0, 1.0, 0.0)], 0.0)
    for turn in range(4):
        told = [Usage(2 * turn + nr, "anna", 1, 1e10 + turn, 1.0, 0.0) for nr in (1, 2)]
        usage.keep(db, "hv1", told, 0.0)
        assert all_of(db, "anna")[-2:] == told
    assert [each.number for each in all_of(db, "anna")] in ([5, 7, 8], [6, 7, 8])
    assert len(all_of(db, "bob")) == 1
