"""rounds.py: a ledger that can't be written holds the bait up, and is said once."""

import logging
from pathlib import Path

import pytest

from bait.node import EVERY
from bait.rounds import Rounds
from bait.store import Store
from tests.unit.conftest import Node, needs_root

pytestmark = needs_root


def test_a_full_disk_is_said_when_it_comes_and_when_it_goes(
    node: Node, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "bait.rounds")

    def said() -> list[str]:
        return [record.message for record in caplog.records if record.name == "bait.rounds"]

    rounds = Rounds(node.bait().node, lambda: None)
    good, closed = node.ledger.store, Store(tmp_path / "closed.sqlite")
    closed.close()
    assert rounds.make() == EVERY
    assert not said()
    monkeypatch.setattr(node.ledger, "store", closed)
    assert [rounds.make() for _ in range(3)] == [EVERY] * 3
    [fault] = said()
    assert fault.startswith("nothing can be written down, so nothing is done: ")
    monkeypatch.setattr(node.ledger, "store", good)
    for _ in range(2):
        rounds.make()
    assert said() == [fault, "it can be written down again"]
