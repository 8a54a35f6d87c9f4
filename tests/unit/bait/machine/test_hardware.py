"""What a VM is made of follows from its allocation."""

from bait.machine.hardware import guest_memory
from tests.unit.conftest import (
    Node,
)


def test_the_guests_memory_is_the_allocation_less_the_overhead(node: Node) -> None:
    for memory, guest in ((512, 384), (192, 64)):
        assert guest_memory(node.batch.grant("7", memory=memory), node.image, 128) == guest
