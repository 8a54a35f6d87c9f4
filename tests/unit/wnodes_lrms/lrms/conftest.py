"""A DRMAA library for tests: drmaa/drmaa_stand_in.py."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from wnodes_lrms.errors import UnknownError
from wnodes_lrms.lrms.drmaa import client
from wnodes_lrms.lrms.drmaa import leases as drmaaleases
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.lrms.pbs import job_id

STAND_IN = Path(__file__).with_name("drmaa") / "drmaa_stand_in.py"


class Library:
    """The stand-in's folder: what it was asked, and what it is to do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fault(self, text: str) -> None:
        (self.folder / "fault").write_text(text)

    def state(self, job: str, state: str) -> None:
        (self.folder / f"{job}.state").write_text(state)

    def lines(self, name: str) -> list[str]:
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []

    def named(self, name: str, _user: str) -> list[JobId]:
        """What the batch system's own commands say; `away` makes them say nothing."""
        if (self.folder / "away").exists():
            raise UnknownError("qstat: no answer within 10 s")
        files = sorted(self.folder.glob("*.job"))
        return [
            job_id(each.stem) for each in files if json.loads(each.read_text())["jobName"] == name
        ]

    def jobs(self) -> list[dict[str, Any]]:
        return [json.loads(file.read_text()) for file in sorted(self.folder.glob("*.job"))]


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    folder = tmp_path / "library"
    folder.mkdir()
    for each in folder.parents[:4]:
        each.chmod(each.stat().st_mode | 0o055)
    folder.chmod(0o777)
    monkeypatch.setattr(client, "_PROGRAM", (sys.executable, str(STAND_IN)))
    monkeypatch.setattr(drmaaleases, "_DEADLINE", 3.0)
    monkeypatch.setattr(drmaaleases, "_SUBMISSION", 3.0)
    monkeypatch.setattr(drmaaleases, "_LATE", 0.2)
    return Library(folder)
