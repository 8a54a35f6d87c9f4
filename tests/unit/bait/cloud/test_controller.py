"""bait/cloud on libvirt's test driver: a VM's life, each way it ends.

Real here: libvirt, qemu-img, the seed, the ledger, the signatures. The batch system is a table.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from bait.frontend.models import UsagesShown
from bait.ledger.records import Row
from bait.reconcile.plan import Act
from tests.unit.bait.cloud.cloudsite import ID, STEPS, UID, acts, into, leaves_nothing, rest_of
from tests.unit.bait.conftest import Site, an_order, interrupt
from tests.unit.conftest import TAG, eventually, needs_root, put
from wnodes_lrms.config.load import Cloud
from wnodes_lrms.errors import AbsentError, RejectedError, UnknownError, WnodesError
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.model import Kind, State
from wnodes_lrms.order import Order

pytestmark = needs_root  # files that only root may write


# -- the batch system or libvirt is away -----------------------------------------------------------


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


def test_a_bridge_is_told_that_the_node_is_drained(site: Site) -> None:
    assert site.cloud.draining() is None
    by = time.time() + 3600
    site.bait.drain.begin(by, "new kernel")
    told = site.cloud.draining()
    assert told
    assert (told["by"], told["reason"]) == (by, "new kernel")
    site.bait.drain.resume()
    assert site.cloud.draining() is None


def test_what_a_bridge_is_told_of_usage_is_what_is_accounted(site: Site) -> None:
    order = site.runs()
    [kept] = site.cloud.ledger.usages()
    [told] = site.cloud.usages(0.0)
    assert told == {name: getattr(kept, name) for name in told}
    assert (told["dn"], told["cores"]) == (order.dn, order.cores)
    assert site.cloud.usages(time.time() + 60) == [told]  # it goes on
    site.cloud.delete(str(order.machine))
    site.reaches(None)
    assert [each["number"] for each in site.cloud.usages(0.0)] == [told["number"]]
    assert site.cloud.usages(time.time() + 60) == []


def test_of_very_many_usages_the_newest_are_told_in_an_answer_that_a_bridge_takes(
    site: Site, mocker: MockerFixture
) -> None:
    """Whoever has a long name, and VMs that come and go, hides nobody else's."""
    site.runs()
    [one] = site.cloud.ledger.usages()
    long = "/CN=" + "é\\" * 500
    many = [replace(one, number=number, dn=long) for number in range(9000)]
    mocker.patch.object(site.cloud.ledger, "usages", return_value=[*many, one])
    told = site.cloud.usages(0.0)
    shown = UsagesShown.model_validate({"usages": told}).model_dump_json()
    assert 1 << 20 < len(shown.encode()) < 4 << 20
    assert [each["number"] for each in told[-2:]] == [8999, one.number]


# -- the bait is killed, and comes back ------------------------------------------------------------


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


# -- what is shown ---------------------------------------------------------------------------------


def test_batch_machines_are_not_the_bridges(site: Site) -> None:
    site.node.batch.grant("5")
    site.bait.batch.prepare(JobId("5"), 0)
    eventually(lambda: site.node.ledger.rows("5")[0].state is State.BOOTING)
    site.runs()
    batch = site.node.ledger.rows("5")[0].id
    assert [machine["id"] for machine in site.cloud.machines()] == [ID]
    for ask in (site.cloud.machine, site.cloud.delete, site.cloud.resume):
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
