"""The fault harness does what a walk has ordered at the one step that it is for."""

from dataclasses import replace

import pytest

from tests.chaos.case import Order
from tests.chaos.wire import Seen
from wnodes_lrms.model import Kind, State

PLUG = Seen("hv1", False, Kind.CLOUD, None, None, "m", "", device="plug")
MOVE = Seen("hv1", True, Kind.CLOUD, State.READY, State.STOPPING, "m", "7")
GONE = replace(MOVE, new=None)
UNPLUG = replace(PLUG, device="unplug")
STEPS = (PLUG, replace(PLUG, done=True), UNPLUG, replace(UNPLUG, done=True), MOVE, GONE)


@pytest.mark.parametrize(
    ("order", "step"),
    [
        ((None, None, "plug", False), PLUG),
        ((None, None, "plug", True), replace(PLUG, done=True)),
        ((None, None, "unplug", False), UNPLUG),
        (("any", State.STOPPING, "", True), MOVE),
        ((State.READY, None, "", True), GONE),
    ],
)
def test_an_order_is_for_one_step(order: tuple[State | None, State, str, bool], step: Seen) -> None:
    old, new, device, done = order
    made = Order(old, new, lambda _seen: None, device, done)
    assert [seen for seen in STEPS if made.fits(seen)] == [step]
