"""A bait under watch tells of devices that come and go, before libvirt is asked and afterwards."""

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from pytest_mock import MockerFixture

from bait.cloud.build import CloudBuilder
from bait.machine.hardware import Drive
from tests.chaos.wire import Seen
from wnodes_lrms.errors import ConflictError
from wnodes_lrms.model import Kind

DISK = Drive(Path("/volume"), "vdc", "serial")


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr("sys.argv", ["bait", "--node", "hv1"])
    return importlib.import_module("tests.chaos.bait")


@pytest.mark.parametrize("device", ["plug", "unplug"])
def test_each_step_is_told_twice(
    watched: ModuleType, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    steps: list[object] = []
    monkeypatch.setattr(watched, "tell", steps.append)
    monkeypatch.setattr(CloudBuilder, device, lambda *_: steps.append("libvirt"))
    getattr(watched.WatchedBuilder(mocker.Mock()), device)("m", DISK)
    before = Seen("hv1", False, Kind.CLOUD, None, None, "m", "", device=device)
    assert steps == [before, "libvirt", replace(before, done=True)]


def test_what_libvirt_has_not_done_is_not_told_as_done(
    watched: ModuleType, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[Seen] = []
    monkeypatch.setattr(watched, "tell", steps.append)
    monkeypatch.setattr(CloudBuilder, "unplug", mocker.Mock(side_effect=ConflictError("not yet")))
    with pytest.raises(ConflictError):
        watched.WatchedBuilder(mocker.Mock()).unplug("m", DISK)
    assert [step.done for step in steps] == [False]
