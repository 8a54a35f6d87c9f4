"""How a cloud VM ends, and what is left of it."""

import threading
import time
from collections.abc import Callable
from uuid import uuid4

import libvirt
import pytest

from bait.reconcile.plan import Act
from tests.unit.bait.cloud.cloudsite import FIRST, ID, UID, acts, into, leaves_nothing
from tests.unit.bait.conftest import Site, an_order, interrupt
from tests.unit.conftest import GUESTS, answers_again, eventually, needs_root, ripen
from wnodes_lrms.errors import AbsentError, RejectedError, UnknownError
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.model import State

pytestmark = needs_root  # files that only root may write


@pytest.mark.parametrize("method", ["graceful", "acpioff", "poweroff"])
def test_stopped_it_keeps_its_disk_and_address_and_starts_again(site: Site, method: str) -> None:
    site.runs()
    inode = site.disk().stat().st_ino
    site.cloud.stop(ID, method)
    site.reaches(State.STOPPED)
    assert site.libvirt.pressed == (0 if method == "poweroff" else 1)
    assert not site.cloud.builder.paths(ID).runtime.exists()
    assert site.disk().exists()
    site.cloud.stop(ID, method)  # again is success
    assert site.row().state is State.STOPPED
    other = an_order(machine=uuid4())
    site.runs(other, "8")
    again = site.runs(job="9")
    assert site.disk().stat().st_ino == inode
    assert site.row().address == FIRST
    assert site.row(other.machine).address == f"{GUESTS}.3"
    assert site.row().lease == str(again.lease)


def test_a_guest_that_does_not_hear_is_ended_in_time(site: Site) -> None:
    site.runs()
    site.libvirt.deaf = True
    began = time.monotonic()

    def stopped() -> bool:  # asking again gives it no more time
        site.cloud.stop(ID, "graceful")
        return site.row().state is State.STOPPED

    eventually(stopped)
    site.reaches(State.STOPPED)
    assert time.monotonic() - began > 0.9
    assert site.domains() == []


def test_power_off_does_not_wait_for_a_shutdown_that_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = site.cloud.config
    patient = config.cloud.model_copy(update={"shutdown_time": 3600})
    changed = config.model_copy(update={"cloud": patient})
    monkeypatch.setattr(site.cloud.lifecycle, "config", changed)
    site.runs()
    site.libvirt.deaf = True
    site.cloud.stop(ID, "graceful")
    eventually(lambda: site.libvirt.pressed)
    site.cloud.stop(ID, "poweroff")
    site.reaches(State.STOPPED)


def test_a_suspended_guest_is_woken_to_shut_down(site: Site) -> None:
    order = site.runs()
    site.cloud.suspend(ID, "suspend")
    site.cloud.stop(ID, "graceful")
    site.reaches(State.STOPPED)
    assert site.libvirt.pressed == 1
    assert site.outcome(order)[1] == 0


def test_a_guest_that_stops_by_itself_frees_its_lease(
    site: Site, libvirt_test: libvirt.virConnect
) -> None:
    order = site.runs()
    libvirt_test.lookupByUUIDString(ID).shutdown()
    site.reaches(State.STOPPED)
    assert site.outcome(order) == ("the guest has shut itself down", 0)
    assert site.disk().exists()


def test_a_machine_that_is_ended_on_its_node_has_not_shut_itself_down(
    site: Site, libvirt_test: libvirt.virConnect
) -> None:
    order = site.runs()
    libvirt_test.lookupByUUIDString(ID).destroy()
    site.reaches(State.STOPPED)
    assert site.outcome(order)[0] == "the VM was ended by hand on its node"


def test_a_stop_told_late_is_not_that_of_the_domain_that_runs_now(site: Site) -> None:
    site.runs()
    site.cloud.stopped(site.row(), "late")
    assert acts(site) == []
    assert site.row().state is State.READY


def test_a_stop_is_seen_without_an_event(site: Site, libvirt_test: libvirt.virConnect) -> None:
    order = site.runs()
    site.libvirt.on_stop(lambda _machine, _how: None)
    libvirt_test.lookupByUUIDString(ID).shutdown()
    assert acts(site) == [Act.LOST]
    site.reaches(State.STOPPED)
    assert site.outcome(order)[0] == "the VM has stopped, and nobody saw how"


def test_the_end_of_the_lease_is_announced(site: Site) -> None:
    order = site.runs()
    with pytest.raises(RejectedError, match="not yours"):
        site.cloud.jobs.ending(JobId("7"), UID + 1)
    assert site.row().state is State.READY
    site.cloud.jobs.ending(JobId("7"), UID)
    site.reaches(State.STOPPED)
    assert site.outcome(order) == ("the batch system has ended its lease", 0)
    site.cloud.jobs.ending(JobId("7"), UID)  # nothing is there any more: success
    site.cloud.jobs.ending(JobId("12345"), UID)


def test_the_end_of_a_batch_job_is_not_a_lease_jobs_to_announce(site: Site) -> None:
    site.node.batch.grant("5")
    site.bait.batch.prepare(JobId("5"), 0)
    eventually(lambda: site.node.ledger.rows("5")[0].state is State.BOOTING)
    with pytest.raises(RejectedError, match="not yours"):
        site.cloud.jobs.ending(JobId("5"), UID)


@pytest.mark.parametrize("suspended", [False, True])
def test_when_the_lease_is_released_nothing_runs_and_the_disk_is_kept(
    site: Site, suspended: bool
) -> None:
    order = site.runs()
    if suspended:
        site.cloud.suspend(ID, "suspend")
    site.bait.reconciler.release("7")
    assert site.domains() == []
    assert site.row().state is State.STOPPED
    assert site.disk().exists()
    assert site.outcome(order) == ("its lease has ended", 0)
    site.bait.reconciler.release("7")
    site.runs(job="8")


def test_a_release_of_the_last_lease_does_not_end_the_next(site: Site) -> None:
    site.runs()
    stale = site.row()
    site.cloud.stop(ID, "poweroff")
    site.reaches(State.STOPPED)
    site.runs(job="8")
    for late in (site.cloud.release, site.cloud.end, lambda row: site.cloud.stopped(row, "late")):
        late(stale)
    assert site.row().state is State.READY
    assert site.domains() == [ID]


def test_released_while_it_is_made_a_new_disk_goes(site: Site) -> None:
    reached = threading.Event()

    def wait(step: Callable[[], None]) -> None:
        reached.set()
        while True:
            step()  # raises once it is cancelled
            time.sleep(0.01)

    interrupt(site, "starting the domain", wait)
    order = an_order()
    next(site.lease(order))
    assert reached.wait(5)
    site.bait.reconciler.release("7")
    assert leaves_nothing(site)
    assert site.outcome(order) == ("its lease has ended", 0)


def test_near_the_end_of_its_walltime_it_is_shut_down(site: Site) -> None:
    order = an_order(walltime=3600)
    site.runs(order)
    site.bait.reconciler.notice = 1800
    assert acts(site) == []
    site.bait.reconciler.notice = 3601
    assert acts(site) == [Act.SHUT_DOWN]
    site.reaches(State.STOPPED)
    assert site.libvirt.pressed == 1
    assert site.outcome(order) == ("the walltime of its lease is nearly over", 0)


def test_a_lease_that_nobody_knows_any_more_ends_after_the_grace(site: Site) -> None:
    order = site.runs()
    site.node.batch.jobs = None
    assert acts(site) == []  # nobody answers: nothing follows
    site.node.batch.jobs = {}
    answers_again(site.bait)
    assert acts(site) == [Act.REPORT]  # its own process was just heard
    site.bait.tasks.heard._last.clear()
    assert acts(site) == []  # not at once
    ripen(site.bait)
    assert acts(site) == [Act.HALT]
    site.reaches(State.STOPPED)
    assert site.outcome(order) == ("its lease is over", 0)
    assert site.disk().exists()


def test_an_administrator_ends_a_machine_and_its_disk_is_kept(site: Site) -> None:
    order = site.runs()
    site.bait.reconciler.end(ID)
    assert site.row().state is State.STOPPED
    assert site.outcome(order)[0] == "an administrator has ended the VM"
    before = site.row()
    site.bait.reconciler.end(ID)  # at rest there is nothing to end
    assert site.row() == before


CLOUD_STATES = [state for state in State if state is not State.BOOTING]


@pytest.mark.parametrize("state", CLOUD_STATES)
def test_destroyed_in_every_state_nothing_is_left(site: Site, state: State) -> None:
    into(site, state)
    lease = site.row().lease
    site.cloud.delete(ID)
    site.reaches(None)
    assert leaves_nothing(site)
    if lease:
        known = site.node.ledger.lease(lease)
        assert known
        assert (known.reason, known.code) == ("its user has deleted it", 0)
    with pytest.raises(AbsentError):
        site.cloud.delete(ID)


def test_what_is_to_be_destroyed_stays_so_whatever_comes_then(site: Site) -> None:
    site.runs()
    before = site.row()
    connections = site.libvirt._connections
    uri, connections.uri = connections.uri, "qemu+unix:///system?socket=/nowhere"
    site.libvirt._connections._shared = None
    site.cloud.delete(ID)
    eventually(lambda: not site.cloud.tasks.machines())
    site.cloud.jobs.ending(JobId("7"), UID)
    site.cloud.stop(ID, "graceful")
    site.cloud.end(before)
    with pytest.raises(UnknownError):
        site.cloud.release(before)
    assert site.row().state is State.ENDING
    connections.uri = uri
    site.restarted()
    assert acts(site) == [Act.END]
    site.reaches(None)
    assert leaves_nothing(site)
