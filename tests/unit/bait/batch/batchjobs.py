"""What the tests of batch VMs share: a job, its VM in a state, and what its starter hears."""

import threading
from typing import Any

from bait.batch.attach import attach
from bait.ledger.records import Row
from tests.unit.conftest import GUESTS, NOBODY, TAG, Bait, Node, eventually
from wnodes_lrms.images import catalogue
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.model import Allocation, State, machine_id

ID = machine_id("box", "7", 0)
FIRST = f"{GUESTS}.2"
STEPS = [
    f"fetching image {TAG}",
    "making the disk",
    "making the seed",
    "starting the domain",
    "waiting for the guest's SSH server",
]


def state(node: Node, job: str = "7") -> State | None:
    rows = node.ledger.rows(job)
    return rows[-1].state if rows else None


def reaches(node: Node, wanted: State, job: str = "7") -> Row:
    eventually(lambda: state(node, job) in (wanted, State.FAILED))
    (row,) = node.ledger.rows(job)
    assert row.state is wanted, row.reason
    return row


def last(bait: Bait, job: str = "7", uid: int = NOBODY.pw_uid) -> dict[str, Any]:
    return list(attach(bait.batch, JobId(job), uid))[-1]


def slow_to_answer(node: Node) -> tuple[threading.Event, threading.Event]:
    """Have the batch system take its time: set once it is asked; to be set for its answer."""
    asked, may_answer, answer = threading.Event(), threading.Event(), node.batch.allocation

    def slow(job: str) -> Allocation:
        asked.set()
        may_answer.wait()
        return answer(job)

    node.batch.allocation = slow  # type: ignore[method-assign]
    return asked, may_answer


def ready(node: Node, job: str = "7", address: str = FIRST) -> Bait:
    node.guests.answer(address)
    node.batch.grant(job)
    bait = node.bait()
    bait.batch.prepare(JobId(job), 0)
    reaches(node, State.READY, job)
    return bait


def failed(node: Node, bait: Bait, job: str = "7") -> dict[str, Any]:
    """The answer that the starter gets; of the VM nothing may be left but its row."""
    bait.batch.prepare(JobId(job), 0)
    answer = last(bait, job)
    assert answer["state"] == "failed"
    node.drop_tasks()
    assert node.left() == [f"row {machine_id('box', job, 0)}"]
    assert node.ledger.rows(job)[0].reason == answer["message"]
    bait.reconciler.release(job)
    assert node.left() == []
    return answer


def other_image(node: Node, **changes: object) -> None:
    node.image = node.image.model_copy(update=changes)
    catalogue.write(node.folder / "images", node.image)
