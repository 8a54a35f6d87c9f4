"""Which VM, in which allocation, the name of a job, a VM or a lease means."""

from dataclasses import replace

import pytest

from bait.ledger.ledger import Ledger
from bait.reconcile.lookup import find
from tests.unit.bait.reconcile.ledgerrows import BATCH, TAG, job, lease
from wnodes_lrms.errors import AbsentError, RejectedError
from wnodes_lrms.model import State, machine_id

LIFE = (State.BUILDING, State.STARTING, State.BOOTING, State.READY)


@pytest.mark.parametrize("name", ["12", BATCH, BATCH[:8], BATCH[:4].upper(), BATCH.upper()])
def test_a_jobs_vm_by_each_of_its_names(ledger: Ledger, name: str) -> None:
    row = job(ledger, *LIFE)
    known = find(ledger, name)
    assert (known.machine, known.job, known.row, known.lease) == (BATCH, "12", row, None)
    assert known.usage
    assert (known.usage.machine, known.usage.tag) == (BATCH, TAG)
    assert [event.what for event in known.events][-1] == "ready"


def test_of_a_jobs_runs_the_last_is_meant(ledger: Ledger) -> None:
    first = job(ledger, *LIFE, State.ENDING)
    ledger.forget(first, "gone")
    second = job(ledger, restart=1)
    assert find(ledger, "12").row == second
    known = find(ledger, first.id)
    assert (known.row, known.machine, known.job) == (None, first.id, "12")
    assert known.usage
    assert known.usage.ended


@pytest.mark.parametrize("by", ["lease", "id", "job"])
def test_a_cloud_vm_by_its_lease_its_id_and_its_job(ledger: Ledger, by: str) -> None:
    row, order = lease(ledger, *LIFE[:2], State.READY)
    known = find(ledger, getattr(row, by))
    assert known.lease
    assert (known.row, known.lease.id, known.job) == (row, str(order.lease), "20")
    assert known.usage
    assert known.usage.id == str(order.lease)


def test_an_earlier_lease_of_a_vm_that_lives_on_has_no_row(ledger: Ledger) -> None:
    first, _ = lease(ledger, *LIFE[:2], State.READY, State.STOPPING)
    ledger.rest(first, State.STOPPED, "over", 0)
    second, _ = lease(ledger, job="21")
    assert find(ledger, first.id).row == second
    old = find(ledger, first.lease)
    assert (old.row, old.job) == (None, "20")
    assert old.lease
    assert old.lease.reason == "over"


@pytest.mark.parametrize("name", ["13", BATCH[:3], "", "../../", "%", "_" * 8, BATCH + "0", "nope"])
def test_what_is_not_known(ledger: Ledger, name: str) -> None:
    job(ledger, *LIFE)
    with pytest.raises(AbsentError, match="nothing is known here"):
        find(ledger, name)


def test_a_beginning_that_several_have_is_refused(ledger: Ledger) -> None:
    row = job(ledger)
    twin = row.id[:8] + machine_id("box", "13", 0)[8:]
    ledger.promise(replace(row, id=twin, job="13", address=None))
    with pytest.raises(RejectedError, match=f"several VMs' ids begin so: .*{twin}"):
        find(ledger, row.id[:8])
    assert find(ledger, twin).job == "13"
