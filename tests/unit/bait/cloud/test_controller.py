"""bait/cloud on libvirt's test driver: a VM's life, each way it ends.

Real here: libvirt, qemu-img, the seed, the ledger, the signatures. The batch system is a table.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import libvirt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pytest_mock import MockerFixture

from bait.batch.attach import attach
from bait.ledger.records import Row
from bait.ledger.states import AT_REST
from bait.reconcile.plan import Act
from tests.unit.bait.conftest import (
    MACHINE,
    VOLUMES,
    Site,
    an_order,
    interrupt,
    private,
    token,
)
from tests.unit.conftest import (
    GUESTS,
    NOBODY,
    TAG,
    answers_again,
    eventually,
    needs_root,
    part_of,
    put,
    ripen,
)
from wnodes_lrms.config.load import Allow, Cloud
from wnodes_lrms.errors import (
    AbsentError,
    ConflictError,
    RejectedError,
    UnknownError,
    WnodesError,
)
from wnodes_lrms.images import catalogue
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.model import Kind, State
from wnodes_lrms.order import Nic, Order, sign

pytestmark = needs_root  # files that only root may write
ID = str(MACHINE)
UID = NOBODY.pw_uid
FIRST = f"{GUESTS}.2"


def acts(site: Site) -> list[Act]:
    return [line.action.act for line in site.bait.reconciler.reconcile() if not line.wait]


def rest_of(told: Any) -> list[dict[str, Any]]:
    return list(told)


def leaves_nothing(site: Site) -> bool:
    return [name for name in site.node.left() if "ledger" not in name] == []


# -- what the lease program hears -----------------------------------------------------------------


def test_a_machine_from_its_order_to_its_end(site: Site, libvirt_test: libvirt.virConnect) -> None:
    order = an_order(cores=2, memory=384)
    told = site.lease(order, cores=2)
    states = [next(told)["state"]]
    while states[-1] != "ready":
        states.append(next(told)["state"])
    assert set(states) <= {"requested", "building", "ready"}
    row = site.row()
    assert (row.kind, row.job, row.lease, row.uid) == (Kind.CLOUD, "7", str(order.lease), UID)
    assert abs((row.ends or 0) - time.time() - 3600) < 10
    domain = libvirt_test.lookupByUUIDString(ID)
    assert domain.info()[1] == 384 * 1024
    assert domain.info()[3] == 2
    assert site.libvirt.domains()[ID].job == "7"
    shown = site.cloud.machine(ID)
    assert shown["state"] == "running"
    assert (shown["cores"], shown["memory"], shown["node"]) == (2, 384, "hv1")
    assert shown["nics"][0]["address"] == FIRST
    assert shown["nics"][0]["mac"] == libvirt_mac(libvirt_test)
    site.cloud.stop(ID, "graceful")
    assert rest_of(told)[-1] == {"ended": "its user has stopped it", "code": 0, "end": True}
    assert site.domains() == []
    shown = site.cloud.machine(ID)
    assert (shown["state"], shown["lease"], shown["job"]) == ("stopped", "", "")
    (ended,) = site.cloud.outcomes()
    assert ended["lease"] == str(order.lease)
    assert ended["reason"] == "its user has stopped it"


def libvirt_mac(link: libvirt.virConnect) -> str:
    text: str = link.lookupByUUIDString(ID).XMLDesc()
    return text.partition("<mac address='")[2].partition("'")[0]


def test_asked_again_by_the_same_job_it_goes_on_telling(site: Site) -> None:
    order = an_order()
    site.runs(order)
    site.restarted()
    told = site.ask(order)
    assert next(told) == {"state": "ready"}
    site.cloud.stop(ID, "poweroff")
    assert rest_of(told)[-1]["code"] == 0
    # and once more, when all is over
    assert rest_of(site.ask(order)) == [
        {"ended": "its user has stopped it", "code": 0, "end": True}
    ]


def test_another_user_hears_nothing_of_it(site: Site) -> None:
    order = site.runs()
    with pytest.raises(RejectedError, match="job 7 is not yours"):
        next(site.ask(order, uid=UID + 1))
    site.node.batch.jobs = None
    with pytest.raises(UnknownError):  # their program tries again
        next(site.ask(order))


def test_an_order_is_good_once(site: Site) -> None:
    order = site.runs()
    site.give(order)  # asked again, it is the same one
    for again in (order, an_order()):
        with pytest.raises(RejectedError, match=r"is job 7's|is ready already"):
            next(site.lease(again, "8"))
    assert site.outcome(order) == (None, None)  # the first one goes on
    site.cloud.stop(ID, "poweroff")
    site.reaches(State.STOPPED)
    with pytest.raises(RejectedError, match="has been used before"):
        site.give(order, "9")
    site.node.batch.grant("9", tag="")
    with pytest.raises(RejectedError, match="is job 7's"):
        next(site.ask(order, "9"))
    assert site.row().state is State.STOPPED
    assert site.outcome(order)[0] == "its user has stopped it"


STRANGER = Ed25519PrivateKey.from_private_bytes(b"x" * 32)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: sign(o, "box", private(STRANGER), time.time(), 600), "[Ss]ignature"),
        (lambda o: token(o, age=700), "expired"),
        (lambda o: token(o, cluster="other"), "[Aa]udience"),
        (lambda o: token(an_order(job=o.job, node=o.node)), "for another lease"),
        (lambda o: token(o.lease_request), "order refused"),
        (lambda _o: "no token at all", "order refused"),
        (lambda _o: "\ud800", "order refused"),
    ],
)
def test_a_token_that_is_no_good_does_nothing(
    site: Site, make: Callable[[Any], str], message: str
) -> None:
    site.node.batch.grant("7", tag="")
    order = an_order(job="7", node="hv1")
    told = site.ask(order)
    assert next(told) == {"state": "waiting"}
    with pytest.raises(RejectedError, match=message):
        site.cloud.jobs.hand_in(str(order.lease), make(order))
    assert next(told) == {"state": "waiting"}  # for a good one
    assert leaves_nothing(site)
    assert site.cloud.outcomes() == []


@pytest.mark.parametrize(
    ("order", "allocation", "message"),
    [
        ({"cores": 2}, {}, "needs 2 cores and 384 MiB, the lease has 1 and 512"),
        ({"memory": 385}, {}, "needs 1 cores and 513 MiB"),
        ({"account": "daemon"}, {}, "for the account daemon, the lease is nobody's"),
        ({"lrms_account": "atlas"}, {}, "it charges atlas, the lease grid"),
        ({"node": "hv2"}, {}, "for job 7 on node hv2, the lease is job 7 on hv1"),
        ({}, {"uid": 0}, "not yours"),
        ({}, {"tag": TAG}, "carries another machine"),
    ],
)
def test_an_order_that_does_not_fit_the_lease_is_refused_and_said(
    site: Site, order: dict[str, Any], allocation: dict[str, Any], message: str
) -> None:
    one = an_order(**order)
    with pytest.raises(RejectedError, match=message):
        next(site.lease(one, **allocation))
    assert leaves_nothing(site)
    if "uid" not in allocation:  # what is another user's is not written down for this one
        (ended,) = site.cloud.outcomes()
        assert ended["lease"] == str(one.lease)
        assert site.outcome(one)[1] == 1


def test_a_lease_carries_one_machine(site: Site) -> None:
    site.runs()
    other = an_order(machine=uuid4())
    assert next(site.ask(other)) == {"state": "waiting"}
    with pytest.raises(RejectedError, match="carries another machine"):
        next(site.lease(other))
    assert [row.id for row in site.node.ledger.rows()] == [ID]


def test_somebody_elses_machine_is_not_started(site: Site) -> None:
    site.runs()
    site.cloud.stop(ID, "poweroff")
    site.reaches(State.STOPPED)
    before = site.row()
    with pytest.raises(RejectedError, match="somebody else's"):
        next(site.lease(an_order(dn="/C=IT/O=Box/CN=Mallory"), "8"))
    assert site.row() == before
    assert site.disk().exists()


def test_a_batch_jobs_machine_is_not_taken_over(site: Site) -> None:
    site.node.batch.grant("5")
    site.bait.batch.prepare(JobId("5"), 0)
    eventually(lambda: site.node.ledger.rows("5")[0].state is State.BOOTING)
    with pytest.raises(RejectedError, match="somebody else's"):
        next(site.lease(an_order(machine=site.node.ledger.rows("5")[0].id), "8"))


def test_the_owner_of_a_lease_job_can_not_attach_to_its_machine(site: Site) -> None:
    site.runs()
    *_, answer = attach(site.bait.batch, JobId("7"), UID)
    assert answer["state"] == "failed"
    assert "key" not in answer
    assert site.row().state is State.READY
    assert not (site.cloud.builder.paths(ID).key).exists()


def test_two_orders_at_once_for_one_machine_start_it_once(site: Site) -> None:
    site.runs()
    site.cloud.stop(ID, "poweroff")
    site.reaches(State.STOPPED)
    orders = {str(job): an_order() for job in range(20, 28)}
    for job in orders:
        site.node.batch.grant(job, tag="")

    def hand_in(job: str) -> str:
        try:
            next(site.lease(orders[job], job))
        except RejectedError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(hand_in, orders))
    assert told.count("") == 1
    site.reaches(State.READY)
    winner = list(orders)[told.index("")]
    assert site.row().job == winner
    assert site.libvirt.domains()[ID].job == winner
    assert site.outcome(orders[winner]) == (None, None)


@pytest.mark.parametrize("broken", ["no such file", "no key"])
def test_keys_that_can_not_be_read_are_the_sites_fault(site: Site, broken: str) -> None:
    file = Path(site.cloud.config.api.order_keys[0])
    if broken == "no key":
        file.write_text("this is no PEM")
    else:
        file.unlink()
    with pytest.raises(WnodesError, match=r"order_keys|order refused"):
        next(site.lease(an_order()))
    assert leaves_nothing(site)


# -- how it ends ----------------------------------------------------------------------------------


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
    site.cloud.stop(ID, "graceful")
    for _ in range(3):  # asking again gives it no more time
        time.sleep(0.2)
        site.cloud.stop(ID, "graceful")
    site.reaches(State.STOPPED)
    assert 0.9 < time.monotonic() - began < 1.6
    assert site.domains() == []


def test_power_off_does_not_wait_for_a_shutdown_that_goes_on(site: Site) -> None:
    site.runs()
    site.libvirt.deaf = True
    site.cloud.stop(ID, "graceful")
    eventually(lambda: site.libvirt.pressed)
    began = time.monotonic()
    site.cloud.stop(ID, "poweroff")
    site.reaches(State.STOPPED)
    assert time.monotonic() - began < 0.6


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
    order = an_order(walltime=60)
    site.runs(order)
    site.bait.reconciler.notice = 58
    assert acts(site) == []
    site.bait.reconciler.notice = 61
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
    assert site.outcome(order)[0] == "an administrator has ended the machine"
    before = site.row()
    site.bait.reconciler.end(ID)  # at rest there is nothing to end
    assert site.row() == before


# -- suspended, hibernated, restarted -------------------------------------------------------------


def test_suspended_and_resumed_in_its_lease(site: Site, libvirt_test: libvirt.virConnect) -> None:
    site.runs()
    for _ in range(2):
        site.cloud.suspend(ID, "suspend")
        assert libvirt_test.lookupByUUIDString(ID).state()[0] == libvirt.VIR_DOMAIN_PAUSED
        assert site.cloud.machine(ID)["state"] == "suspended"
    assert acts(site) == []
    with pytest.raises(ConflictError, match="suspended, not running"):
        site.cloud.restart(ID, "warm")
    for _ in range(2):
        site.cloud.resume(ID)
        assert libvirt_test.lookupByUUIDString(ID).state()[0] == libvirt.VIR_DOMAIN_RUNNING
    assert site.row().job == "7"


def test_a_machine_stands_still_while_the_batch_system_suspends_its_lease(
    site: Site, libvirt_test: libvirt.virConnect
) -> None:
    site.runs()
    site.node.batch.suspended = {"7"}
    assert acts(site) == [Act.PAUSE]
    shown = site.cloud.machine(ID)
    said = "the batch system has suspended its job"
    assert (shown["state"], shown["reason"]) == ("suspended", said)
    assert libvirt_test.lookupByUUIDString(ID).state()[0] == libvirt.VIR_DOMAIN_PAUSED
    assert acts(site) == []
    with pytest.raises(ConflictError, match="it goes on when that does"):
        site.cloud.resume(ID)
    for refused in (site.cloud.restart, site.cloud.suspend):
        with pytest.raises(ConflictError, match="paused, not running"):
            refused(ID, "hibernate" if refused == site.cloud.suspend else "graceful")
    site.node.batch.suspended = set()
    assert acts(site) == [Act.CONTINUE]
    shown = site.cloud.machine(ID)
    assert (shown["state"], shown["reason"]) == ("running", "")
    assert libvirt_test.lookupByUUIDString(ID).state()[0] == libvirt.VIR_DOMAIN_RUNNING


def test_what_its_user_has_suspended_stays_so_when_its_lease_goes_on(site: Site) -> None:
    site.runs()
    site.cloud.suspend(ID, "suspend")
    for suspended in ({"7"}, set[str]()):
        site.node.batch.suspended = suspended
        assert acts(site) == []
    assert site.row().state is State.SUSPENDED


def test_a_paused_machine_is_stopped_or_removed_as_any(site: Site) -> None:
    site.runs()
    site.node.batch.suspended = {"7"}
    acts(site)
    site.cloud.stop(ID, "poweroff")
    site.reaches(State.STOPPED)


@pytest.mark.parametrize("told", [True, False])
def test_a_guest_that_sleeps_is_shown_as_suspended_and_can_be_started(
    site: Site, told: bool
) -> None:
    """Told by libvirt at once, or found at the next look."""

    def happens(act: Act) -> None:
        if told:
            site.bait.reconciler.slept(ID)
        else:
            assert acts(site) == [act]

    site.runs()
    site.libvirt.sleeps = True
    happens(Act.FOLLOW)
    shown = site.cloud.machine(ID)
    assert (shown["state"], shown["reason"]) == ("suspended", "the guest has put itself to sleep")
    assert acts(site) == []
    for refused in (site.cloud.restart, site.cloud.suspend):
        with pytest.raises(ConflictError, match="asleep, not running"):
            refused(ID, "hibernate" if refused == site.cloud.suspend else "graceful")
    site.cloud.resume(ID)
    assert not site.libvirt.sleeps
    shown = site.cloud.machine(ID)
    assert (shown["state"], shown["reason"]) == ("running", "")
    site.libvirt.sleeps = True
    happens(Act.FOLLOW)
    site.libvirt.sleeps = False  # by its own clock
    happens(Act.FOLLOW)
    assert site.cloud.machine(ID)["state"] == "running"
    assert site.row().job == "7"


def test_a_guest_that_sleeps_is_woken_to_shut_down(site: Site) -> None:
    order = site.runs()
    site.libvirt.sleeps = True
    assert acts(site) == [Act.FOLLOW]
    site.cloud.stop(ID, "graceful")
    site.reaches(State.STOPPED)
    assert not site.libvirt.sleeps
    assert site.libvirt.pressed == 1
    assert site.outcome(order)[1] == 0


def test_a_guest_that_can_not_be_woken_is_ended_in_time(site: Site, mocker: MockerFixture) -> None:
    site.runs()
    site.libvirt.deaf = True
    mocker.patch.object(site.libvirt, "resume", side_effect=WnodesError("it does not wake"))
    site.cloud.stop(ID, "graceful")
    site.reaches(State.STOPPED)
    assert site.domains() == []


def test_what_was_said_and_not_done_is_done_by_the_next_bait(
    site: Site, libvirt_test: libvirt.virConnect
) -> None:
    site.runs()
    put(site.node.ledger, ID, state=State.SUSPENDED)
    site.restarted()
    assert acts(site) == [Act.HOLD]
    assert libvirt_test.lookupByUUIDString(ID).state()[0] == libvirt.VIR_DOMAIN_PAUSED
    assert acts(site) == []
    put(site.node.ledger, ID, state=State.READY)
    assert acts(site) == [Act.WAKE]
    assert libvirt_test.lookupByUUIDString(ID).state()[0] == libvirt.VIR_DOMAIN_RUNNING


@pytest.mark.parametrize("act", ["suspend", "resume"])
def test_what_libvirt_can_not_do_is_not_said_to_be_done(
    site: Site, act: str, mocker: MockerFixture
) -> None:
    site.runs()
    if act == "resume":
        site.cloud.suspend(ID, "suspend")
    before = site.row().state
    mocker.patch.object(site.libvirt, act, side_effect=WnodesError("it can't"))
    with pytest.raises(WnodesError, match="it can't"):
        site.cloud.resume(ID) if act == "resume" else site.cloud.suspend(ID, "suspend")
    assert site.row().state is before


@pytest.mark.parametrize("suspended", [False, True])
def test_hibernated_it_has_no_lease_and_starts_with_its_memory(
    site: Site, suspended: bool, mocker: MockerFixture
) -> None:
    order = site.runs()
    memory = site.cloud.builder.paths(ID).memory
    if suspended:
        site.cloud.suspend(ID, "suspend")
    site.cloud.suspend(ID, "hibernate")
    site.reaches(State.HIBERNATED)
    assert site.domains() == []
    assert memory.exists()
    shown = site.cloud.machine(ID)
    assert (shown["state"], shown["lease"]) == ("suspended", "")
    assert site.outcome(order) == ("its user has suspended it", 0)
    site.cloud.suspend(ID, "hibernate")
    with pytest.raises(ConflictError):
        site.cloud.resume(ID)
    restore = mocker.spy(site.libvirt, "restore")
    create = mocker.spy(site.libvirt, "create")
    site.runs(job="8")
    assert restore.call_count == 1
    assert create.call_count == 0
    assert [path.name for path in memory.parent.glob("memory*")] == []


def test_what_hibernates_starts_as_large_as_it_was(site: Site) -> None:
    site.runs()
    site.cloud.suspend(ID, "hibernate")
    site.reaches(State.HIBERNATED)
    with pytest.raises(RejectedError, match="hibernates with 1 cores and 256 MiB"):
        next(site.lease(an_order(memory=300), "8"))
    site.runs(job="9")


def test_a_disk_stays_with_its_image(site: Site) -> None:
    site.runs()
    site.cloud.stop(ID, "poweroff")
    site.reaches(State.STOPPED)
    with pytest.raises(RejectedError, match=f"made from image {TAG}"):
        next(site.lease(an_order(image="other_linux_x86_64"), "8"))


def test_a_memory_that_can_not_be_read_is_kept(site: Site) -> None:
    site.runs()
    site.cloud.suspend(ID, "hibernate")
    site.reaches(State.HIBERNATED)
    memory = site.cloud.builder.paths(ID).memory
    good = memory.read_bytes()
    memory.write_bytes(b"no memory")
    order = an_order()
    told = rest_of(site.lease(order, "8"))
    assert "can't restore" in told[-1]["ended"]
    assert told[-1]["code"] == 1
    assert site.row().state is State.FAILED
    assert site.disk().exists()
    assert memory.read_bytes() == b"no memory"
    memory.write_bytes(good)
    site.runs(job="9")


def test_what_can_not_be_hibernated_goes_on_running(site: Site) -> None:
    order = site.runs()
    site.cloud.builder.paths(ID).memory.with_suffix(".new").mkdir()
    site.cloud.suspend(ID, "hibernate")
    site.reaches(State.READY)
    assert site.domains() == [ID]
    assert "could not be hibernated" in site.cloud.machine(ID)["reason"]
    assert site.outcome(order) == (None, None)


def test_the_lease_ends_while_its_memory_is_written(site: Site, mocker: MockerFixture) -> None:
    order = site.runs()
    save, go_on = site.libvirt.save, threading.Event()

    def slow(machine: str, file: Path) -> None:
        assert go_on.wait(5)
        save(machine, file)

    mocker.patch.object(site.libvirt, "save", slow)
    site.cloud.suspend(ID, "hibernate")
    site.cloud.jobs.ending(JobId("7"), UID)  # hibernating is how it ends
    assert site.row().state is State.HIBERNATING
    threading.Timer(0.2, go_on.set).start()
    site.bait.reconciler.release("7")
    site.reaches(State.HIBERNATED)
    assert site.cloud.builder.paths(ID).memory.exists()
    assert site.outcome(order)[0] == "its user has suspended it"


def test_destroyed_while_its_memory_is_written(site: Site, mocker: MockerFixture) -> None:
    order = site.runs()
    save, begun = site.libvirt.save, threading.Event()

    def slow(machine: str, file: Path) -> None:
        begun.set()
        time.sleep(0.2)
        save(machine, file)

    mocker.patch.object(site.libvirt, "save", slow)
    site.cloud.suspend(ID, "hibernate")
    assert begun.wait(5)
    site.cloud.destroy(ID)
    site.reaches(None)
    assert leaves_nothing(site)
    assert site.outcome(order)[1] == 0


@pytest.mark.parametrize("method", ["graceful", "warm", "cold"])
def test_restarted_in_its_lease(site: Site, libvirt_test: libvirt.virConnect, method: str) -> None:
    order = site.runs()
    inode, number = site.disk().stat().st_ino, libvirt_test.lookupByUUIDString(ID).ID()
    for _ in range(2):
        site.cloud.restart(ID, method)
        site.reaches(State.READY)
    site.node.drop_tasks()  # of all that libvirt told
    assert site.row().state is State.READY
    assert site.outcome(order) == (None, None)
    assert site.disk().stat().st_ino == inode
    assert (libvirt_test.lookupByUUIDString(ID).ID() == number) is (method != "cold")


@pytest.mark.parametrize(
    "ask",
    [
        lambda cloud: cloud.restart(ID, "warm"),
        lambda cloud: cloud.restart(ID, "graceful"),
        lambda cloud: cloud.suspend(ID, "suspend"),
    ],
)
def test_what_has_just_stopped_is_not_absent(
    site: Site, libvirt_test: libvirt.virConnect, ask: Callable[[Any], None]
) -> None:
    site.runs()
    site.libvirt.on_stop(lambda _machine, _how: None)
    libvirt_test.lookupByUUIDString(ID).destroy()
    with pytest.raises(ConflictError, match="does not run"):
        ask(site.cloud)


# -- destroyed in every state ---------------------------------------------------------------------


def into(site: Site, state: State) -> None:
    """Bring a VM into a state, and let nobody work on it."""
    site.runs()
    if state is State.HIBERNATED:
        site.cloud.suspend(ID, "hibernate")
        site.reaches(state)
    elif state in AT_REST:
        site.cloud.stop(ID, "poweroff")
        site.reaches(State.STOPPED)
    elif state in (State.REQUESTED, State.BUILDING):
        site.libvirt.on_stop(lambda _machine, _how: None)
        site.libvirt.destroy(ID)
    elif state is State.SUSPENDED:
        site.cloud.suspend(ID, "suspend")
    if site.row().state is not state:
        put(site.node.ledger, ID, state=state)


CLOUD_STATES = [state for state in State if state is not State.BOOTING]


@pytest.mark.parametrize("state", CLOUD_STATES)
def test_destroyed_in_every_state_nothing_is_left(site: Site, state: State) -> None:
    into(site, state)
    lease = site.row().lease
    site.cloud.destroy(ID)
    site.reaches(None)
    assert leaves_nothing(site)
    if lease:
        known = site.node.ledger.lease(lease)
        assert known
        assert (known.reason, known.code) == ("its user has deleted it", 0)
    with pytest.raises(AbsentError):
        site.cloud.destroy(ID)


def test_what_is_to_be_destroyed_stays_so_whatever_comes_then(site: Site) -> None:
    site.runs()
    before = site.row()
    connections = site.libvirt._connections
    uri, connections.uri = connections.uri, "qemu+unix:///system?socket=/nowhere"
    site.libvirt._connections._shared = None
    site.cloud.destroy(ID)
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


# -- a build that fails ---------------------------------------------------------------------------

STEPS = [f"fetching image {TAG}", "making the disk", "making the seed", "starting the domain"]


@pytest.mark.parametrize("where", [STEPS[0], STEPS[1], STEPS[3]])
def test_a_build_that_fails_leaves_no_new_disk(site: Site, where: str) -> None:
    def fail(_step: Callable[[], None]) -> None:
        raise WnodesError("it broke")

    if where == STEPS[0]:
        (site.node.cache.path(site.node.image.disk)).unlink(missing_ok=True)
    interrupt(site, where, fail)
    order = an_order()
    told = rest_of(site.lease(order))
    assert told[-1] == {"ended": "it broke", "code": 1, "end": True}
    site.reaches(None)
    assert leaves_nothing(site)
    assert site.cloud.outcomes()[0]["reason"] == "it broke"


@pytest.mark.parametrize("where", STEPS[2:])
@pytest.mark.parametrize("error", [WnodesError("it broke"), OSError(28, "No space"), KeyError()])
def test_a_build_that_fails_leaves_an_old_disk(site: Site, where: str, error: Exception) -> None:
    site.runs()
    site.cloud.stop(ID, "poweroff")
    site.reaches(State.STOPPED)
    inode = site.disk().stat().st_ino

    def fail(_step: Callable[[], None]) -> None:
        raise error

    interrupt(site, where, fail)
    order = an_order()
    told = rest_of(site.lease(order, "8"))
    assert told[-1]["code"] == 1
    assert site.row().state is State.FAILED
    assert site.row().reason == told[-1]["ended"]
    assert site.disk().stat().st_ino == inode
    site.restarted()
    assert acts(site) == []
    site.runs(job="9")
    assert site.row().reason == ""
    assert site.disk().stat().st_ino == inode


def test_a_domain_that_libvirt_does_not_take_is_said(
    site: Site, libvirt_test: libvirt.virConnect
) -> None:
    libvirt_test.createXML(
        f"<domain type='test'><name>wnodes-box-{ID}</name><memory>1024</memory>"
        "<os><type>hvm</type></os></domain>"
    )
    told = rest_of(site.lease(an_order()))
    assert "can't start the machine" in told[-1]["ended"]
    site.reaches(None)
    assert leaves_nothing(site)


def test_an_image_that_the_account_may_not_use(site: Site) -> None:
    rule = Allow(image=TAG, users=("alice",))
    site.node.config = site.node.config.model_copy(update={"allow": (rule,)})
    site.cloud.lifecycle.config = site.node.config
    told = rest_of(site.lease(an_order()))
    assert "account nobody may not use image" in told[-1]["ended"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "other_linux_x86_64"}, "not in the catalogue"),
        ({"memory": 64}, "needs 128 MiB"),
        ({"volumes": VOLUMES[:1]}, "there is no volume"),
        (
            {"nics": [Nic(id=uuid4(), kind="isolated", network="a", mac="52:54:00:00:00:07")] * 2},
            None,
        ),
    ],
)
def test_what_an_order_may_ask_for(
    site: Site, changes: dict[str, Any], message: str | None
) -> None:
    image = site.node.image.model_copy(update={"min_memory": 128})
    catalogue.write(site.node.folder / "images", image)
    if message is None:
        site.runs(an_order(**changes))
        assert "wnodes-a@hv1" in site.libvirt.networks()
        site.cloud.destroy(ID)
        eventually(lambda: "wnodes-a@hv1" not in site.libvirt.networks())
        return
    told = rest_of(site.lease(an_order(**changes)))
    assert message in told[-1]["ended"]
    site.reaches(None)
    assert leaves_nothing(site)


def test_the_files_under_an_old_disk_stay_when_the_tag_gets_new_ones(site: Site) -> None:
    site.runs()
    old = site.node.image.disk.sha256
    site.cloud.stop(ID, "poweroff")
    site.reaches(State.STOPPED)
    newer = site.node.folder / "newer.qcow2"
    newer.write_bytes(Path(site.node.image.disk.source).read_bytes() + bytes(65536))
    image = site.node.image.model_copy(update={"disk": part_of(newer)})
    catalogue.write(site.node.folder / "images", image)
    site.runs(job="8")
    assert old in site.row().digests.split()
    assert image.disk.sha256 in site.row().digests.split()


# -- lease jobs without an order ------------------------------------------------------------------


def test_an_order_is_for_the_job_that_waits_for_it(site: Site) -> None:
    """Another one, of the same account, says that it is that lease."""
    order = an_order()
    for job in ("7", "8"):
        site.node.batch.grant(job, tag="")
    forged = site.ask(order, "8")
    assert next(forged) == {"state": "waiting"}
    assert site.cloud.jobs.waiting() == [{"lease": str(order.lease), "job": "8"}]
    with pytest.raises(ConflictError, match="job 7 does not wait for this order here"):
        site.give(order, "7")
    told = site.lease(order, "7")
    site.reaches(State.READY)
    assert next(told)["state"] == "ready"
    with pytest.raises(RejectedError, match=f"lease {order.lease} is job 7's"):
        list(forged)
    assert site.row().job == "7"
    assert site.cloud.jobs.waiting() == []


@pytest.mark.parametrize("why", ["ended", "drained", "patience"])
def test_a_lease_job_does_not_wait_for_ever(
    site: Site, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bait.cloud.lease_jobs._PATIENCE", 0.3)
    monkeypatch.setattr("bait.cloud.lease_jobs._NEWS", 0.05)
    order = an_order()
    site.node.batch.grant("7", tag="")
    told = site.ask(order)
    assert next(told) == {"state": "waiting"}
    words = "no bridge has given an order"
    if why == "ended":
        site.cloud.jobs.ending(JobId("7"), UID + 1)  # not for others to say
        assert next(told) == {"state": "waiting"}
        site.cloud.jobs.ending(JobId("7"), UID)
        words = "the batch system has ended its lease"
        with pytest.raises(ConflictError):
            site.give(order)
    elif why == "drained":
        site.bait.drain.begin(None, "new kernel")
        words = "new kernel"
        with pytest.raises(ConflictError, match="new kernel"):
            site.give(order)
    *_, last = told
    assert (last["code"], last["end"]) == (1, True)
    assert words in last["ended"]
    assert site.cloud.jobs.waiting() == []
    assert site.cloud.outcomes() == []  # of a lease that may be another's


def test_only_users_that_leases_run_as_may_wait(site: Site) -> None:
    site.node.batch.grant("7", tag="", uid=1, gid=1)
    with pytest.raises(RejectedError, match="no lease may run as daemon"):
        next(site.ask(an_order(), uid=1))
    assert site.cloud.jobs.waiting() == []


# -- the batch system or libvirt is away ----------------------------------------------------------


def test_the_batch_system_away_when_the_order_comes(site: Site) -> None:
    site.node.batch.jobs = None
    order = an_order()
    with pytest.raises(UnknownError):
        next(site.ask(order))
    assert leaves_nothing(site)
    assert site.cloud.outcomes() == []  # nothing is lost: the same order is good later
    site.node.batch.jobs = {}
    site.runs(order)


def test_the_batch_system_away_while_it_is_made(site: Site, mocker: MockerFixture) -> None:
    mocker.patch("bait.machine.allocation._ASK_AGAIN", (0.01,))
    order = an_order()
    site.node.batch.grant("7", tag="")
    allocation, asked = site.node.batch.allocation, []

    def once(job: str) -> Any:
        asked.append(job)
        if len(asked) > 1:
            raise UnknownError("away")
        return allocation(job)

    told = site.ask(order)
    next(told)
    mocker.patch.object(site.node.batch, "allocation", once)
    site.give(order)
    eventually(lambda: len(asked) > 2 and not site.cloud.tasks.machines())
    assert site.row().state is State.REQUESTED
    assert site.outcome(order) == (None, None)
    mocker.stopall()
    assert acts(site) == [Act.RESUME]
    site.reaches(State.READY)


def test_libvirt_away_ends_nothing(site: Site) -> None:
    order = site.runs()
    connections = site.libvirt._connections
    link, uri = connections._shared, connections.uri
    connections._shared, connections.uri = None, "qemu+unix:///system?socket=/nowhere"
    assert acts(site) == []
    with pytest.raises(UnknownError):
        site.bait.reconciler.release("7")
    assert site.row().state is State.STOPPING
    connections._shared, connections.uri = link, uri
    site.restarted()  # one that goes on finds out later, by and by
    assert acts(site) == [Act.SHUT_DOWN]
    site.reaches(State.STOPPED)
    assert site.outcome(order)[1] == 0


# -- the bait is killed, and comes back -----------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "act", "then"),
    [
        (State.REQUESTED, Act.RESUME, State.READY),
        (State.BUILDING, Act.RESUME, State.READY),
        (State.STARTING, Act.RESUME, State.READY),
        (State.READY, None, State.READY),
        (State.SUSPENDED, None, State.SUSPENDED),
        (State.STOPPING, Act.SHUT_DOWN, State.STOPPED),
        (State.HIBERNATING, Act.HIBERNATE, State.HIBERNATED),
        (State.STOPPED, None, State.STOPPED),
        (State.HIBERNATED, None, State.HIBERNATED),
        (State.FAILED, None, State.FAILED),
        (State.ENDING, Act.END, None),
    ],
)
def test_a_new_bait_goes_on_in_each_state(
    site: Site, state: State, act: Act | None, then: State | None
) -> None:
    into(site, state)
    inode = site.disk().stat().st_ino
    lease = site.row().lease
    site.restarted()
    assert acts(site) == ([act] if act else [])
    site.reaches(then)
    assert acts(site) == []
    if then is None:
        assert leaves_nothing(site)
    else:
        assert site.disk().stat().st_ino == inode
    if lease and then in (State.STOPPED, State.HIBERNATED, None):
        known = site.node.ledger.lease(lease)
        assert known
        assert known.reason


def test_killed_when_the_domain_was_made_its_disk_stays_under_it(site: Site) -> None:
    """The domain runs, the ledger still says that it is being started."""
    order = site.runs()
    put(site.node.ledger, ID, state=State.STARTING)
    inode = site.disk().stat().st_ino
    number = site.libvirt._connect().lookupByUUIDString(ID).ID()
    site.restarted()
    assert acts(site) == [Act.RESUME]
    site.reaches(State.READY)
    assert site.disk().stat().st_ino == inode
    assert site.libvirt._connect().lookupByUUIDString(ID).ID() == number
    assert site.outcome(order) == (None, None)


def test_a_disk_counts_as_used_before_its_domain_runs(site: Site, mocker: MockerFixture) -> None:
    """Killed in between, the next bait must not make the disk anew under a guest that runs."""
    create, used = site.libvirt.create, []

    def look(xml: str) -> None:
        used.append(site.cloud.builder.paths(ID).ran.exists())
        create(xml)

    mocker.patch.object(site.libvirt, "create", look)
    site.runs()
    assert used == [True]


def test_killed_when_it_was_woken_its_memory_is_not_used_again(
    site: Site, mocker: MockerFixture
) -> None:
    site.runs()
    site.cloud.suspend(ID, "hibernate")
    site.reaches(State.HIBERNATED)
    memory = site.cloud.builder.paths(ID).memory
    mocker.patch.object(site.libvirt, "restore", side_effect=UnknownError("libvirt is away"))
    next(site.lease(an_order(), "8"))
    eventually(lambda: not memory.exists() and not site.cloud.tasks.machines())
    mocker.stopall()
    site.restarted()
    create = mocker.spy(site.libvirt, "create")
    assert acts(site) == [Act.RESUME]
    site.reaches(State.READY)
    assert create.call_count == 1  # whether the guest went on is not known: its disk is safe
    assert [path.name for path in memory.parent.glob("memory*")] == []


def test_half_a_disk_of_a_killed_bait_goes_with_its_lease(site: Site) -> None:
    order = an_order()
    site.node.batch.grant("7", tag="")
    assert site.node.ledger.open_lease(row_of(order))
    put(site.node.ledger, ID, state=State.BUILDING)
    site.disk().parent.mkdir(parents=True)
    site.disk().write_text("half a disk")
    site.bait.reconciler.release("7")
    assert leaves_nothing(site)
    assert site.outcome(order) == ("its lease has ended", 0)


def row_of(order: Order) -> Row:
    """A VM that was promised and not begun."""
    return Row(
        ID,
        "7",
        0,
        State.REQUESTED,
        time.time(),
        uid=UID,
        tag=TAG,
        kind=Kind.CLOUD,
        lease=str(order.lease),
        spec=order.model_dump_json(exclude_defaults=True),
    )


def test_killed_between_the_order_and_the_work(site: Site) -> None:
    order = an_order()
    site.node.batch.grant("7", tag="")
    assert site.node.ledger.open_lease(row_of(order))
    site.restarted()
    assert next(site.ask(order)) == {"state": "requested"}
    assert acts(site) == [Act.RESUME]
    site.reaches(State.READY)


def test_an_outcome_outlives_the_bait(site: Site) -> None:
    def fail(_step: Callable[[], None]) -> None:
        raise WnodesError("it broke")

    interrupt(site, STEPS[3], fail)
    order = an_order()
    next(site.lease(order))
    site.reaches(None)
    site.restarted()
    assert rest_of(site.ask(order))[-1] == {"ended": "it broke", "code": 1, "end": True}


# -- what is shown --------------------------------------------------------------------------------


def test_batch_machines_are_not_the_bridges(site: Site) -> None:
    site.node.batch.grant("5")
    site.bait.batch.prepare(JobId("5"), 0)
    eventually(lambda: site.node.ledger.rows("5")[0].state is State.BOOTING)
    site.runs()
    batch = site.node.ledger.rows("5")[0].id
    assert [machine["id"] for machine in site.cloud.machines()] == [ID]
    for ask in (site.cloud.machine, site.cloud.destroy, site.cloud.resume):
        with pytest.raises(AbsentError):
            ask(batch)
    assert site.cloud.census() == {("batch", "booting"): 1, ("cloud", "ready"): 1}
    assert site.node.ledger.rows("5")[0].address != site.row().address


def test_libvirt_is_asked_when_a_bridge_asks(site: Site) -> None:
    site.cloud.ping()
    connections = site.libvirt._connections
    uri, connections.uri = connections.uri, "qemu+unix:///system?socket=/nowhere"
    site.libvirt._connections._shared = None
    with pytest.raises(UnknownError):
        site.cloud.ping()
    connections.uri = uri


def test_an_account_that_carries_no_leases_has_none(site: Site) -> None:
    """A user of the batch system and a taken bridge want a VM with root in it, in a job."""
    accounts = Cloud(accounts=("cloud*",))
    site.cloud.jobs.config = site.node.config.model_copy(update={"cloud": accounts})
    with pytest.raises(RejectedError, match="no lease may run as nobody"):
        next(site.lease(an_order()))
    assert leaves_nothing(site)
