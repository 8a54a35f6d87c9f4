"""What rows come to say, by what was seen, and by what was not."""

from dataclasses import replace
from typing import Any

import pytest

from occi_bridge.driver.lease_end import CONFIRMED_LATELY, SUBMITTED_LATELY, SURE, doubtful
from occi_bridge.driver.observe import observe
from occi_bridge.driver.replies import SavedImages
from occi_bridge.driver.reports import LeasesSeen, Machine, SeenFlow, SeenNic, SeenVolume
from occi_bridge.driver.snapshot import Snapshot
from occi_bridge.occi.schema import INBOUND
from occi_bridge.store.rows import Saved
from tests.unit.occi_bridge.snapshots import (
    CARD,
    HV1,
    HV2,
    LEASE,
    NOW,
    UID,
    VOLUME,
    card,
    link,
    listed,
    machine,
    report,
    row,
    snapshot,
)
from wnodes_lrms.restarts import TOLD

RUNS: dict[str, Any] = {"leased": True, "state": "running", "ran": True, "act": "submit"}
OVER: dict[str, Any] = {"lease": "", "job": "", "via": "", "lease_state": ""}
NO_LEASE = listed()
TAG = "a_saved_x86_64"


def observed(made: Snapshot) -> dict[str, object]:
    """The new values of the one row that changes."""
    changes = observe(made)
    assert len(changes) <= 1
    return changes[0].values if changes else {}


def test_what_is_seen() -> None:
    seen = machine("running", since=5.0)
    assert observed(snapshot(row(leased=True), seen=report(seen))) == {
        "state": "running",
        "since": 5.0,
        "ran": True,
    }
    assert observed(snapshot(row(**RUNS, since=5.0), seen=report(seen))) == {}


def test_what_was_seen_before_the_last_act_says_nothing() -> None:
    assert observed(snapshot(row(leased=True, acted=NOW), seen=report(machine("running")))) == {}


LIES = (
    machine("running", since=9.0, nics=(SeenNic(CARD, "52:54:00:66:66:66", "192.0.2.66"),)),
    machine("failed", lease=LEASE, reason="gone"),
    machine("stopped"),
    machine("running", lease=UID, job="8"),
)


@pytest.mark.parametrize("lie", LIES)
def test_only_its_own_node_is_believed_of_a_machine(lie: Machine) -> None:
    """Another one says that it has it, or that its lease is over."""
    seen = (report(machine("running")), report(lie, node="hv2", over="it never was"))
    cards = (card(attached=True),)
    runs = row(**RUNS)
    alone = observed(snapshot(runs, seen=seen[0], interfaces=cards))
    assert observed(snapshot(runs, seen=seen, interfaces=cards)) == alone
    assert observed(snapshot(runs, seen=seen[1:], interfaces=cards)) == {}
    stopped = row(desired="inactive", state="stopped", ran=True, node="hv1")
    here = report(machine("stopped"))
    assert observed(snapshot(stopped, seen=(here, seen[1]))) == {}


@pytest.mark.parametrize("lie", LIES[:3])
def test_nobody_has_a_machine_before_its_order(lie: Machine) -> None:
    waits = row(leased=True, lease_state="pending", node="", desired="active")
    told = observed(snapshot(waits, seen=report(lie, over="it never was")))
    assert "lease" not in told
    assert told.get("state") != "running"


def test_a_machine_does_not_take_the_lease_of_another() -> None:
    """Its node says so; whoever then deletes it would have the other's lease cancelled."""
    other = row(uid=VOLUME, id=VOLUME, leased=True, lease_state="pending", node="")
    mine = row(desired="inactive", state="stopped", ran=True, node="hv2")
    there = report(machine("running"), node="hv2")
    changes = observe(snapshot(mine, other, seen=there))
    assert all("lease" not in change.values for change in changes)


def test_a_machine_that_runs_under_a_lease_unknown_to_us_is_taken_up() -> None:
    """As after a database was put back from a backup."""
    values = observed(snapshot(row(desired="inactive"), seen=report(machine("running"))))
    assert (values["lease"], values["job"], values["state"]) == (LEASE, "7", "running")
    assert values["via"] == HV1  # who ends it, if it is to end
    older = row(lease="older", job="6", via=HV1, lease_at=1.0)
    values = observed(snapshot(older, seen=report(machine("running")), leases=listed("running")))
    assert (values["lease"], values["job"]) == (LEASE, "7")
    assert "desired" not in values
    ended = snapshot(row(), seen=report(machine("stopping"), over="walltime"))
    assert "lease" not in observed(ended)


# A lease in the LRMS.


def test_a_pending_lease_tells_why_it_waits() -> None:
    waits = row(leased=True, lease_state="", node="", job="")
    values = observed(snapshot(waits, leases=listed("pending", reason="Priority")))
    assert values == {"lease_state": "pending", "job": "7", "reason": "Priority"}


@pytest.mark.parametrize(
    ("known", "told", "written"),
    [(0.0, 5000.0, 5000.0), (5000.0, 5059.0, None), (5000.0, 5060.0, 5060.0), (5000.0, 0.0, 0.0)],
)
def test_when_a_lease_is_to_begin_is_written_down_once_a_minute(
    known: float, told: float, written: float | None
) -> None:
    waits = row(leased=True, lease_state="pending", node="", job="7", expected=known)
    [lease] = listed("pending").leases[LEASE]
    queue = LeasesSeen(NOW, {LEASE: (replace(lease, expected=told),)})
    assert observed(snapshot(waits, leases=queue)).get("expected") == written


def test_a_list_that_is_older_than_the_machine_tells_no_reason_to_wait() -> None:
    """Seen: an active VM whose message was «Priority», for as long as it ran."""
    queue = listed("pending", reason="Priority")
    waited = row(leased=True, reason="Priority")
    begins = snapshot(waited, seen=report(machine("running")), leases=queue)
    assert observed(begins)["reason"] == ""
    assert "reason" not in observed(
        snapshot(row(**RUNS), seen=report(machine("running")), leases=queue)
    )


def test_a_running_lease_has_its_node_by_its_order_only() -> None:
    waits = row(leased=True, lease_state="pending", node="")
    values = observed(snapshot(waits, leases=listed("running")))
    assert values == {"lease_state": "running", "began": NOW}


@pytest.mark.parametrize(
    ("job", "desired", "age", "over"),
    [
        ("7", "active", CONFIRMED_LATELY - 0.1, False),
        ("7", "active", CONFIRMED_LATELY + 0.1, True),
        ("", "inactive", SUBMITTED_LATELY - 0.1, False),
        ("", "inactive", SUBMITTED_LATELY + 0.1, True),
        ("", "active", 1000, False),  # its order has reached nobody: it is given out again
    ],
)
def test_a_lease_that_is_not_listed_is_over_after_a_while(
    job: str, desired: str, age: float, over: bool
) -> None:
    submitted = row(leased=True, job=job, desired=desired, node="", lease_at=NOW - age)
    assert ("lease" in observed(snapshot(submitted, leases=NO_LEASE, gone=SURE))) == over


WAITS = row(leased=True, lease_state="pending", node="")
BOTH = (report(), report(node="hv2"))


@pytest.mark.parametrize(
    ("told", "over"),
    [
        ({"leases": NO_LEASE, "gone": SURE}, True),
        ({"leases": listed("ended"), "gone": SURE}, True),
        ({"leases": NO_LEASE, "gone": SURE - 0.1}, False),  # it may have just come back
        ({"leases": NO_LEASE}, False),  # it does not say so, or does not answer
        ({"leases": listed("pending"), "gone": SURE}, False),
        ({"leases": listed("unknown"), "gone": SURE}, False),
        ({"gone": 1000.0}, False),  # the bait that has submitted it does not tell
        ({"leases": NO_LEASE, "by": HV2, "gone": 1000.0}, False),  # that has never heard of it
    ],
)
def test_a_queued_lease_is_over_by_its_submitter_and_the_batch_system(
    told: dict[str, Any], over: bool
) -> None:
    assert ("lease" in observed(snapshot(WAITS, seen=BOTH, **told))) == over


def test_the_batch_system_is_asked_through_another_bait() -> None:
    assert doubtful(snapshot(WAITS, seen=BOTH, leases=NO_LEASE)) == {"7": (HV2,)}
    assert doubtful(snapshot(WAITS, seen=BOTH[0], leases=NO_LEASE)) == {"7": (HV1,)}
    for nothing_to_ask in (
        snapshot(WAITS, seen=BOTH),
        snapshot(WAITS, seen=BOTH, leases=listed("pending")),
        snapshot(row(**RUNS), seen=report(machine("running")), leases=NO_LEASE),
        snapshot(row(**RUNS), leases=NO_LEASE),
        snapshot(row(), seen=BOTH, leases=NO_LEASE),
    ):
        assert doubtful(nothing_to_ask) == {}


def test_a_cancelled_lease_is_over_once_both_say_so() -> None:
    cancelled = row(leased=True, lease_state="pending", node="", desired="inactive", act="cancel 7")
    assert "lease" in observed(snapshot(cancelled, leases=NO_LEASE, gone=0.0))
    assert "lease" not in observed(snapshot(cancelled, leases=NO_LEASE))


def test_a_lease_whose_submitter_the_site_has_taken_away() -> None:
    orphan = row(leased=True, via="https://hv9:8445", node="")
    assert "lease" in observed(snapshot(orphan, seen=BOTH, gone=SURE))
    assert "lease" not in observed(snapshot(orphan, seen=BOTH))


def test_an_lrms_that_does_not_answer_ends_nothing() -> None:
    assert observed(snapshot(row(leased=True), leases=None)) == {}
    assert observed(snapshot(row(**RUNS), leases=None)) == {}


def test_a_machine_that_lives_under_its_lease_outweighs_the_list() -> None:
    """The bait ends it by itself if the lease is over; the next report tells."""
    runs = snapshot(row(**RUNS), seen=report(machine("running")), leases=NO_LEASE)
    assert "lease" not in observed(runs)


# A lease is over: what becomes of the desired state.


def test_a_guest_that_powers_itself_off() -> None:
    seen = machine("stopped", reason="the guest shut down")
    values = observed(snapshot(row(**RUNS), seen=report(seen)))
    assert values | OVER == values
    assert values["desired"] == "inactive"
    assert values["reason"] == "the guest shut down"
    assert values["state"] == "stopped"
    assert "fault" not in values


def test_a_start_that_fails_is_an_error_with_its_reason() -> None:
    submitted = row(leased=True)
    values = observed(snapshot(submitted, seen=report(over="no space left")))
    assert values["fault"] is True
    assert (values["desired"], values["reason"]) == ("inactive", "no space left")
    seen = report(machine("failed", lease=LEASE, reason="no space left"))
    values = observed(snapshot(submitted, seen=seen))
    assert (values["fault"], values["reason"], values["state"]) == (True, "no space left", "failed")


def test_an_old_disk_does_not_end_a_new_lease() -> None:
    """The bait still lists the VM as stopped, or as failed, from the time before."""
    for state in ("stopped", "suspended", "failed"):
        again = row(leased=True, lease_state="pending", state=state, ran=True)
        seen = report(machine(state, lease="", job=""))
        assert observed(snapshot(again, seen=seen, leases=listed("pending"))) == {}


@pytest.mark.parametrize("state", ["building", "running", "stopping"])
def test_stopped_as_asked(state: str) -> None:
    asked = row(**(RUNS | {"desired": "inactive", "state": state, "reason": "x"}))
    values = observed(snapshot(asked, seen=report(machine("stopped"))))
    assert values | OVER == values
    assert values["reason"] == ""
    assert "desired" not in values


@pytest.mark.parametrize("act", ["stop graceful", "suspend hibernate", "cancel 7"])
def test_started_again_before_the_stop_was_over(act: str) -> None:
    values = observed(snapshot(row(**(RUNS | {"act": act})), seen=report(machine("stopped"))))
    assert values["lease"] == ""
    assert "desired" not in values


def test_hibernated_as_asked() -> None:
    asked = row(**(RUNS | {"desired": "suspended"}))
    values = observed(snapshot(asked, seen=report(machine("suspended", lease=""))))
    assert (values["lease"], values["state"]) == ("", "suspended")
    assert "desired" not in values


def test_a_machine_that_could_not_be_hibernated_goes_on() -> None:
    asked = row(**(RUNS | {"desired": "suspended", "act": "suspend hibernate"}))
    values = observed(snapshot(asked, seen=report(machine("running", reason="no room"))))
    assert values["act"] == ""  # a later request is not taken for this one
    assert (values["desired"], values["reason"]) == ("active", "no room")
    before = row(**(RUNS | {"desired": "suspended"}))
    assert observed(snapshot(before, seen=report(machine("running", reason="no room")))) == {}


def test_a_guest_that_did_not_restart_is_told_of_until_its_bait_says_so_no_more() -> None:
    for said in TOLD:
        assert observed(snapshot(row(**RUNS), seen=report(machine("running", reason=said)))) == {
            "reason": said
        }
        told = row(**(RUNS | {"reason": said}))
        assert observed(snapshot(told, seen=report(machine("running", reason=said)))) == {}
        assert observed(snapshot(told, seen=report(machine("running")))) == {"reason": ""}
    refused = row(**(RUNS | {"reason": "a restart was refused"}))
    assert observed(snapshot(refused, seen=report(machine("running")))) == {}


def test_a_guest_that_puts_itself_to_sleep_is_not_woken_and_may_wake_by_itself() -> None:
    slept = report(machine("suspended", reason="it sleeps"))
    values = observed(snapshot(row(**RUNS), seen=slept))
    assert (values["state"], values["desired"], values["reason"]) == (
        *("suspended", "suspended", "it sleeps"),
    )
    asleep = row(**(RUNS | {"state": "suspended", "desired": "suspended"}))
    values = observed(snapshot(asleep, seen=report(machine("running"))))
    assert (values["state"], values["desired"]) == ("running", "active")
    started = row(**(RUNS | {"state": "suspended"}))
    assert "desired" not in observed(snapshot(started, seen=slept))  # its user's word


def test_why_a_guest_stands_still_is_not_lost_to_a_listing_that_is_older() -> None:
    young = row(**(RUNS | {"lease_state": "pending"}))
    slept = report(machine("suspended", reason="it sleeps"))
    values = observed(snapshot(young, seen=slept, leases=listed("pending")))
    assert (values["desired"], values["reason"]) == ("suspended", "it sleeps")
    hibernated = row(**(RUNS | {"state": "suspended", "lease_state": "pending"}))  # and started
    queue = listed("pending", reason="Priority")
    assert observed(snapshot(hibernated, leases=queue))["reason"] == "Priority"


def test_a_suspension_that_was_asked_for_is_not_the_guests() -> None:
    again = row(**(RUNS | {"act": "suspend suspend"}))  # started before it was suspended
    assert "desired" not in observed(snapshot(again, seen=report(machine("suspended"))))
    asked = row(**(RUNS | {"act": "suspend suspend", "state": "suspended", "desired": "suspended"}))
    assert "desired" not in observed(snapshot(asked, seen=report(machine("running"))))


def test_a_lease_that_ends_while_its_machine_is_paused() -> None:
    paused = row(**(RUNS | {"desired": "suspended", "state": "suspended"}))
    seen = report(machine("stopped"), over="walltime")
    values = observed(snapshot(paused, seen=seen))
    assert (values["desired"], values["reason"]) == ("inactive", "walltime")


@pytest.mark.parametrize("ordered", [RUNS, {"leased": True, "state": "building"}, {"leased": True}])
def test_nobody_else_ends_a_lease_that_may_have_begun_on_a_silent_node(
    ordered: dict[str, Any],
) -> None:
    unheard = snapshot(row(**ordered), seen=report(node="hv2"), leases=NO_LEASE, gone=1000.0)
    assert observed(unheard) == {}
    heard = snapshot(row(**ordered), seen=report(), leases=NO_LEASE, gone=SURE)
    assert observed(heard)["lease"] == ""


def test_a_deleted_machine_loses_its_lease_and_nothing_else() -> None:
    gone = row(**(RUNS | {"id": None}))
    values = observed(snapshot(gone, seen=report(over="destroyed")))
    assert values | OVER == values
    assert "desired" not in values


# A VM that its node no longer has.


def test_a_lost_disk_is_an_error() -> None:
    stopped = row(desired="inactive", state="stopped", ran=True, node="hv1")
    values = observed(snapshot(stopped, seen=report()))
    assert (values["state"], values["ran"], values["fault"]) == ("", False, True)
    assert values["reason"] == "its disk is no longer on hv1"


@pytest.mark.parametrize("silent", [True, False])
def test_but_not_while_that_node_is_silent(silent: bool) -> None:
    stopped = row(desired="inactive", state="stopped", ran=True, node="hv1")
    assert observed(snapshot(stopped, seen=report(node="hv2"), silent=silent)) == {}


# Links.


def test_links_of_a_machine_that_runs() -> None:
    seen = machine(
        "running",
        nics=(SeenNic(CARD, "52:54:00:00:00:01", "10.0.0.5/24"),),
        volumes=(SeenVolume(VOLUME, "vdc"),),
    )
    runs = row(**RUNS)
    made = snapshot(runs, seen=report(seen), interfaces=(card(),), attachments=(link(),))
    first, second = observe(made)
    assert first.values == {
        "attached": True,
        "address": "10.0.0.5/24",
        "seen_mac": "52:54:00:00:00:01",
    }
    assert second.values == {"attached": True, "device": "vdc"}
    without = snapshot(runs, seen=report(machine("running")), interfaces=(card(attached=True),))
    assert observed(without) == {"attached": False}
    before = snapshot(runs, seen=report(seen, at=NOW - 1), interfaces=(card(acted=NOW),))
    assert observed(before) == {}


# Saved images.


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (SavedImages(tags=()), {}),
        (SavedImages(tags=(TAG,), busy=(TAG,)), {}),
        (SavedImages(tags=(TAG,)), {"state": "ready"}),
        (SavedImages(tags=(), failed={TAG: "full"}), {"state": "failed", "reason": "full"}),
    ],
)
def test_saved_images(seen: SavedImages, expected: dict[str, object]) -> None:
    image = Saved(tag=TAG, owner="/CN=Anna", machine=UID, node="hv1")
    assert observed(snapshot(saved=(image,), saved_seen={"hv1": seen})) == expected
    assert observed(snapshot(saved=(image,), saved_seen={"hv2": seen})) == {}


def test_nothing_is_observed_of_what_is_under_way() -> None:
    made = snapshot(row(leased=True), seen=report(machine("running")), under_way=frozenset({UID}))
    assert observed(made) == {}
    assert HV1 in made.reports.baits


FLOW = SeenFlow(limit=5, passing=4_260_000, dropped=3)
SHOWN = {"inbound.limit": 5, "inbound.measured": 4.3, "inbound.dropped": 3, "at": NOW}


@pytest.mark.parametrize(
    ("before", "written"),
    [
        ({}, True),
        # It changes all the time: of all cards in the same round, where a minute is over.
        (SHOWN | {"at": NOW - NOW % 60, "inbound.measured": 1.0}, False),
        (SHOWN | {"at": NOW - NOW % 60 - 1, "inbound.measured": 1.0}, True),
        (SHOWN | {"at": NOW - 1, "inbound.limit": 6}, True),
    ],
)
def test_what_a_card_carries_is_written_down_now_and_then(
    before: dict[str, float], written: bool
) -> None:
    there = machine("running", nics=(SeenNic(CARD, flows={"inbound": FLOW}),))
    nic = card(attached=True, flows=before)
    made = snapshot(row(**RUNS, since=5.0), seen=report(there), interfaces=(nic,))
    changes = [each.values for each in observe(made) if each.row is nic]
    assert [each.get("flows") for each in changes] == ([SHOWN] if written else [])


def test_a_refused_throughput_stays_told() -> None:
    nic = card(attached=True, attributes={INBOUND: 5}, reason="this node can't")
    there = machine("running", nics=(SeenNic(CARD),))
    made = snapshot(row(**RUNS, since=5.0), seen=report(there), interfaces=(nic,))
    assert [each for each in observe(made) if "reason" in each.values] == []
