"""A cloud VM in every state, as the bait's HTTPS service shows it."""

from typing import get_args

import pytest

from bait.cloud.shown import shown
from bait.frontend import models
from bait.ledger.records import Row
from bait.ledger.states import MOVES
from wnodes_lrms.model import Kind, State

STATES = sorted({state for _, state in MOVES[Kind.CLOUD] if state})


def row(state: State) -> Row:
    return Row(
        "vm", "7", 0, state, 1.5, cores=2, memory=384, tag="image", reason="why", lease="lease"
    )


def test_all_that_is_shown() -> None:
    assert shown(row(State.READY), "hv1", [], [{"id": "vm", "device": "vdb"}]) == {
        "id": "vm",
        "lease": "lease",
        "job": "7",
        "state": "running",
        "crashed": False,
        "reason": "why",
        "cores": 2,
        "memory": 384,
        "image": "image",
        "since": 1.5,
        "node": "hv1",
        "nics": [],
        "volumes": [{"id": "vm", "device": "vdb"}],
    }


@pytest.mark.parametrize("state", STATES)
def test_each_state_is_one_that_bridges_know(state: State) -> None:
    told = shown(row(state), "hv1", [], [])["state"]
    assert told in get_args(models.MachineShown.model_fields["state"].annotation)
    assert (told == "running") is (state is State.READY)
    kept = (State.SUSPENDED, State.PAUSED, State.ASLEEP, State.HIBERNATED)
    assert (told == "suspended") is (state in kept)
