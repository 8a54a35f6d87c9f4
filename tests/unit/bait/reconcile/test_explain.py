"""On a real ledger: what it says of jobs and VMs in every state."""

import uuid
from dataclasses import replace
from typing import Any

import pytest

from bait.hypervisor.domain import FULL, PANICKED
from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.ledger.states import MOVES
from bait.reconcile.explain import Rules, why
from tests.unit.bait.reconcile.ledgerrows import BATCH, NOW, TAG, job, lease
from wnodes_lrms.cli.why import sentences
from wnodes_lrms.errors import AbsentError, RejectedError
from wnodes_lrms.lrms.interface import Failure
from wnodes_lrms.lrms.systems import SYSTEMS
from wnodes_lrms.model import Kind, State, machine_id

RULES = Rules(70.0, 2, None, None, SYSTEMS["slurm"].after_failure)
LIFE = (State.BUILDING, State.STARTING, State.BOOTING, State.READY)


def told(ledger: Ledger, name: str, rules: Rules = RULES, now: float = NOW) -> dict[str, Any]:
    said = why(ledger, name, now, rules)
    for title in ("asked", "stands", "next", "history"):
        assert said[title], title
    assert "None" not in "\n".join(sentences(said | {"node": "hv1", "name": name}))
    return said


def test_a_job_that_runs(ledger: Ledger) -> None:
    job(ledger, *LIFE)
    said = told(ledger, "12")
    assert (said["machine"], said["job"], said["state"]) == (BATCH, "12", "ready")
    assert said["asked"] == [f"job 12 of uid 1001 asked for a VM from image {TAG}"]
    assert said["decided"] == [
        "the batch system's allocation gives it 2 cores and, less what the hypervisor needs,"
        " 384 MiB"
    ]
    assert said["stands"][0].startswith(f"VM {BATCH} runs at 127.0.0.2, since ")
    assert said["next"] == [
        "when job 12 ends: its epilog has the VM and all that it has removed",
        "when the batch system does not list job 12 any more: the VM and all that it has are"
        " removed, after [bait] grace",
        "when its domain and its process are gone: it counts as lost, and whoever waits for it"
        " hears that",
    ]
    assert [event["what"] for event in said["history"]][:2] == ["requested", "allocation read"]


def test_the_beginning_of_a_machines_id_is_enough(ledger: Ledger) -> None:
    job(ledger, *LIFE)
    for beginning in (BATCH[:8], BATCH[:8].upper()):
        assert told(ledger, beginning) == told(ledger, BATCH) | {"name": beginning}


def test_an_unknown_name(ledger: Ledger) -> None:
    job(ledger)
    for name in ("13", "nonsense", "ffffffff", BATCH + "0", "' OR 1"):
        with pytest.raises(AbsentError, match="nothing is known"):
            why(ledger, name, NOW, RULES)


def test_a_beginning_that_several_have(ledger: Ledger) -> None:
    for end in "12":
        ledger.promise(Row(f"abcd{end}", end, 0, State.REQUESTED, NOW))
    with pytest.raises(RejectedError, match="abcd1, abcd2"):
        why(ledger, "abcd", NOW, RULES)


def test_a_job_that_is_only_announced(ledger: Ledger) -> None:
    ledger.promise(Row(BATCH, "12", 0, State.REQUESTED, NOW))
    said = told(ledger, "12")
    assert "not in the ledger" in said["asked"][0]
    assert said["next"][0] == "it goes on being made: it was promised and not finished"


@pytest.mark.parametrize(
    ("retry", "restart", "next_"),
    [
        (True, 0, "its job's starter asks the batch system to run the job again: try 2 of 3"),
        (True, 1, "its job's starter asks the batch system to run the job again: try 3 of 3"),
        (True, 2, "its job's starter asks the batch system to hold the job: once that is mended"),
        (False, 0, "its job's starter asks the batch system to hold the job: once that is mended"),
    ],
)
def test_a_job_whose_machine_failed(ledger: Ledger, retry: bool, restart: int, next_: str) -> None:
    row = job(ledger, State.BUILDING, restart=restart)
    ledger.change(row.id, "failed: no room", state=State.FAILED, reason="no room", retry=retry)
    said = told(ledger, "12")
    assert "no room" in said["decided"]
    assert ("another try may help" in said["decided"]) is retry
    assert said["next"][0].startswith(next_)
    assert any("the VM and all that it has are removed" in text for text in said["next"])


def test_each_batch_system_has_its_own_words_for_a_failure(ledger: Ledger) -> None:
    """Those of all: tests/unit/wnodes_lrms/lrms/test_behaviour.py."""
    row = job(ledger, State.BUILDING, restart=1)
    ledger.change(row.id, "failed", state=State.FAILED, reason="no disk", retry=True)
    rules = replace(RULES, after_failure=lambda failed: f"{failed}")
    said = told(ledger, row.id, rules)["next"][0]
    assert said == str(Failure("12", retry=True, restart=1, retries=2))


def test_the_last_try_of_a_job_is_told(ledger: Ledger) -> None:
    first = job(ledger, State.BUILDING, State.FAILED)
    ledger.change(first.id, "ending", state=State.ENDING)
    ledger.forget(first, "gone")
    job(ledger, *LIFE, restart=1)
    said = told(ledger, "12")
    assert (said["machine"], said["state"]) == (machine_id("box", "12", 1), "ready")
    assert {event["machine"] for event in said["history"]} == {first.id, said["machine"]}


def test_a_job_that_is_over(ledger: Ledger) -> None:
    row = job(ledger, *LIFE)
    ledger.change(row.id, "ending", state=State.ENDING)
    ledger.forget(row, "gone")
    for name in ("12", BATCH, BATCH[:6]):
        said = told(ledger, name)
        assert (said["state"], said["next"]) == ("gone", ["nothing: it is over"])
        assert said["asked"] == [f"job 12 of uid 1001 asked for a VM from image {TAG}"]
        assert "ran for 0 s; ended at " in said["stands"][1]


def test_a_machine_that_never_ran(ledger: Ledger) -> None:
    row = job(ledger)
    ledger.forget(row, "asks for no VM")
    assert told(ledger, "12")["stands"] == [f"VM {BATCH} is gone, and never ran in this allocation"]


def test_a_cloud_machine_that_runs(ledger: Ledger) -> None:
    row, order = lease(ledger, State.BUILDING, State.STARTING, State.READY)
    for name in (row.id, "20", str(order.lease), row.id[:8]):
        said = told(ledger, name)
        assert (said["machine"], said["lease"], said["job"]) == (row.id, str(order.lease), "20")
        assert said["asked"] == [
            f"/C=IT/O=Box/CN=Alice ordered a VM from image {TAG}: 1 core, 256 MiB,"
            " for 3600 s at a time"
        ]
        assert said["decided"][0] == f"lease {order.lease} is job 20 of the batch system"
        over, lost, ends = said["next"]
        assert "the VM is ended at once, and its disk is kept" in over
        assert "counts as lost" in lost
        assert ends.startswith("at 20")
        assert "the guest is told to shut down" in ends


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (State.SUSPENDED, ""),
        (State.ASLEEP, "the guest has put itself to sleep"),
        (State.READY, PANICKED),
    ],
)
def test_a_cloud_machine_that_stands_still_as_it_should(
    ledger: Ledger, state: State, reason: str
) -> None:
    row, _ = lease(ledger, State.BUILDING, State.STARTING, State.READY)
    ledger.change(row.id, str(state), state=state, reason=reason)
    said = told(ledger, row.id)
    assert not reason or reason in said["decided"]
    assert all(text.startswith(("when ", "at ")) for text in said["next"]), said["next"]


def test_a_cloud_machine_that_waits_for_room(ledger: Ledger) -> None:
    row, _ = lease(ledger, State.BUILDING, State.STARTING, State.READY)
    ledger.change(row.id, FULL, reason=FULL)
    said = told(ledger, row.id)
    assert FULL in said["decided"]
    assert said["next"][0] == "the guest goes on: there may be room again"


def test_a_lease_that_is_nearly_over(ledger: Ledger) -> None:
    row, _ = lease(ledger, State.BUILDING, State.STARTING, State.READY)
    assert row.ends
    said = told(ledger, row.id, now=row.ends - 60)
    assert said["next"][0].startswith("the guest is told to shut down")


def test_a_machine_at_rest_and_its_earlier_lease(ledger: Ledger) -> None:
    row, order = lease(ledger, State.BUILDING, State.STARTING, State.READY)
    ledger.change(row.id, "stopping", state=State.STOPPING)
    ledger.rest(row, State.STOPPED, "its user has stopped it", 0)
    said = told(ledger, row.id)
    assert said["state"] == "stopped"
    assert said["next"] == [
        "it starts when its user asks for that, here, where its disk is, by a new lease"
    ]
    assert any("exit code 0: its user has stopped it" in text for text in said["decided"])
    drained = told(ledger, row.id, replace(RULES, drained="the node is drained: x"))
    assert "the node is drained: x" in drained["decided"]
    assert "`wnodes host resume`" in drained["next"][1]

    _, again = lease(ledger, State.BUILDING, State.STARTING, State.READY, job="21")
    assert told(ledger, row.id)["lease"] == str(again.lease)
    for name in (str(order.lease), "20"):
        earlier = told(ledger, name)
        assert (earlier["job"], earlier["state"]) == ("20", "gone")
        assert "is gone from this allocation" in earlier["stands"][0]


def test_an_order_that_was_refused(ledger: Ledger) -> None:
    refused, machine = str(uuid.uuid4()), str(uuid.uuid4())
    # The prolog of a lease's job makes a row that goes again.
    job_row = Row("0" * 8, "30", 0, State.REQUESTED, NOW)
    ledger.promise(job_row)
    ledger.refuse_lease(refused, machine, "30", "order refused: it is for another cluster")
    ledger.forget(job_row, "asks for no VM")
    for name in (refused, machine, "30"):
        said = told(ledger, name)
        assert (said["machine"], said["lease"], said["job"]) == (machine, refused, "30")
        assert said["decided"][1].endswith("exit code 1: order refused: it is for another cluster")
        assert said["next"] == ["nothing: it is over"]


def test_a_node_that_is_drained_by_a_time(ledger: Ledger) -> None:
    rules = replace(RULES, drained="the node is drained: new kernel", drain_by=NOW + 1000)
    job(ledger, *LIFE)
    said = told(ledger, "12", rules)
    assert "the node is drained: new kernel" in said["decided"]
    assert any(
        "ended, and the batch system is asked to run its job again" in text for text in said["next"]
    )
    row, _ = lease(ledger, State.BUILDING, State.STARTING, State.READY)
    told_of = told(ledger, row.id, rules)["next"]
    assert len([text for text in told_of if "told to shut down" in text]) == 2


@pytest.mark.parametrize("kind", Kind)
def test_there_is_a_word_for_every_state(ledger: Ledger, kind: Kind) -> None:
    """Whatever the table of lives allows; states are set past it, in the file."""
    row = job(ledger, *LIFE) if kind is Kind.BATCH else lease(ledger, State.BUILDING)[0]
    states = {new for _, new in MOVES[kind] if new}
    for state in sorted(states):
        with ledger.store.change() as db:
            db.execute("UPDATE machine SET state = ?", (state,))
        said = told(ledger, row.id)
        assert said["state"] == state
        told(ledger, row.id, replace(RULES, drained="drained", drain_by=NOW + 1000))
        told(ledger, row.id, replace(RULES, drained="drained", drain_by=NOW - 1000))
