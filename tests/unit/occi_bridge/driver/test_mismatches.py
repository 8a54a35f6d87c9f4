"""Nodes that should be alike and are not."""

from dataclasses import replace

import pytest

from occi_bridge.driver.mismatches import Mismatches
from occi_bridge.driver.reports import Report
from tests.unit.occi_bridge.snapshots import report, snapshot

SHARES, KEEPS = report(), replace(report(node="hv2"), local_volumes=True)
APART = "[cloud.pool] is not the same everywhere: hv2 keep volumes for themselves, hv1 share them"


@pytest.mark.parametrize(
    ("rounds", "said"),
    [
        ([(SHARES,), (KEEPS,)], 0),  # one is silent at a time
        ([(SHARES, KEEPS)] * 3, 1),
        ([(SHARES, KEEPS), (), (SHARES, KEEPS)], 1),  # nobody answers
        ([(SHARES, KEEPS), (SHARES, replace(KEEPS, local_volumes=False)), (SHARES, KEEPS)], 2),
    ],
)
def test_that_some_keep_volumes_for_themselves_is_said_once(
    rounds: list[tuple[Report, ...]], said: int, caplog: pytest.LogCaptureFixture
) -> None:
    mismatches = Mismatches()
    for seen in rounds:
        mismatches.compare(snapshot(seen=seen).reports)
    assert [line.startswith(APART) for line in caplog.messages] == [True] * said
