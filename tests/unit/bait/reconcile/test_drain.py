"""On a real ledger: what it refuses, what it tells the batch system, what it remembers."""

import time
from typing import Any

import pytest

from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.reconcile.drain import Drain
from tests.unit.conftest import Batch, eventually
from wnodes_lrms.cli.host import moment, sentences
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.model import Kind, State


@pytest.fixture
def batch() -> Batch:
    return Batch()


def test_a_node_that_nobody_drains_takes_machines(ledger: Ledger, batch: Batch) -> None:
    drain = Drain(ledger, batch)
    assert (drain.refusal(), drain.by(), drain.shown()["state"]) == (None, None, "up")
    drain.keep()
    assert batch.drained is None


def test_a_drained_node_refuses_and_so_does_the_batch_system(ledger: Ledger, batch: Batch) -> None:
    drain, by = Drain(ledger, batch), time.time() + 3600
    drain.begin(by, "new kernel")
    assert (drain.refusal(), drain.by()) == ("the node is drained: new kernel", by)
    assert batch.drained == "new kernel"
    drain.resume()
    assert (drain.refusal(), drain.by(), drain.shown()["state"]) == (None, None, "up")
    eventually(lambda: batch.drained is None)


def test_a_time_that_is_over_is_refused_and_changes_nothing(ledger: Ledger, batch: Batch) -> None:
    drain = Drain(ledger, batch)
    with pytest.raises(RejectedError, match="over already"):
        drain.begin(time.time() - 1, "late")
    assert (drain.refusal(), batch.drained) == (None, None)


def test_drained_again_only_time_and_reason_are_new(ledger: Ledger, batch: Batch) -> None:
    drain = Drain(ledger, batch)
    drain.begin(None, "new kernel")
    since = drain.shown()["since"]
    drain.begin(since + 3600, "new disk")
    shown = drain.shown()
    assert (shown["since"], shown["by"], shown["reason"]) == (since, since + 3600, "new disk")
    assert batch.drained == "new disk"


def test_a_restart_of_the_bait_changes_nothing(ledger: Ledger, batch: Batch) -> None:
    first, by = Drain(ledger, batch), time.time() + 3600
    first.begin(by, "new kernel")
    second = Drain(ledger, batch)
    assert second.shown() == first.shown()
    assert (second.refusal(), second.by()) == ("the node is drained: new kernel", by)
    second.resume()
    assert Drain(ledger, batch).refusal() is None


def test_a_batch_system_that_is_away_hears_of_it_later(ledger: Ledger, batch: Batch) -> None:
    batch.jobs = None
    drain = Drain(ledger, batch)
    drain.begin(None, "new kernel")
    assert drain.refusal()
    assert drain.shown()["lrms"].startswith("not told yet: ")
    batch.jobs = {}
    Drain(ledger, batch).keep()  # after a restart of the bait, too
    eventually(lambda: batch.drained == "new kernel")


def test_the_end_of_a_drain_is_told_later_too(ledger: Ledger, batch: Batch) -> None:
    drain = Drain(ledger, batch)
    drain.begin(None, "new kernel")
    batch.jobs = None
    drain.resume()
    assert drain.refusal() is None
    batch.jobs = {}
    after = Drain(ledger, batch)
    after.keep()
    eventually(lambda: batch.drained is None)
    eventually(lambda: ledger.note("drain-lift") is None)
    batch.drained = "set by hand, since"
    after.keep()
    time.sleep(0.05)
    assert batch.drained == "set by hand, since"


def test_a_drain_lifted_by_hand_is_set_again(ledger: Ledger, batch: Batch) -> None:
    drain = Drain(ledger, batch)
    drain.begin(None, "new kernel")
    batch.drained = None
    drain.keep()
    eventually(lambda: batch.drained == "new kernel")


def test_somebody_elses_drain_is_shown(ledger: Ledger, batch: Batch) -> None:
    drain = Drain(ledger, batch)
    drain.begin(None, "new kernel")
    batch.others = "bad disk"
    drain.resume()
    assert drain.refusal() is None
    assert drain.shown()["lrms"] == "drained by somebody else, which stays: bad disk"


def test_what_is_left_is_shown(ledger: Ledger, batch: Batch) -> None:
    now = time.time()
    ledger.promise(Row("a", "7", 0, State.REQUESTED, now))
    for state in (State.BUILDING, State.STARTING, State.BOOTING, State.READY):
        ledger.change("a", "x", state=state)
    cloud = Row("b", "8", 0, State.REQUESTED, now, kind=Kind.CLOUD, lease="l", spec=SPEC)
    ledger.open_lease(cloud)
    ledger.rest(cloud, State.FAILED, "no room", 1)  # at rest: in nobody's way
    drain = Drain(ledger, batch)
    drain.begin(None, "new kernel")
    shown = drain.shown()
    assert shown["state"] == "draining"
    assert shown["machines"] == [{"id": "a", "job": "7", "kind": "batch", "state": "ready"}]
    ledger.change("a", "ending", state=State.ENDING)
    ledger.forget(Row("a", "7", 0, State.ENDING, now), "gone")
    assert drain.shown()["state"] == "drained"


SPEC = "{}"
NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("+20s", 20),
        ("+30min", 1800),
        ("+2m", 120),
        ("+1h5m", 3900),
        ("+2h", 7200),
        ("+1d12h", 129600),
        ("+1h30min", 5400),
        ("2027-01-15T08:00:10Z", 10),
        ("2027-01-15T09:00:10+01:00", 10),
        ("2027-01-15 08:00:10+00:00", 10),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert moment(text, NOW) == NOW + seconds


def test_a_time_without_a_zone_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Rome")
    time.tzset()
    try:
        assert moment("2027-01-15T09:00:10", NOW) == NOW + 10
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        *("", "soon", "30min", "+30", "+min", "+1w", "18:00", "+1 h"),
        *("+99999999999999d", "+" + "9" * 400 + "d", "+3000000d"),
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(RejectedError, match="is needed"):
        moment(text, NOW)


def test_how_a_node_stands_in_words() -> None:
    up: dict[str, Any] = {
        "node": "hv1",
        "state": "up",
        "since": None,
        "by": None,
        "reason": "",
        "lrms": "",
        "machines": [],
    }
    assert list(sentences(up)) == ["node hv1 takes VMs; it has 0"]
    machine = {"id": "a", "job": "7", "kind": "batch", "state": "ready"}
    draining = {"state": "draining", "since": NOW, "reason": "new kernel", "machines": [machine]}
    assert list(sentences(up | draining | {"by": NOW + 60, "lrms": "not told yet: x"})) == [
        "node hv1 is draining since 2027-01-15T08:00:00.000000Z: new kernel",
        "  1 left, until 2027-01-15T08:01:00.000000Z at the latest:",
        "  a of job 7, ready",
        "  the batch system: not told yet: x",
    ]
