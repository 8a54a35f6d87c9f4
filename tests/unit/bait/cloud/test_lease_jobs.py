"""What a lease job hears, and which orders are obeyed in it."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import libvirt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bait.batch.attach import attach
from tests.unit.bait.cloud.cloudsite import FIRST, ID, UID, leaves_nothing, rest_of
from tests.unit.bait.conftest import Site, an_order, private, token
from tests.unit.conftest import TAG, eventually, needs_root
from wnodes_lrms.errors import ConflictError, RejectedError, UnknownError, WnodesError
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.model import Kind, State
from wnodes_lrms.order import sign

pytestmark = needs_root  # files that only root may write


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
    site: Site, make: Callable[[Any], str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bait.cloud.lease_jobs._NEWS", 0.05)
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
        ({}, {"tag": TAG}, "carries another VM"),
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
    with pytest.raises(RejectedError, match="carries another VM"):
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


@pytest.mark.parametrize("why", ["ended", "released", "drained", "patience"])
def test_a_lease_job_does_not_wait_for_ever(
    site: Site, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "patience":
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
    elif why == "released":  # killed at once: its process has not told
        site.bait.reconciler.release("7")
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
