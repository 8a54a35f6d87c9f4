"""Which jobs a bait tries again for their owners, how often, and which it holds."""

import time

import pytest

from bait.frontend.retry import again
from bait.ledger.records import Row
from tests.unit.conftest import NOBODY, Bait, Batch, Node, needs_root
from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.model import State, machine_id

pytestmark = needs_root
UID = NOBODY.pw_uid


class Operators(Batch):
    """In the place of a batch system that lets operators alone rerun a job."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []
        self.refuses = False
        self.once = ""

    def runs_once(self, job: str) -> str:  # noqa: ARG002 (the protocol's)
        return self.once

    def requeue(self, job: str) -> None:
        if self.refuses:
            raise UnknownError("qrerun: Unauthorized Request")
        self.done.append(f"requeue {job}")

    def hold(self, job: str, reason: str) -> None:
        self.done.append(f"hold {job}: {reason}")


@pytest.fixture
def operators(node: Node) -> Operators:
    node.batch = Operators()
    return node.batch


def failed(node: Node, batch: Batch, restart: int = 0, retry: bool = True) -> Bait:
    """A bait with a job whose VM of this run has failed."""
    batch.grant("7", restart=restart)
    bait = node.bait()
    machine = machine_id("box", "7", restart)
    node.ledger.promise(Row(machine, "7", restart, State.REQUESTED, time.time()))
    node.ledger.change(
        machine, "failed: no room", state=State.FAILED, reason="no room", retry=retry
    )
    return bait


def test_a_job_is_tried_again_a_few_times_and_then_held(node: Node, operators: Operators) -> None:
    acts = []
    for restart in range(3):
        bait = failed(node, operators, restart)
        acts += [answer["act"] for answer in again(bait.batch, JobId("7"), UID)]
    assert acts == [
        "asks the batch system for another run: try 2 of 3",
        "requeued: try 2 of 3",
        "asks the batch system for another run: try 3 of 3",
        "requeued: try 3 of 3",
        "asks the batch system for a hold",
        "held: an operator releases it when the cause is mended",
    ]
    assert operators.done == ["requeue 7", "requeue 7", "hold 7: no room"]
    assert acts[-1] in [event.what for event in node.ledger.events("7")]


def test_what_was_decided_is_said_after_the_batch_system_has_agreed(
    node: Node, operators: Operators
) -> None:
    answers = again(failed(node, operators).batch, JobId("7"), UID)
    assert next(answers) == {"act": "asks the batch system for another run: try 2 of 3"}
    assert operators.done == []
    assert next(answers) == {"act": "requeued: try 2 of 3"}
    assert operators.done == ["requeue 7"]


def test_a_job_that_runs_but_once_is_promised_nothing(node: Node, operators: Operators) -> None:
    operators.once = "it was submitted with `qsub -r n`"
    with pytest.raises(RejectedError, match=r"^it was submitted with `qsub -r n`$"):
        list(again(failed(node, operators).batch, JobId("7"), UID))
    assert operators.done == []


def test_only_the_owner_may_ask(node: Node, operators: Operators) -> None:
    bait = failed(node, operators)
    for uid in (0, UID + 1):
        with pytest.raises(RejectedError, match="not yours"):
            list(again(bait.batch, JobId("7"), uid))
    assert operators.done == []


def test_a_wish_that_can_never_be_served_is_not_tried_again(
    node: Node, operators: Operators
) -> None:
    with pytest.raises(RejectedError, match=r"^no room$"):
        list(again(failed(node, operators, retry=False).batch, JobId("7"), UID))
    assert operators.done == []


def test_a_machine_that_has_not_failed_or_failed_in_another_run(
    node: Node, operators: Operators
) -> None:
    bait = failed(node, operators)
    operators.grant("7", restart=1)
    with pytest.raises(RejectedError, match="has not failed"):
        list(again(bait.batch, JobId("7"), UID))
    operators.grant("8")
    with pytest.raises(RejectedError, match="has not failed"):
        list(again(bait.batch, JobId("8"), UID))
    assert operators.done == []


def test_a_batch_system_that_refuses_or_is_away(node: Node, operators: Operators) -> None:
    bait = failed(node, operators)
    operators.refuses = True
    with pytest.raises(UnknownError, match="Unauthorized"):
        list(again(bait.batch, JobId("7"), UID))
    said = [event.what for event in node.ledger.events("7")]
    assert said[-1] == "not tried again: qrerun: Unauthorized Request"
    assert not any(what.startswith("requeued") for what in said)
    operators.jobs = None
    with pytest.raises(UnknownError, match="does not answer"):
        list(again(bait.batch, JobId("7"), UID))


def test_where_owners_requeue_for_themselves_the_bait_does_not(node: Node) -> None:
    with pytest.raises(RejectedError, match="by their owners"):
        list(again(failed(node, node.batch).batch, JobId("7"), UID))
