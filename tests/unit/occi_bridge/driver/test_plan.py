"""Desired states against evidence, and what must never follow from any."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from occi_bridge.driver import lease_end
from occi_bridge.driver.actions import Act, Action
from occi_bridge.driver.observe import observe
from occi_bridge.driver.plan import concerned, plan, unsettled
from occi_bridge.driver.replies import SavedImages
from occi_bridge.driver.reports import Report, Reports, SeenNic, SeenVolume
from occi_bridge.driver.snapshot import Snapshot
from occi_bridge.occi import schema
from occi_bridge.occi.schema import INBOUND
from occi_bridge.store.rows import Compute, Network, Saved
from tests.unit.occi_bridge.snapshots import (
    CARD,
    COMMON,
    HV1,
    HV2,
    LEASE,
    LINK,
    NOW,
    RUNS,
    STOPPED,
    UID,
    VOLUME,
    card,
    link,
    listed,
    machine,
    report,
    row,
    snapshot,
    volume,
)

NET = "55555555-0000-4000-8000-000000000000"


def asked(made: Snapshot) -> list[str]:
    """The plan, as «act detail» of each action; all of it has reasons."""
    actions = plan(made)
    assert all(action.why for action in actions)
    return [action.asked for action in actions]


PAUSED: dict[str, Any] = {"leased": True, "state": "suspended", "ran": True}
NOWHERE = report()


@pytest.mark.parametrize(
    ("wanted", "seen", "expected"),
    [
        # Wanted, and nothing there yet.
        ({}, NOWHERE, "submit"),
        ({"lease": LEASE, "via": HV1}, NOWHERE, "submit"),  # nobody knows whether it got there
        ({"leased": True, "lease_state": "pending", "node": ""}, NOWHERE, None),
        ({"leased": True}, NOWHERE, None),
        ({"leased": True, "state": "building"}, report(machine("building")), None),
        # Its lease job waits for the order.
        ({"leased": True, "node": ""}, report(waits="7"), "order hv1"),
        ({"leased": True, "node": ""}, report(waits="8"), None),  # not that job
        ({"leased": True, "node": "", "acted": NOW}, report(waits="7"), None),
        ({"leased": True, "node": "hv1", "act": "order hv1"}, report(waits="7"), "order hv1"),
        ({"leased": True, "node": "hv2", "ran": True}, report(waits="7"), None),  # its disk
        (RUNS, report(machine("running"), waits="7"), None),
        ({"leased": True, "desired": "inactive", "node": ""}, report(waits="7"), "cancel 7"),
        # A disk decides where it goes.
        (STOPPED, report(machine("stopped")), "submit hv1"),
        (STOPPED | {"node": "hv2"}, NOWHERE, "submit hv2"),
        ({"state": "suspended", "node": "hv1", "ran": True}, NOWHERE, "submit hv1"),
        ({"state": "failed", "node": "hv1", "ran": True}, report(machine("failed")), "submit hv1"),
        # It runs.
        (RUNS, report(machine("running")), None),
        (RUNS | {"restart": "cold"}, report(machine("running")), "restart cold"),
        (RUNS | {"restart": "cold"}, (), None),
        (RUNS | {"state": "crashed", "restart": "cold"}, report(machine("crashed")),
         "restart cold"),
        (RUNS | {"state": "crashed"}, report(machine("crashed")), None),
        (RUNS | {"state": "crashed", "desired": "inactive", "method": "graceful"},
         report(machine("crashed")), "stop graceful"),
        (PAUSED, report(machine("suspended")), "resume"),
        (PAUSED | {"acted": NOW}, report(machine("running")), None),  # asked before the last act
        # It is to stop.
        (RUNS | {"desired": "inactive", "method": "graceful"}, report(machine("running")),
         "stop graceful"),
        (RUNS | {"desired": "inactive", "method": "graceful"}, (), None),
        (RUNS | {"desired": "inactive", "method": "graceful", "state": "stopping",
                 "act": "stop graceful"}, report(machine("stopping")), None),
        (RUNS | {"desired": "inactive", "method": "poweroff", "state": "stopping",
                 "act": "stop graceful"}, report(machine("stopping")), "stop poweroff"),
        (PAUSED | {"desired": "inactive", "method": "poweroff"}, report(machine("suspended")),
         "stop poweroff"),
        ({"desired": "inactive", "leased": True, "lease_state": "pending", "node": ""}, NOWHERE,
         "cancel 7"),
        ({"desired": "inactive", "leased": True, "lease_state": "pending", "node": "hv2",
          "ran": True, "state": "stopped"}, NOWHERE, "cancel 7"),
        ({"desired": "inactive", "leased": True, "state": "building"}, report(machine("building")),
         "stop poweroff"),
        ({"desired": "inactive", "leased": True, "state": "building"}, (), None),
        ({"desired": "inactive", "leased": True}, NOWHERE, "cancel 7"),
        ({"desired": "inactive", "leased": True, "acted": NOW}, NOWHERE, None),
        ({"desired": "inactive", "lease": LEASE}, NOWHERE, None),
        ({"desired": "inactive", "state": "stopped"}, report(machine("stopped")), None),
        # It is to sleep.
        (RUNS | {"desired": "suspended", "method": "hibernate"}, report(machine("running")),
         "suspend hibernate"),
        (PAUSED | {"desired": "suspended"}, report(machine("suspended")), None),
        ({"desired": "suspended", "leased": True, "state": "building"}, report(machine("building")),
         None),
        # It is deleted.
        (RUNS | {"id": None}, report(machine("running")), "destroy hv1"),
        (RUNS | {"id": None}, (), None),
        ({"id": None, "leased": True}, NOWHERE, "cancel 7"),
        ({"id": None, "lease": LEASE}, NOWHERE, None),
        ({"id": None}, (), "forget"),  # it was never asked for
        ({"id": None, "lease_at": 1.0}, NOWHERE, "forget"),
        ({"id": None, "lease_at": 1.0}, (), "forget"),
        ({"id": None, "lease_at": 1.0, "node": "hv1"}, NOWHERE, "forget"),
        ({"id": None, "lease_at": 1.0, "node": "hv2"}, NOWHERE, None),
        ({"id": None, "lease_at": 1.0, "node": "hv1", "acted": NOW + 1}, NOWHERE, None),
        ({"id": None, "lease_at": 1.0, "node": "hv3"}, NOWHERE, "forget"),  # the site took it away
        ({"id": None, "lease_at": 1.0, "node": "hv1"}, report(machine("stopped")), "destroy hv1"),
    ],
)  # fmt: skip
def test_one_machine(
    wanted: dict[str, Any], seen: Report | tuple[Report, ...], expected: str | None
) -> None:
    assert asked(snapshot(row(**wanted), seen=seen)) == ([expected] if expected else [])


def test_silence_of_one_node_keeps_a_deleted_machine_that_may_be_there() -> None:
    gone = row(id=None, lease_at=1.0)
    assert asked(snapshot(gone, seen=NOWHERE, silent=True)) == []
    assert asked(snapshot(gone, seen=NOWHERE)) == ["forget"]


def test_a_deleted_machine_is_destroyed_wherever_it_is() -> None:
    both = (report(machine("failed")), report(machine("running"), node="hv2"))
    assert sorted(asked(snapshot(row(id=None, **RUNS), seen=both))) == [
        "destroy hv1",
        "destroy hv2",
    ]


def test_a_deleted_machine_stays_until_images_of_it_are_written() -> None:
    gone, other = row(id=None, leased=True, state="running", ran=True), report(node="hv2")
    image = Saved(tag="a_saved_x86_64", owner="/CN=Anna", machine=UID, node="hv1", act="save")
    busy = {"hv1": SavedImages(tags=(), busy=(image.tag,))}

    def planned(*images: Saved, seen: Report | None = None) -> list[str]:
        there = seen or report(machine("running"))
        return asked(snapshot(gone, seen=(there, other), saved=images, saved_seen=busy))

    assert planned(image) == []
    assert planned(image, replace(image, machine=LINK)) == []
    assert planned(replace(image, machine=LINK)) == ["destroy hv1"]
    assert planned(replace(image, node="hv2")) == ["destroy hv1"]
    for state in ("ready", "failed"):
        assert planned(replace(image, state=state)) == ["destroy hv1"]
    assert planned(image, seen=report()) == ["cancel 7"]  # it has ended: nothing reads its disk


def test_an_order_has_a_witness() -> None:
    """Who has submitted the job knows where it runs, else whoever does not say so itself."""
    waits, hv2 = row(leased=True, node=""), "https://hv2:8445"

    def witnesses(*reports: Report) -> dict[str, str]:
        actions = plan(snapshot(waits, seen=reports))
        return {action.bait: action.witness for action in actions if action.act is Act.ORDER}

    both = (report(waits="7"), report(node="hv2", waits="7"))
    assert witnesses(*both) == {HV1: HV1, hv2: HV1}
    assert witnesses(both[1], report(node="hv3")) == {hv2: "https://hv3:8445"}
    assert witnesses(both[1]) == {}


def test_a_node_that_still_claims_a_deleted_machine_does_not_keep_it() -> None:
    gone = row(id=None, lease_at=1.0, node="hv1")
    claims = report(machine("running"), node="hv2")
    assert asked(snapshot(gone, seen=(report(), claims))) == ["destroy hv2", "forget"]


def test_the_bait_that_may_have_submitted_a_lease_is_asked_again_and_nobody_else() -> None:
    doubtful = row(lease=LEASE, via=HV2)
    both = (report(), report(node="hv2"))
    assert plan(snapshot(doubtful, seen=both))[0].bait == HV2
    (told,) = plan(snapshot(doubtful, seen=both[0]))
    assert (told.act, told.bait) == (Act.TELL, "")
    taken_away = row(lease=LEASE, via="https://hv9:8445")
    assert plan(snapshot(taken_away, seen=both))[0].bait == HV1


def test_a_bait_without_word_of_leases_is_asked_for_none_while_another_has_it() -> None:
    both = (report(), report(node="hv2"))
    assert plan(snapshot(row(), seen=both, mute=HV1))[0].bait == HV2
    assert plan(snapshot(row(), seen=both[0], mute=HV1))[0].bait == HV1


def test_a_second_job_for_one_lease_is_cancelled() -> None:
    runs = row(**RUNS)
    two = snapshot(runs, seen=report(machine("running")), leases=listed("running", "pending"))
    assert asked(two) == ["cancel 8"]
    ended = snapshot(runs, seen=report(machine("running")), leases=listed("running", "ended"))
    assert asked(ended) == []


@pytest.mark.parametrize(
    ("changes", "due"),
    [
        ({"act": "submit", "again": NOW + 1}, False),
        ({"act": "submit", "again": NOW}, True),
        ({"act": "stop graceful", "again": NOW + 1}, True),
    ],
)
def test_the_same_is_asked_again_only_after_its_pause(changes: dict[str, Any], due: bool) -> None:
    assert asked(snapshot(row(**changes), seen=NOWHERE)) == (["submit"] if due else [])


@pytest.mark.parametrize(
    ("changes", "back", "due"),
    [
        ({"tries": 5, "again": NOW + 1}, NOW - 30, True),  # it failed 31 s ago
        ({"tries": 5, "again": NOW + 1}, NOW - 32, False),
        ({"tries": 9, "again": NOW + 59.5}, NOW, True),
        ({"tries": 9, "again": NOW + 60}, NOW - 1, False),
        ({"tries": 0, "again": NOW + 29}, NOW, False),  # it was asked, and is awaited
        ({"tries": 5000, "again": NOW + 59}, NOW, True),
    ],
)
def test_what_failed_is_asked_again_once_its_bait_is_heard_again(
    changes: dict[str, Any], back: float, due: bool
) -> None:
    waits = snapshot(row(act="submit", **changes), seen=NOWHERE)
    for url, wanted in ((HV1, due), (HV2, False)):
        heard = replace(waits, reports=replace(waits.reports, back={url: back}))
        assert asked(heard) == (["submit"] if wanted else [])


def test_an_order_is_given_again_once_its_witness_is_heard_again() -> None:
    asks = row(leased=True, node="hv2", act="order hv2", tries=6, again=NOW + 50)
    both = snapshot(asks, seen=(report(), report(node="hv2", waits="7")))
    assert asked(both) == []
    heard = replace(both, reports=replace(both.reports, back={HV1: NOW - 1}))
    assert asked(heard) == ["order hv2"]


def test_nothing_is_planned_for_what_is_under_way() -> None:
    assert asked(snapshot(row(), seen=NOWHERE, under_way=frozenset({UID}))) == []


def test_waiting_is_told_once() -> None:
    assert plan(snapshot(row())) == [Action(Act.TELL, UID, "no bait answers")]
    assert plan(snapshot(row(reason="no bait answers"))) == []


# Links.


@pytest.mark.parametrize(
    ("wanted", "changes", "expected"),
    [
        (RUNS, {}, ["plug"]),
        (RUNS, {"attached": True}, []),
        (RUNS, {"acted": NOW}, []),
        (RUNS, {"id": None, "attached": True}, ["unplug"]),
        ({"leased": True, "state": "building"}, {"id": None}, []),
        ({"state": "stopped", "node": "hv1", "desired": "inactive"}, {"id": None}, ["unplug"]),
        ({"state": "stopped", "node": "hv2", "desired": "inactive"}, {"id": None}, []),
        ({"state": "stopped", "leased": True}, {"id": None}, []),
        ({"state": "stopped", "desired": "inactive"}, {}, []),
        (RUNS | {"id": None}, {"id": None}, ["destroy hv1"]),
    ],
)
def test_links(wanted: dict[str, Any], changes: dict[str, Any], expected: list[str]) -> None:
    state = wanted["state"]
    made = snapshot(row(**wanted), seen=report(machine(state)), interfaces=(card(**changes),))
    assert asked(made) == expected
    words = {"plug": "attach", "unplug": "detach"}
    made = snapshot(
        row(**wanted),
        seen=report(machine(state)),
        attachments=(link(**changes),),
        storages=(volume(),),
    )
    assert asked(made) == [words.get(word, word) for word in expected]


@pytest.mark.parametrize(
    ("wanted", "has", "expected"),
    [
        (RUNS, True, []),  # its guest was asked a moment ago
        (RUNS, False, ["detach out"]),  # and has let go
        ({"state": "stopped", "node": "hv1", "desired": "inactive"}, True, ["detach out"]),
    ],
)
def test_a_guest_that_has_not_let_go_is_asked_again_after_a_pause_or_once_it_has(
    wanted: dict[str, Any], has: bool, expected: list[str]
) -> None:
    seen = machine(wanted["state"], volumes=(SeenVolume(VOLUME, "vdc"),) if has else ())
    for act, due in (("detach", expected), (*(expected or ["detach"]), [])):
        before = {"act": act, "tries": 7, "again": NOW + 60}  # each has its pauses
        made = snapshot(
            row(**wanted),
            seen=report(seen),
            attachments=(link(id=None, attached=True, **before),),
            storages=(volume(),),
        )
        assert asked(made) == due


def test_a_volume_goes_to_one_machine_at_a_time() -> None:
    other = row(uid="x", id=None, **(RUNS | {"lease": "other"}))
    leaving = link(uid="y", id=None, compute="x")
    there = replace(machine("running"), id="x", lease="other")
    made = snapshot(
        row(**RUNS),
        other,
        seen=report(machine("running"), there),
        attachments=(leaving, link()),
        storages=(volume(),),
    )
    assert asked(made) == ["destroy hv1"]


@pytest.mark.parametrize(
    ("mixins", "other", "expected"),
    [
        ((True, True), "x", ["attach"]),
        ((True, False), "x", []),
        ((False, True), "x", []),
        ((True, True), UID, []),  # not twice in the same one
    ],
)
def test_a_volume_goes_to_several_machines_that_only_read(
    mixins: tuple[bool, bool], other: str, expected: list[str]
) -> None:
    mine, theirs = ([schema.READONLY] if reads else [] for reads in mixins)
    there = row(uid="x", desired="inactive", state="stopped", node="hv2")
    made = snapshot(
        row(**RUNS),
        there,
        seen=report(machine("running")),
        attachments=(link(mixins=mine), link(uid="y", compute=other, attached=True, mixins=theirs)),
        storages=(volume(),),
        under_way=frozenset({"y"}),
    )
    assert asked(made) == expected


@pytest.mark.parametrize(
    ("changes", "linked", "expected"),
    [
        ({"made": False}, (), ["make 1"]),
        ({"made": True}, (), []),
        ({"size": 3}, (), ["grow 3"]),
        ({"id": None, "made": False}, (), ["forget"]),
        ({"id": None, "made": False, "act": "make 1"}, (), ["delete"]),
        ({"id": None, "act": "make 1"}, (link(id=None),), []),
    ],
)
def test_volumes(changes: dict[str, Any], linked: tuple[Any, ...], expected: list[str]) -> None:
    idle = row(desired="inactive", leased=True)
    made = snapshot(
        idle, seen=NOWHERE, storages=(volume(**changes),), attachments=linked,
        under_way=frozenset({UID}),
    )  # fmt: skip
    assert asked(made) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["copy v"]),
        ({"made": True}, ["attach"]),
        ({"id": None}, ["forget", "attach"]),
        ({"id": None, "act": "copy v"}, ["delete", "attach"]),
        ({"reason": "no room"}, ["copy v", "attach"]),
        ({"owner": "/CN=Bob"}, ["copy v", "attach"]),  # it waits for no queue of Bob's
        ({"owner": "/CN=Bob", "act": "copy v"}, ["copy v"]),
    ],
)
def test_who_is_to_have_a_volume_waits_for_the_copy_of_it(
    changes: dict[str, Any], expected: list[str]
) -> None:
    copy = volume(**({"uid": "c", "made": False, "source": "v"} | changes))
    made = snapshot(
        row(**RUNS), seen=report(machine("running")), attachments=(link(storage="v"),),
        storages=(volume(uid="v"), copy),
    )  # fmt: skip
    assert sorted(asked(made)) == sorted(expected)


@pytest.mark.parametrize(
    ("sources", "why"),
    [((), "deleted"), (({"id": None, "act": "delete"},), "deleted"), (({"size": 3},), "grown")],
)
def test_a_copy_of_what_is_no_longer_is_told_of_once(
    sources: tuple[dict[str, Any], ...], why: str
) -> None:
    copy = volume(uid="c", made=False, has=0, source="v", reason="no room")

    def told() -> list[Action]:
        there = [volume(**({"uid": "v", "has": 3} | changes)) for changes in sources]
        made = snapshot(seen=NOWHERE, storages=(*there, copy))
        return [action for action in plan(made) if action.uid == "c"]

    [action] = told()
    assert action.act is Act.TELL
    assert f"been {why}" in action.why
    copy = replace(copy, reason=action.why)
    assert told() == []


def test_a_copy_that_has_begun_when_its_source_is_deleted_is_asked_for_to_its_end() -> None:
    begun = volume(uid="c", made=False, has=0, source="v", act="copy v")
    for sources in ((volume(uid="v", id=None, act="delete"),), ()):
        made = snapshot(seen=NOWHERE, storages=(*sources, begun))
        assert [action.act for action in plan(made) if action.uid == "c"] == [Act.COPY]
    made = snapshot(seen=NOWHERE, storages=(replace(begun, reason="there is no such volume"),))
    assert [action.act for action in plan(made)] == [Act.TELL]


def test_the_bait_of_the_vm_that_has_a_volume_copies_it() -> None:
    copy = volume(uid="c", made=False, source="v")
    rests = row(desired="inactive", state="stopped", node="hv2", ran=True)
    seen = (report(), report(node="hv2"))
    made = snapshot(
        rests, seen=seen, attachments=(link(storage="v"),), storages=(volume(uid="v"), copy)
    )
    assert [action.bait for action in plan(made) if action.act is Act.COPY] == [HV2]


def copies(*rows: dict[str, Any], seen: tuple[Report, ...] = (NOWHERE,), **more: Any) -> list[str]:
    """The copies that are asked for, each of a volume of its own, the oldest first; as «bait uid»
    where there are several baits."""
    sources = [volume(uid=f"v{n}") for n in range(len(rows))]
    made = [
        volume(**({"uid": f"c{n}", "made": False, "has": 0, "source": f"v{n}"} | changes))
        for n, changes in enumerate(rows)
    ]
    found = plan(snapshot(seen=seen, storages=(*sources, *made), **more))
    asked = [action for action in found if action.act is Act.COPY]
    return [f"{action.bait} {action.uid}" if seen[1:] else action.uid for action in asked]


def test_of_each_owners_copies_one_is_made_at_a_time() -> None:
    bobs: dict[str, Any] = {"owner": "/CN=Bob"}
    assert copies({}, {}, bobs, {}, bobs) == ["c0", "c2"]
    going: dict[str, Any] = {"act": "copy v1"}
    assert copies({}, going, bobs) == ["c1", "c2"]
    assert copies({}, going | {"again": NOW + 1}) == []  # looked at a moment ago
    assert copies({}, {}, under_way=frozenset({"c1"})) == []
    # One that can't be made, or not now, keeps no other waiting; nor does one that is there.
    later: dict[str, Any] = {"act": "copy v0", "again": NOW + 1}
    assert copies(later | {"reason": "no room"}, {}) == ["c1"]
    assert copies(later | {"tries": 1}, {}) == ["c1"]
    assert copies({"act": "copy v0", "made": True}, {}) == ["c1"]
    # One that is deleted while it is made is made to its end.
    assert copies({"act": "copy v0", "id": None}, {}) == []
    assert copies({"act": "delete", "tries": 1, "id": None}, {}) == []
    assert copies({"id": None}, {}) == ["c1"]


def test_copies_are_spread_over_the_baits() -> None:
    many = [{"owner": f"/CN={n}"} for n in range(40)]
    both = copies(*many, seen=(report(), report(node="hv2")))
    assert len(both) == 40
    for url in (HV1, HV2):
        assert 10 < sum(each.startswith(url) for each in both) < 30
    # While its bait answers a copy stays there, whoever else comes or goes.
    more = copies(*many, seen=(report(), report(node="hv2"), report(node="hv3")))
    kept = [each for each in both if each in more]
    assert {*more} - {*kept} == {each for each in more if each.startswith("https://hv3")}


def test_a_machine_waits_for_its_volumes() -> None:
    def waits(made: bool) -> Snapshot:
        return snapshot(
            row(),
            seen=NOWHERE,
            attachments=(link(),),
            storages=(volume(made=made, act="make 1", again=NOW + 1),),
        )

    assert asked(waits(made=False)) == ["tell"]
    assert asked(waits(made=True)) == ["submit"]


def test_saved_images() -> None:
    image = Saved(tag="a_saved_x86_64", owner="/CN=Anna", machine=UID, node="hv1")

    def planned(**changes: Any) -> list[str]:
        return asked(snapshot(seen=NOWHERE, saved=(image,), **changes))

    assert planned() == [f"save {UID}"]
    busy = SavedImages(tags=(), busy=(image.tag,))
    assert planned(saved_seen={"hv1": busy}) == []
    assert planned(saved_seen={"hv2": busy}) == [f"save {UID}"]
    none = {"hv1": SavedImages(tags=(), busy=())}
    image = replace(image, act=f"save {UID}")  # long ago
    assert planned() == []
    assert planned(saved_seen=none) == [f"save {UID}"]  # its bait was restarted
    image = replace(image, tries=1)
    assert planned() == [f"save {UID}"]
    image = replace(image, state="gone")
    assert planned(saved_seen={"hv1": busy}) == ["unsave"]


# VMs that share a user's network.


def on_net(uid: str, **changes: Any) -> tuple[Compute, Any]:
    return row(uid=uid, id=uid, **changes), card(
        uid=f"card-{uid}", compute=uid, network="u-5555555500", owned=NET
    )


def shared(*pairs: tuple[Compute, Any]) -> Snapshot:
    net = Network(**(COMMON | {"uid": NET, "id": NET, "name": "u-5555555500", "vni": 1}))
    return snapshot(
        *(pair[0] for pair in pairs),
        seen=(report(), report(node="hv2")),
        interfaces=tuple(pair[1] for pair in pairs),
        networks=(net,),
    )


def test_the_first_machine_decides_the_node_of_its_network() -> None:
    both = shared(on_net("a"), on_net("b"))
    assert [(action.act, action.uid) for action in plan(both)] == [
        (Act.SUBMIT, "a"),
        (Act.TELL, "b"),
    ]
    pending = on_net("a", leased=True, lease_state="pending", node="")
    assert [action.act for action in plan(shared(pending, on_net("b")))] == [Act.TELL]
    under_way = replace(shared(on_net("a"), on_net("b")), under_way=frozenset({"a"}))
    assert [(action.act, action.uid) for action in plan(under_way)] == [(Act.TELL, "b")]
    placed = on_net("a", leased=True, node="hv2")
    assert asked(shared(placed, on_net("b"))) == ["submit hv2"]
    stopped = on_net("a", desired="inactive", state="stopped", node="hv2", ran=True)
    assert asked(shared(stopped, on_net("b"))) == ["submit hv2"]


def test_machines_of_a_network_that_spans_nodes_go_wherever_there_is_room() -> None:
    spans = replace(shared(on_net("a"), on_net("b")), spans=True)
    assert [(each.act, each.uid) for each in plan(spans)] == [(Act.SUBMIT, "a"), (Act.SUBMIT, "b")]
    there = on_net("a", leased=True, node="hv2")
    here = on_net("b", state="stopped", node="hv1", ran=True)
    assert asked(replace(shared(there, here), spans=True)) == ["submit hv1"]


def test_a_disk_elsewhere_is_said() -> None:
    there = on_net("a", leased=True, node="hv2")
    here = on_net("b", state="stopped", node="hv1", ran=True)
    [told] = plan(shared(there, here))
    assert (told.act, told.why) == (Act.TELL, "its disk is on hv1, network u-5555555500 is on hv2")
    linked = replace(shared(there, on_net("b")), attachments=(link(compute="b"),))
    [told] = plan(replace(linked, storages=(volume(node="hv1"),)))
    assert told.why == f"volume {VOLUME} is on hv1, network u-5555555500 is on hv2"


def test_a_network_is_forgotten_after_its_last_card() -> None:
    net = Network(**(COMMON | {"uid": NET, "id": None, "name": "u-5555555500", "vni": 1}))
    leaving = card(id=None, owned=NET)
    runs = row(**RUNS)
    there = report(machine("running"))
    used = snapshot(runs, seen=there, interfaces=(leaving,), networks=(net,))
    assert asked(used) == ["unplug"]
    assert asked(snapshot(seen=there, networks=(net,))) == ["forget"]


# What holds for every snapshot.


def any_row() -> st.SearchStrategy[Compute]:
    return st.builds(
        row,
        id=st.sampled_from([UID, None]),
        desired=st.sampled_from(["active", "inactive", "suspended"]),
        leased=st.booleans(),
        state=st.sampled_from(
            ["", "requested", "building", "running", "suspended", "stopping", "stopped", "failed"]
        ),
        ran=st.booleans(),
        fault=st.booleans(),
        act=st.sampled_from(["", "stop graceful", "submit", "cancel 7"]),
        restart=st.sampled_from(["", "cold"]),
        lease_at=st.sampled_from([0.0, 1.0]),
    )


@given(any_row())
def test_nothing_is_asked_of_the_silent(some: Compute) -> None:
    """Without any word of a bait all that can follow is a word to the user."""
    some.lease_at = 1.0
    made = snapshot(some, silent=True)
    assert {action.act for action in plan(made)} <= {Act.TELL}


@given(any_row(), st.booleans())
def test_a_machine_that_its_user_wants_is_never_destroyed(some: Compute, here: bool) -> None:
    made = snapshot(some, seen=report(machine(some.state or "running")) if here else NOWHERE)
    assert some.gone or all(action.act is not Act.DESTROY for action in plan(made))


@given(any_row())
def test_whatever_is_planned_counts_as_unsettled(some: Compute) -> None:
    """So baits are asked often as long as anything is to be done."""
    made = snapshot(some, seen=report(machine(some.state)) if some.state else NOWHERE)
    acts = {action.act for action in plan(made)} - {Act.TELL}
    assert not acts or unsettled(made)


def test_ids() -> None:
    assert len({UID, CARD, LINK, VOLUME, LEASE, NET}) == 6


@pytest.mark.parametrize(
    ("wanted", "has", "at", "expected"),
    [
        ({INBOUND: 5}, {"inbound": 5}, NOW, []),
        ({}, {}, NOW, []),
        ({INBOUND: 5}, {"inbound": 6}, NOW, ["plug"]),
        ({INBOUND: 5}, {}, NOW, ["plug"]),
        ({}, {"outbound": 6}, NOW, ["plug"]),
        ({INBOUND: 5}, {"inbound": 6}, NOW - 20, []),  # it was asked since
    ],
)
def test_a_card_is_told_of_another_throughput(
    wanted: dict[str, Any], has: dict[str, Any], at: float, expected: list[str]
) -> None:
    nic = card(attached=True, acted=NOW - 10, attributes=wanted)
    there = machine("running", nics=(SeenNic(CARD, **has),))
    made = snapshot(row(**RUNS), seen=report(there, at=at), interfaces=(nic,))
    assert asked(made) == expected


def test_only_those_are_asked_often_whom_something_under_way_concerns() -> None:
    def names(**changes: Any) -> frozenset[str]:
        return concerned(snapshot(row(**changes)))

    assert names(**RUNS) == frozenset()
    assert names(**RUNS, desired="inactive") == {HV1, "hv1"}
    assert names(lease=LEASE, via=HV1, lease_state="pending", node="") == {HV1}
    assert names(**STOPPED, desired="active") == {"hv1"}
    assert names() == frozenset()
    assert unsettled(snapshot(row()))


class Counted(tuple[Any, ...]):
    """Counts how often it is gone through."""

    times = 0

    def __iter__(self) -> Iterator[Any]:
        Counted.times += 1
        return super().__iter__()


class CountedMap(dict[str, Any]):
    """The same of a mapping."""

    def __iter__(self) -> Iterator[str]:
        Counted.times += 1
        return super().__iter__()

    def values(self) -> Any:
        Counted.times += 1
        return super().values()


@pytest.mark.parametrize("state", ["new", "queued", "running", "stopped"])
def test_a_round_goes_through_all_as_often_however_many_vms_there_are(state: str) -> None:
    """Each VM has a card and a volume, of which each other one is to grow."""
    rows: dict[str, dict[str, Any]] = {
        "new": {},
        "queued": {"job": "7", "via": HV1, "lease_state": "pending"},
    }
    has = rows.get(state, RUNS | {"acted": NOW - 10})

    def made(many: int) -> Snapshot:
        ids = [
            [f"{n:08}-0000-4000-8000-00000000000{kind}" for kind in range(5)] for n in range(many)
        ]
        machines: list[Any] = [
            machine(state, id=vm, lease=lease, nics=(SeenNic(nic),), volumes=(SeenVolume(of),))
            for vm, lease, nic, _, of in ids
            if state not in rows
        ]
        ended = CountedMap({f"{n:08}-0000-4000-9000-000000000000": "" for n in range(many)})
        baits = CountedMap({HV1: replace(report(*machines), outcomes=ended)})
        return Snapshot(
            now=NOW,
            computes=Counted(
                row(**has | {"uid": vm, "lease": "" if state == "new" else lease})
                for vm, lease, *_ in ids
            ),
            interfaces=Counted(card(uid=nic, compute=vm) for vm, _, nic, _, _ in ids),
            attachments=Counted(link(uid=own, compute=vm, storage=of) for vm, _, _, own, of in ids),
            storages=Counted(volume(uid=of, has=n % 2) for n, (*_, of) in enumerate(ids)),
            reports=Reports(baits, CountedMap({"hv1": HV1}), all_answer=True),
        )

    def times(many: int) -> int:
        snapshot = made(many)
        Counted.times = 0
        observe(snapshot)
        plan(snapshot)
        unsettled(snapshot)
        concerned(snapshot)
        lease_end.doubtful(snapshot)
        return Counted.times

    assert times(8) == times(80) > 0
