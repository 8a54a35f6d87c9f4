"""What is written into the ledger's tables is read again as it was."""

import time
from dataclasses import replace

import pytest

from bait.ledger import sql
from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from wnodes_lrms.model import Kind, State

ROW = Row("42830be1-e6", "7", 2, State.REQUESTED, 1.5)
FULL = replace(
    ROW,
    uid=1001,
    tag="small_linux_x86_64",
    cores=2,
    memory=384,
    address="127.0.0.2",
    digests="a b",
    reason="it's «broken»; DROP TABLE machine",
    retry=False,
    kind=Kind.CLOUD,
    lease="lease",
    ends=2.5,
    spec='{"cores": 2}',
)


@pytest.mark.parametrize("row", [ROW, FULL])
def test_a_row_is_read_as_it_was_written(ledger: Ledger, row: Row) -> None:
    with ledger.store.change() as db:
        sql.insert(db, row)
        found = sql.row_of(db, row.id)
        assert found == row
        assert (type(found.kind), type(found.state), type(found.retry)) == (Kind, State, bool)
        assert sql.row_of(db, "another") is None


def test_a_promise_comes_back_as_it_was_written(ledger: Ledger) -> None:
    promised = replace(FULL, kind=Kind.BATCH, lease="", ends=None, spec="")
    ledger.promise(promised)
    assert ledger.get(promised.id) == promised


def test_a_lease_is_used_once_and_its_first_end_stands(ledger: Ledger) -> None:
    with ledger.store.change() as db:
        assert sql.open_lease(db, FULL)
        assert not sql.open_lease(db, FULL)
        sql.close_lease(db, "lease", "its user has stopped it", 0)
        sql.close_lease(db, "lease", "another word", 1)
        sql.close_lease(db, "none", "there is none", 1)
    known = ledger.lease("lease")
    assert known
    assert (known.machine, known.job) == (FULL.id, "7")
    assert (known.reason, known.code) == ("its user has stopped it", 0)


def test_an_event_has_its_time(ledger: Ledger) -> None:
    before = time.time()
    with ledger.store.change() as db:
        sql.record(db, "7", "vm", "fetching")
    (event,) = ledger.events("vm")
    assert (event.job, event.machine, event.what) == ("7", "vm", "fetching")
    assert before <= event.at <= time.time()


def test_vms_by_the_beginning_of_their_ids(ledger: Ledger) -> None:
    ids = ("42830be1-e6", "42830be1-e7", "42830be2-e6", "f2830be1", "4283f000", "4283")
    with ledger.store.change() as db:
        for id_ in (*ids, ids[0]):
            sql.record(db, "7", id_, "what")
        for beginning in ("42830be1", "42830be1-e6", "4283", "f", "42830be3", "_" * 8, "%"):
            found = sql.machines_beginning_with(db, beginning)
            assert sorted(found) == sorted(id_ for id_ in ids if id_.startswith(beginning))
