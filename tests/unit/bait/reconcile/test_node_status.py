"""What a node tells for people to see: never of a batch system that is away, and never old."""

import threading
import time

import pytest

from bait.reconcile import node_status
from bait.reconcile.node_status import NodeStatus
from tests.unit.conftest import Batch, eventually
from wnodes_lrms.errors import UnknownError
from wnodes_lrms.model import Room


class Node(Batch):
    """A batch system whose answer can be set, and waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.free: Room | None = Room(3, 4096)
        self.asked = 0
        self.open = threading.Event()
        self.open.set()

    def room(self) -> Room:
        self.asked += 1
        assert self.open.wait(60)
        if self.free is None:
            raise UnknownError("the batch system does not answer")
        return self.free


@pytest.fixture
def node() -> Node:
    return Node()


def told(node: Node, overhead: int = 100) -> NodeStatus:
    return NodeStatus(node, overhead, lambda: {"lrms": 7.0, "libvirt": 0.0})


def test_what_a_guest_could_have(node: Node) -> None:
    made = told(node)
    assert made.room() is None
    made.keep()
    eventually(made.room)
    found = made.room()
    assert found
    assert (found["cores"], found["memory"]) == (3, 3996)
    assert abs(found["at"] - time.time()) < 60
    assert made.sources() == {"lrms": 7.0, "libvirt": 0.0}


@pytest.mark.parametrize(("memory", "shown"), [(None, None), (60, 0)])
def test_memory_that_is_not_counted_or_not_enough(
    node: Node, memory: int | None, shown: int | None
) -> None:
    node.free = Room(3, memory)
    made = told(node)
    made._ask()
    assert made.room() == {"cores": 3, "memory": shown, "at": made.room()["at"]}  # type: ignore[index]


def test_it_is_asked_now_and_then_and_a_hung_one_once(node: Node) -> None:
    node.open.clear()
    made = told(node)
    for _ in range(3):
        made.keep()
        made._asked = float("-inf")  # as if that was long ago
        eventually(lambda: node.asked)
    assert node.asked == 1
    node.open.set()
    eventually(made.room)
    eventually(lambda: not made._asking.locked())
    made.keep()
    eventually(lambda: node.asked == 2)
    made.keep()
    assert node.asked == 2


def test_what_is_old_or_not_known_is_not_told(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    made = told(node)
    made._ask()
    with monkeypatch.context() as patch:
        patch.setattr(node_status, "_OLD", -1.0)
        assert made.room() is None
    assert made.room()
    node.free = None
    made._ask()
    assert made.room() is None
