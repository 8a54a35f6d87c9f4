"""Slurm's accounting, as sacct of Slurm 22.05 and 24.11 really tells it."""

from pathlib import Path

import pytest

from tests.unit.wnodes_lrms.lrms.behaviour import read
from wnodes_lrms.errors import UnknownError
from wnodes_lrms.lrms.interface import Run
from wnodes_lrms.lrms.slurm.sacct import command, parse, runs

LEASE = "f9d9a0f0-98de-4cf5-8a5c-3b0e2c5f1d11"


# Recorded on nodes of one thread a core, and of two.
@pytest.mark.parametrize(
    ("version", "first", "again", "ended", "cores"),
    [
        ("slurm-22.05", 1795393419.0, 1795393421.0, 1795393424.0, 1),
        ("slurm-24.11", 1795823562.0, 1795823562.0, 1795823565.0, 2),
    ],
)
def test_recorded_jobs(version: str, first: float, again: float, ended: float, cores: int) -> None:
    """A lease, a requeued job of which a run goes on, and an array with a nasty name."""
    *runs, last = parse(read(version, "jobs.sacct"))
    assert runs == [
        Run("1", "COMPLETED", first, first + 2, cores, 100, LEASE),
        Run("3", "REQUEUED", again, ended, 2, 1536),
        Run("5", "FAILED", first, first, cores, 100),
        Run("2", "FAILED", first, first, cores, 100),
    ]
    assert (last.job, last.state, last.end, last.memory) == ("3", "RUNNING", None, 1536)
    assert last.start > ended


def test_a_job_that_never_started_is_left_out() -> None:
    assert parse("7|CANCELLED by 1001|None|1795393421|0||\n8|PENDING|Unknown|Unknown|0||\n") == []


def test_a_job_without_memory_of_its_own() -> None:
    (run,) = parse("7|COMPLETED|1795393419|1795393421|1|billing=1,cpu=1,node=1|\n")
    assert run.memory == 0


@pytest.mark.parametrize(
    "text",
    [
        "sacct: something else",
        "7|COMPLETED|1795393419|1795393421|1",
        "7|COMPLETED|2026-11-23T00:23:39|2026-11-23T00:23:41|1|cpu=1|",
    ],
)
def test_other_columns_are_no_answer(text: str) -> None:
    with pytest.raises(UnknownError, match="sacct does not answer in the columns asked for"):
        parse(text)


def test_no_column_is_a_users_to_write() -> None:
    assert not {"JobName", "Comment", "WorkDir"} & set(command("hv1", 60)[-2].split(","))


def test_no_accounting_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sacct = tmp_path / "sacct"
    sacct.write_text(
        "#!/bin/sh\necho 'sacct: error: Problem talking to the database' >&2\nexit 1\n"
    )
    sacct.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(UnknownError, match="Problem talking to the database"):
        runs("hv1", 0.0)
