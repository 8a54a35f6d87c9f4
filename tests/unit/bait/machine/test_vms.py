"""How a domain is started: with huge pages if they can be had."""

import dataclasses
from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from bait.machine.files import paths
from bait.machine.hardware import Hardware
from bait.machine.topology import NumaNode, Topology
from tests.unit.conftest import Node
from wnodes_lrms.errors import CancelledError, UnknownError, WnodesError
from wnodes_lrms.model import machine_id

ID = machine_id("box", "7", 0)


class Libvirt:
    """Refuses to start domains, as often as it is told to, and keeps what it was given."""

    def __init__(self, *errors: WnodesError) -> None:
        self.errors = list(errors)
        self.huge: list[bool] = []

    def create(self, xml: str) -> None:
        domain = ElementTree.fromstring(xml)  # noqa: S314 (our own)
        self.huge.append(domain.find("memoryBacking/hugepages") is not None)
        if self.errors:
            raise self.errors.pop(0)


def start(
    node: Node, free: int, libvirt: Libvirt, step: Callable[[str], None] = lambda _what: None
) -> None:
    machine = Topology((NumaNode(0, frozenset({0}), 1 << 20, {2048: free}),))
    vms = dataclasses.replace(node.vms, topology=lambda: machine)
    hardware = Hardware(ID, "7-0", "7", 0, node.image, cores=1, memory=384, cpus=(0,), nics=())
    vms.start(paths(vms.config, ID), hardware, step, libvirt.create)


FULL = WnodesError("unable to map backing store for guest RAM: Cannot allocate memory")


def test_with_them_if_they_are_free_and_else_without(node: Node) -> None:
    for free, taken in ((192, True), (191, False)):
        libvirt = Libvirt()
        start(node, free, libvirt)
        assert libvirt.huge == [taken]


def test_pages_that_another_vm_was_faster_to_take_keep_none_from_starting(node: Node) -> None:
    libvirt, steps = Libvirt(FULL), list[str]()
    start(node, 192, libvirt, steps.append)
    assert libvirt.huge == [True, False]
    assert steps == ["starting the domain without huge pages"]


def test_what_is_refused_without_them_too_is_an_error(node: Node) -> None:
    libvirt = Libvirt(FULL, WnodesError("no such image"))
    with pytest.raises(WnodesError, match="no such image"):
        start(node, 192, libvirt)


def test_a_vm_that_nobody_wants_any_more_is_not_tried_again(node: Node) -> None:
    def cancelled(_what: str) -> None:
        raise CancelledError("cancelled")

    libvirt = Libvirt(FULL)  # as when the domain was ended while it started
    with pytest.raises(CancelledError):
        start(node, 192, libvirt, cancelled)
    assert libvirt.huge == [True]


@pytest.mark.parametrize(("free", "error"), [(0, FULL), (192, UnknownError("libvirt is away"))])
def test_it_is_not_tried_twice_for_nothing(node: Node, free: int, error: WnodesError) -> None:
    libvirt = Libvirt(error)
    with pytest.raises(type(error)):
        start(node, free, libvirt)
    assert len(libvirt.huge) == 1
