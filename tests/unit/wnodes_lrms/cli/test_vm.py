"""`wnodes vm` and `wnodes host`: which VM and which time are meant, and what is said of them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.unit.scripted_bait import BaitOfWnodes, configured
from wnodes_lrms.cli import app

ID = "cbd43f2b-39f1-480c-96c3-b21e833b7a26"
MACHINE = {
    "id": ID,
    "job": "7",
    "kind": "cloud",
    "state": "ready",
    "since": 1789862400.0,
    "ends": 1789866000.0,
}


@pytest.fixture
def bait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BaitOfWnodes]:
    with configured(tmp_path, monkeypatch) as made:
        made.answers = {"machines": {"machines": [MACHINE]}, "destroy": {}}
        yield made


def wnodes(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def test_no_id_is_no_machines_beginning(bait: BaitOfWnodes) -> None:
    done = wnodes("vm", "destroy", "")
    assert done.exit_code == 1
    assert "the beginning of it, is needed" in str(done.exception)
    assert bait.heard == []


def test_an_id_is_one_in_any_case(bait: BaitOfWnodes) -> None:
    done = wnodes("vm", "destroy", ID[:8].upper())
    assert done.exit_code == 0
    assert bait.heard[-1] == {"op": "destroy", "machine": ID}
    assert done.stdout == f"VM {ID} of job 7 has ended; its disk is kept\n"


@pytest.mark.parametrize("state", ["stopped", "hibernated", "failed"])
def test_what_rests_is_said_to_and_not_to_be_gone(bait: BaitOfWnodes, state: str) -> None:
    bait.answers["machines"] = {"machines": [MACHINE | {"job": "", "state": state}]}
    done = wnodes("vm", "destroy", ID)
    assert (done.exit_code, bait.heard[1:]) == (0, [])
    assert done.stdout == f"VM {ID} is {state} already; its disk is kept\n"


def test_a_batch_machine_leaves_nothing(bait: BaitOfWnodes) -> None:
    bait.answers["machines"] = {"machines": [MACHINE | {"kind": "batch", "ends": None}]}
    assert wnodes("vm", "destroy", ID).stdout == f"VM {ID} of job 7 is gone\n"


def test_what_does_not_run_has_no_console(
    bait: BaitOfWnodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")  # or virsh would take the place of pytest
    bait.answers["machines"] = {"machines": [MACHINE | {"state": "stopped"}]}
    done = wnodes("vm", "console", ID)
    assert str(done.exception) == f"VM {ID} is stopped: it has no console"


@pytest.mark.usefixtures("bait")
def test_all_times_are_dates() -> None:
    (shown,) = json.loads(wnodes("vm", "show", ID, "--json").stdout)
    assert (shown["since"], shown["ends"]) == (
        "2026-09-20T00:00:00.000000Z",
        "2026-09-20T01:00:00.000000Z",
    )


@pytest.mark.parametrize("by", ["", "+99999999999999d"])
def test_a_node_is_not_drained_by_what_is_no_time(bait: BaitOfWnodes, by: str) -> None:
    done = wnodes("host", "drain", "--by", by)
    assert done.exit_code == 1
    assert "is needed" in str(done.exception)
    assert bait.heard == []
