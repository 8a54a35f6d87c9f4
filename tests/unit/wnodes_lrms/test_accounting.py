"""The journal against the batch system's accounting: each difference by its name, no others."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.unit.scripted_bait import BaitOfWnodes, configured
from wnodes_lrms.accounting import MAKING, SLACK, Spent, differences
from wnodes_lrms.cli import app
from wnodes_lrms.lrms.interface import Run
from wnodes_lrms.model import Kind

T = 1_790_000_000.0
NOW = T + 50_000
CLOUD = Spent("m1", Kind.CLOUD, "7", 2, 512, T + 60, 3000.0, T + 3060)
BATCH = replace(CLOUD, kind=Kind.BATCH)
LEASE = Run("7", "COMPLETED", T, T + 3100, 2, 640, "lease-1")
JOB = replace(LEASE, lease="")


def found(journal: list[Spent], runs: list[Run], since: float = T) -> list[str]:
    return [each.what for each in differences(journal, runs, since, NOW)]


def test_a_machine_within_its_job_is_no_difference() -> None:
    assert found([CLOUD], [LEASE]) == []
    assert found([BATCH], [JOB]) == []


def test_a_machine_that_goes_on_in_a_job_that_goes_on() -> None:
    goes_on = replace(CLOUD, ended=None, seconds=NOW - T - 60)
    assert found([goes_on], [replace(LEASE, end=None, lease="")]) == []


@pytest.mark.parametrize(
    ("machine", "run", "expected"),
    [
        (replace(CLOUD, began=T - SLACK), LEASE, []),
        (replace(CLOUD, began=T - SLACK - 1), LEASE, ["outside"]),
        (replace(CLOUD, seconds=3040.0 + SLACK), LEASE, []),
        (replace(CLOUD, seconds=3041.0 + SLACK), LEASE, ["outside"]),
        (replace(CLOUD, ended=None), LEASE, ["open"]),
        (replace(CLOUD, ended=None), replace(LEASE, end=NOW - SLACK), ["idle"]),
        (replace(CLOUD, cores=3), LEASE, ["cores"]),
        (replace(CLOUD, cores=1), LEASE, []),
        (replace(CLOUD, memory=641), LEASE, ["memory"]),
        (replace(CLOUD, memory=641), replace(LEASE, memory=0), []),
        (BATCH, replace(JOB, end=T + 30_000), []),
        (replace(CLOUD, seconds=3100 - MAKING), LEASE, []),
        (replace(CLOUD, seconds=3099 - MAKING), LEASE, ["idle"]),
        (replace(CLOUD, seconds=36_000.0), replace(LEASE, end=T + 39_900), []),
        (replace(CLOUD, seconds=36_000.0), replace(LEASE, end=T + 40_100), ["idle"]),
        # Slurm tells the mark of a lease only once it has ended; the journal knows it before.
        (replace(CLOUD, seconds=9.0), replace(LEASE, end=None, lease=""), ["idle"]),
    ],
)
def test_how_far_is_too_far(machine: Spent, run: Run, expected: list[str]) -> None:
    assert found([machine], [run]) == expected


def test_a_machine_without_a_job() -> None:
    assert found([CLOUD], []) == ["no job"]
    assert found([CLOUD], [replace(LEASE, job="8", lease="")]) == ["no job"]
    just_begun = replace(CLOUD, began=NOW - SLACK, ended=None, seconds=1.0)
    assert found([just_begun], []) == []


def test_a_lease_without_a_machine() -> None:
    assert found([], [LEASE]) == ["no VM"]
    assert found([], [replace(LEASE, end=T + SLACK)]) == []  # one that failed soon
    assert found([], [JOB]) == []  # a batch job may well have none


def test_a_job_that_ran_twice_has_two_machines() -> None:
    first, second = replace(BATCH, seconds=500.0), replace(BATCH, began=T + 2000, seconds=900.0)
    runs = [replace(JOB, end=T + 600), replace(JOB, start=T + 1900, end=None)]
    assert found([first, replace(second, ended=None)], runs) == []
    assert found([first], list(reversed(runs))) == []


def test_a_lease_whose_machine_came_again() -> None:
    first, second = replace(CLOUD, seconds=1500.0), replace(CLOUD, began=T + 1570, seconds=1500.0)
    assert found([first, second], [LEASE]) == []


def test_what_was_over_before_is_not_told() -> None:
    assert found([CLOUD], [], since=T + 3061) == []
    assert found([], [LEASE], since=T + 3101) == []


def test_the_words() -> None:
    (difference,) = differences([CLOUD], [replace(LEASE, start=T + 600)], T, NOW)
    assert vars(difference) == {
        "what": "outside",
        "job": "7",
        "machine": "m1",
        "detail": "it began 540 s before its job",
    }


# The command, with a bait's answers and a sacct of our own.


@pytest.fixture
def bait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BaitOfWnodes]:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with configured(tmp_path, monkeypatch) as made:
        made.answers["usages"] = {"usages": []}
        yield made


def sacct(folder: Path, script: str) -> None:
    path = folder / "sacct"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def accounting(*words: str) -> Result:
    return CliRunner().invoke(app, ["accounting", *words])


USAGE = {
    "number": 1,
    "id": "lease-1",
    "machine": "m1",
    "kind": "cloud",
    "job": "7",
    "cores": 2,
    "memory": 512,
    "began": T + 60,
    "wall": 2990.04,
    "held": 10.0,
    "at": T + 3060.04,
    "ended": T + 3060.04,
    "clock": "closed",
}


def test_reconcile(bait: BaitOfWnodes, tmp_path: Path) -> None:
    bait.answers["usages"] = {"usages": [USAGE]}
    line = f"7|COMPLETED|{T:.0f}|{T + 3100:.0f}|2|cpu=2,mem=640M|wnodes_lease=lease-1"
    sacct(tmp_path, f"echo '{line}'")
    done = accounting("reconcile", "--since", "2026-09-20")
    assert (done.exit_code, done.stdout) == (
        0,
        "no difference among 1 VMs and 1 jobs since 2026-09-20T00:00:00.000000Z\n",
    )
    sacct(tmp_path, "exit 0")
    done = accounting("reconcile", "--since", "2026-09-20T12:00:00", "--json")
    assert done.exit_code == 1
    (difference,) = json.loads(done.stdout)
    assert (difference["node"], difference["what"], difference["job"]) == ("hv1", "no job", "7")


def test_no_answer_is_no_difference(bait: BaitOfWnodes, tmp_path: Path) -> None:
    bait.answers["usages"] = {"usages": [USAGE]}
    sacct(tmp_path, "echo 'sacct: error: Connection refused' >&2; exit 1")
    done = accounting("reconcile", "--since", "2026-09-20")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "Connection refused" in str(done.exception)


def test_list(bait: BaitOfWnodes) -> None:
    bait.answers["usages"] = {"usages": [USAGE]}
    done = accounting("list", "--since", "2026-09-20", "--json")
    (shown,) = json.loads(done.stdout)
    assert (shown["wall"], shown["held"], shown["node"]) == (2990.0, 10.0, "hv1")
    assert all(shown[moment].startswith("2026-09-") for moment in ("began", "at", "ended"))
    assert bait.heard[0]["since"] == 1789862400.0
    assert " m1 " in accounting("list").stdout


def test_publish(bait: BaitOfWnodes) -> None:
    bait.answers["publish"] = {"messages": ["6b0a1b2c/6b0a1b2c000010"]}
    assert json.loads(accounting("publish", "--json").stdout) == [
        {"node": "hv1", "message": "6b0a1b2c/6b0a1b2c000010"}
    ]
    bait.answers["publish"] = {"messages": []}
    assert accounting("publish").stdout == "nothing new\n"


@pytest.mark.usefixtures("bait")
@pytest.mark.parametrize("command", ["list", "reconcile"])
def test_a_time_to_come(command: str) -> None:
    done = accounting(command, "--since", "9999-12-31")
    assert (done.exit_code, done.stdout) == (1, "")
    assert str(done.exception) == "«9999-12-31» is still to come: nothing has run since then"


def test_a_time_that_is_none(bait: BaitOfWnodes) -> None:
    done = accounting("list", "--since", "yesterday")
    assert done.exit_code == 1
    assert "«yesterday» is no time" in str(done.exception)
    assert not bait.heard
