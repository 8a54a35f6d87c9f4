"""A build that is cancelled, or broken, at each step leaves nothing."""

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bait.batch.build import BatchBuilder
from bait.machine.hardware import Blueprint
from bait.machine.owner import owner_of
from bait.network.addresses import free_address
from tests.unit.bait.batch.batchjobs import FIRST, ID, STEPS, failed, other_image, reaches
from tests.unit.bait.conftest import Step, interrupted
from tests.unit.conftest import NOBODY, Bait, Node, Web, eventually, needs_root
from wnodes_lrms.errors import CancelledError, RejectedError, WnodesError
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.model import State

pytestmark = needs_root  # files are given to the job's owner; port 22


@dataclasses.dataclass(frozen=True)
class Stopping(BatchBuilder):
    """A builder that calls `at_step` when it comes to the step `where`."""

    where: str = ""
    at_step: Callable[[Step], None] = lambda step: step()

    def build(self, machine: Blueprint, step: Callable[[str], None], starting: Step) -> None:
        super().build(machine, *interrupted(self.where, self.at_step, step, starting))


def stopping(node: Node, where: str, at_step: Callable[[Step], None]) -> Bait:
    bait = node.bait()
    bait.batch.preparation.builder = Stopping(node.vms, where, at_step)
    return bait


@pytest.mark.parametrize("where", STEPS)
def test_released_at_any_step_nothing_is_left(node: Node, where: str) -> None:
    reached = threading.Event()

    def wait_for_cancel(step: Callable[[], None]) -> None:
        reached.set()
        for _ in range(500):
            step()  # raises once the controller has cancelled
            threading.Event().wait(0.01)

    node.guests.answer(FIRST)
    node.batch.grant("7")
    bait = stopping(node, where, wait_for_cancel)
    bait.batch.prepare(JobId("7"), 0)
    assert reached.wait(5)
    bait.reconciler.release("7")
    assert node.left() == []
    assert [event.what for event in node.ledger.events("7")][-2:] == ["ending", "gone"]
    # and the node takes the next job, at the same address
    node.batch.grant("8")
    plain = node.bait()
    plain.batch.prepare(JobId("8"), 0)
    assert reaches(node, State.READY, "8").address == FIRST


def test_released_before_anything_was_begun(node: Node) -> None:
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)  # the batch system does not know it yet
    bait.reconciler.release("7")
    assert node.left() == []


def test_released_while_booting(node: Node) -> None:
    node.batch.grant("7")
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)
    reaches(node, State.BOOTING)
    bait.reconciler.release("7")
    assert node.left() == []


def test_released_during_a_slow_download(node: Node, web: Web) -> None:
    data = Path(node.image.disk.source).read_bytes()
    other_image(node, disk=web.add("/slow", data))
    web.speaks.clear()
    node.batch.grant("7")
    node.batch.grant("8")
    bait = node.bait()
    for job in ("7", "8"):
        bait.batch.prepare(JobId(job), 0)
    eventually(lambda: web.requests["/slow"])
    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(bait.reconciler.release, job) for job in ("7", "8")]
        try:
            for end in ends:
                end.result(timeout=60)
        finally:
            web.speaks.set()
    assert node.left() == []


@pytest.mark.parametrize(
    "error", [WnodesError("it broke"), RejectedError("it may not be"), OSError(28, "No space")]
)
@pytest.mark.parametrize("where", STEPS)
def test_broken_at_any_step_nothing_is_left(node: Node, where: str, error: Exception) -> None:
    def break_it(_step: Callable[[], None]) -> None:
        raise error

    node.batch.grant("7")
    answer = failed(node, stopping(node, where, break_it))
    assert answer["retry"] == getattr(error, "retry", True)
    if isinstance(error, WnodesError):
        assert answer["message"] == str(error)


@pytest.mark.parametrize("where", STEPS)
def test_a_builder_alone_leaves_nothing_when_it_is_stopped(node: Node, where: str) -> None:
    allocation = node.batch.grant("7")
    owner = owner_of(NOBODY.pw_uid, NOBODY.pw_gid)
    address = free_address(node.config.network.subnet, set())
    blueprint = Blueprint(ID, allocation, owner, node.image, 256, address)
    builder = BatchBuilder(node.vms)

    def step(what: str) -> None:
        if what == where:
            raise CancelledError("cancelled")

    with pytest.raises(CancelledError):
        builder.build(blueprint, step, lambda: step("starting the domain"))
    assert node.left() == []
    builder.build(blueprint, lambda _what: None, lambda: None)
    assert list(node.hypervisor.domains()) == [ID]
    node.vms.remove(ID)
    node.vms.remove(ID)
    assert node.left() == []
