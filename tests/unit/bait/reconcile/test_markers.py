"""A file for each job that has to do with a VM."""

from pathlib import Path

import pytest

from bait.ledger.records import Moved
from bait.reconcile.markers import keep
from wnodes_lrms.model import Kind, State

BATCH, CLOUD = Kind.BATCH, Kind.CLOUD


def moved(new: State | None, kind: Kind = BATCH, job: str = "27[3].tqhost") -> Moved:
    return Moved(kind, None, new, "m", job)


def test_a_mark_lives_as_long_as_the_machine(tmp_path: Path) -> None:
    folder = tmp_path / "run/jobs"
    keep(folder, moved(State.REQUESTED))
    assert [mark.name for mark in folder.iterdir()] == ["27[3].tqhost"]
    for state in (State.BUILDING, State.READY, State.FAILED, State.ENDING):
        keep(folder, moved(state))
    assert (folder / "27[3].tqhost").exists()
    keep(folder, moved(None))
    assert list(folder.iterdir()) == []
    keep(folder, moved(None))


@pytest.mark.parametrize("rest", [State.STOPPED, State.HIBERNATED, State.FAILED])
def test_a_cloud_machine_at_rest_has_no_job(tmp_path: Path, rest: State) -> None:
    keep(tmp_path, moved(State.REQUESTED, CLOUD))
    keep(tmp_path, moved(rest, CLOUD))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("job", ["", "../x", "a/b"])
def test_what_is_no_name_of_a_file_leaves_none(tmp_path: Path, job: str) -> None:
    keep(tmp_path / "jobs", moved(State.REQUESTED, job=job))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_written_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "jobs").write_text("no folder")
    keep(tmp_path / "jobs", moved(State.REQUESTED))
    keep(tmp_path / "jobs", moved(None))
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert (tmp_path / "jobs").read_text() == "no folder"
