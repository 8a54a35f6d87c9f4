"""Volumes that nodes keep for themselves: where they are made, and which VMs can have them."""

from dataclasses import replace
from typing import Any

import pytest

from occi_bridge.driver.actions import Act, Action
from occi_bridge.driver.plan import plan, unsettled
from occi_bridge.driver.reports import Report
from occi_bridge.driver.snapshot import Snapshot
from occi_bridge.store.rows import Attachment, Compute, Storage
from tests.unit.occi_bridge.snapshots import (
    HV1,
    HV2,
    LEASE,
    LINK,
    NOW,
    RUNS,
    STOPPED,
    UID,
    VOLUME,
    link,
    machine,
    report,
    row,
    snapshot,
    volume,
)

OTHER = "55555555-0000-4000-8000-000000000000"
WAITS: dict[str, Any] = {"leased": True, "node": ""}  # its lease job waits for an order
PLACED: dict[str, Any] = {"leased": True, "node": "hv1", "act": "place hv1"}
UNMADE: dict[str, Any] = {"made": False, "has": 0, "act": "await"}
ASKED = f"make 1 {LEASE}"


def local(*found: Report) -> tuple[Report, ...]:
    """Both nodes keep volumes for themselves."""
    nodes = {each.node: each for each in (report(), report(node="hv2"), *found)}
    return tuple(replace(each, local_volumes=True) for each in nodes.values())


def seen(vm: Compute, *found: Report, links: tuple[Attachment, ...] = (), **disk: Any) -> Snapshot:
    """A VM that is linked to a volume."""
    return snapshot(
        vm, seen=local(*found), storages=(volume(**disk),), attachments=links or (link(),)
    )


def asked(made: Snapshot) -> list[str]:
    return [f"{action.asked} of {action.node}".removesuffix(" of ") for action in plan(made)]


def test_one_that_no_vm_has_waits_for_the_first() -> None:
    alone = snapshot(seen=local(), storages=(volume(**UNMADE | {"act": ""}),))
    assert asked(alone) == ["await"]
    waits = snapshot(seen=local(), storages=(volume(**UNMADE),))
    assert asked(waits) == []
    assert not unsettled(waits)
    assert asked(snapshot(storages=(volume(**UNMADE | {"act": ""}),))) == []  # nobody answers


@pytest.mark.parametrize(
    ("vm", "expected"),
    [
        ({}, ["submit"]),  # the batch system decides the node
        (WAITS, []),
        (PLACED, [f"{ASKED} of hv1"]),
        (RUNS, [f"{ASKED} of hv1"]),
        ({"desired": "inactive"} | STOPPED, ["make 1 of hv1"]),
        (STOPPED, ["tell", "make 1 of hv1"]),  # where its disk is, before it starts
        ({"desired": "inactive"}, []),
    ],
)
def test_it_is_made_where_its_first_vm_is(vm: dict[str, Any], expected: list[str]) -> None:
    runs = report(machine("running")) if vm is RUNS else report()
    assert asked(seen(row(**vm), runs, **UNMADE)) == expected


def test_it_is_made_before_the_order_and_for_the_node_that_a_witness_knows() -> None:
    there = report(waits="7", node="hv2")
    [placed] = plan(seen(row(**WAITS), there, **UNMADE))
    assert placed == Action(Act.PLACE, UID, placed.why, HV2, "hv2", HV1)
    vm = row(**PLACED | {"node": "hv2", "act": "place hv2"})
    [made] = plan(seen(vm, there, **UNMADE))
    assert made == Action(Act.MAKE, VOLUME, made.why, HV2, f"1 {LEASE}", node="hv2")
    assert asked(seen(vm, there, made=True, node="hv2")) == ["order hv2"]
    assert asked(seen(row(**WAITS), there, made=True, node="hv2")) == ["order hv2"]
    shared = snapshot(row(**WAITS), seen=(report(), there), storages=(volume(),),
                      attachments=(link(),))  # fmt: skip
    assert asked(shared) == ["order hv2"]


@pytest.mark.parametrize(
    ("disk", "why"),
    [
        ({"act": ASKED, "reason": "no room", "again": NOW + 9}, f"volume {VOLUME}: no room"),
        ({"act": "make 1 of-a-lease-before", "reason": "no room"}, None),
        ({"act": ASKED, "reason": "lvcreate has failed", "tries": 1, "again": NOW - 1}, None),
        ({"node": "hv2"}, f"volume {VOLUME} is on hv2, its lease on hv1"),
        ({"made": True, "node": "hv2"}, f"volume {VOLUME} is on hv2, its lease on hv1"),
    ],
)
def test_a_vm_whose_volume_can_not_be_there_gives_its_lease_back(
    disk: dict[str, Any], why: str | None
) -> None:
    found = plan(seen(row(**PLACED), report(waits="7"), **UNMADE | disk))
    failed = [action.why for action in found if action.act is Act.FAIL]
    assert failed == ([why] if why else [])
    if why is None:
        assert [action.asked for action in found] == [ASKED]  # once more, in this lease
    started_again = row(**PLACED | {"act": "cancel 7"})  # the lease is just being given back
    later = plan(seen(started_again, report(waits="7"), **UNMADE | disk))
    assert Act.FAIL not in {action.act for action in later}


@pytest.mark.parametrize(
    ("vm", "expected"),
    [
        ({}, "submit hv2"),
        ({"desired": "inactive"} | STOPPED, ""),
        (STOPPED, f"its disk is on hv1, volume {VOLUME} is on hv2"),
        (STOPPED | {"node": "hv2"}, "submit hv2"),
    ],
)
def test_a_vm_goes_to_its_volume(vm: dict[str, Any], expected: str) -> None:
    found = [each for each in plan(seen(row(**vm), node="hv2")) if each.uid == UID]
    texts = [each.why if each.act is Act.TELL else each.asked for each in found]
    assert texts == ([expected] if expected else [])


def test_volumes_of_two_nodes_are_never_in_one_vm() -> None:
    links = (link(), link(uid="l2", storage=OTHER))
    both = (volume(node="hv1"), volume(uid=OTHER, id="o", node="hv2"))
    made = snapshot(row(), seen=local(), storages=both, attachments=links)
    [told] = plan(made)
    assert told.why == f"volume {VOLUME} is on hv1, volume o is on hv2"


def test_a_running_vm_elsewhere_is_told_once() -> None:
    runs, there = row(**RUNS), report(machine("running"))
    [told] = plan(seen(runs, there, node="hv2"))
    assert told == Action(Act.TELL, LINK, "the volume is on hv2, the VM on hv1")
    assert plan(seen(runs, there, links=(link(reason=told.why),), node="hv2")) == []
    assert asked(seen(runs, there, node="hv1")) == ["attach"]
    assert asked(seen(runs, there, links=(link(id=None),), node="hv1")) == ["detach"]
    assert asked(seen(runs, there, **UNMADE)) == [f"{ASKED} of hv1"]  # and then attached


@pytest.mark.parametrize(
    ("disk", "expected"),
    [
        ({"size": 3}, ["grow 3"]),
        ({"id": None, "act": "make 1"}, ["delete"]),
        ({"id": None, "act": "await", "made": False, "node": ""}, ["forget"]),
        ({"id": None, "act": "make 1", "node": "gone"}, ["forget"]),
        ({"uid": OTHER, "source": VOLUME, "made": False}, [f"copy {VOLUME} of hv2"]),
    ],
)
def test_its_own_node_is_asked_and_no_other(disk: dict[str, Any], expected: list[str]) -> None:
    own: tuple[Storage, ...] = (volume(**{"node": "hv2"} | disk),)
    if "source" in disk:
        own = (volume(node="hv2"), volume(**disk))
    made = snapshot(seen=local(), storages=own)
    assert asked(made) == expected
    assert {action.bait for action in plan(made)} <= {HV2, ""}
    silent = snapshot(seen=local()[:1], storages=own)
    assert [each for each in asked(silent) if each != "forget"] == []


@pytest.mark.parametrize("unheard", [False, True])
def test_what_was_on_a_node_is_forgotten_only_where_no_bait_can_be_its(unheard: bool) -> None:
    """One that has not said yet which node it is on may be, as under a new URL."""
    vm = row(id=None, node="gone", ran=True, state="stopped", lease_at=1.0)
    made = snapshot(vm, seen=local(), storages=(volume(id=None, node="gone", act="make 1"),))
    made = replace(made, reports=replace(made.reports, unheard=unheard))
    assert asked(made) == ([] if unheard else ["forget", "forget"])


def test_one_that_may_be_there_is_asked_for_there() -> None:
    """Its first VM was deleted before the node has answered."""
    begun = volume(**UNMADE | {"act": ASKED, "node": "hv2"})
    [made] = plan(snapshot(seen=local(), storages=(begun,)))
    assert (made.asked, made.bait, made.node) == ("make 1", HV2, "hv2")
    elsewhere = snapshot(row(**RUNS), seen=local(report(machine("running"))), storages=(begun,),
                         attachments=(link(),))  # fmt: skip
    assert {each.bait for each in plan(elsewhere) if each.act is Act.MAKE} == {HV2}


@pytest.mark.parametrize("act", ["", "await", "make 1"])
def test_a_deleted_one_stays_while_a_link_to_it_does(act: str) -> None:
    """As that of a VM whose lease waits, and which its user has unlinked."""
    pending = row(**WAITS | {"lease_state": "pending"})
    gone = {"id": None, "made": False, "act": act}
    assert plan(seen(pending, links=(link(id=None),), **gone)) == []


def test_a_copy_is_made_by_the_node_that_keeps_what_it_is_of_and_else_by_one_that_shares() -> None:
    copies = [volume(uid=f"c{n}", id=f"c{n}", source=VOLUME, **UNMADE | {"act": ""}) for n in "123"]
    kept = tuple(replace(copy, owner=copy.uid) for copy in copies)
    mixed = (*local()[:1], report(node="hv2"))
    for seen_, node, bait in ((local(), "hv1", HV1), (mixed, "hv1", HV1), (mixed, "", HV2)):
        found = plan(snapshot(seen=seen_, storages=(volume(node=node), *kept)))
        assert [(each.act, each.bait, each.node) for each in found] == [(Act.COPY, bait, node)] * 3
        deleted = tuple(replace(copy, id=None, act=f"copy {VOLUME}", node=node) for copy in kept)
        found = plan(snapshot(seen=seen_, storages=(volume(node=node), *deleted)))
        assert [(each.act, each.bait) for each in found] == [(Act.DELETE, bait)] * 3


@pytest.mark.parametrize("gone", [False, True])
def test_a_copy_on_a_silent_node_keeps_none_of_its_owners_waiting_elsewhere(gone: bool) -> None:
    """Though it may be under way there, and though its owner has deleted it by now."""
    begun = volume(uid="a", source="of-a", node="hv2", made=False, act="copy of-a", again=NOW + 9)
    begun.id = None if gone else begun.uid
    waits = volume(uid="b", id="b", source=VOLUME, **UNMADE | {"act": ""})
    sources = (volume(node="hv1"), volume(uid="of-a", id="of-a", node="hv2"))
    rows = (*sources, begun, waits)
    both, one = (snapshot(seen=seen_, storages=rows) for seen_ in (local(), local()[:1]))
    assert [each.uid for each in plan(both) if each.act is Act.COPY] == []
    assert [each.uid for each in plan(one) if each.act is Act.COPY] == ["b"]


def test_a_node_that_shares_keeps_nothing() -> None:
    """Where nodes are not alike, those are asked whose volumes all can have."""
    shares = (*local()[:1], report(node="hv2"))
    [made] = plan(snapshot(seen=shares, storages=(volume(**UNMADE),)))
    assert (made.act, made.bait, made.node) == (Act.MAKE, HV2, "")
    [deleted] = plan(snapshot(seen=shares, storages=(volume(id=None, act="make 1"),)))
    assert deleted.bait == HV2
