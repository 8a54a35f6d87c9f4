"""A disk becomes an image that others are made from. Disks at rest: qemu-img is real."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
from pytest_mock import MockerFixture

from bait.cloud import disks
from bait.cloud.freezing import Moment
from bait.cloud.strip import STRIPPED
from bait.privileges import sandbox
from tests.unit.bait.conftest import MACHINE, Site, an_order
from tests.unit.conftest import NOBODY, eventually, needs_root, put
from wnodes_lrms.errors import ConflictError, WnodesError
from wnodes_lrms.images import catalogue
from wnodes_lrms.model import State

pytestmark = needs_root
ID = str(MACHINE)
TAG = "mine_linux_x86_64"


@pytest.fixture
def stopped(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Its node has no libguestfs, which takes half a minute: see tests/e2e for what that does."""
    monkeypatch.setattr(sandbox, "GUESTFS_USER", "wnodes-nobody")
    for at in (tmp_path, *tmp_path.parents[:-1]):  # who looks at disks comes to them as on a node
        at.chmod(at.stat().st_mode | 0o711)
    site.runs()
    site.cloud.stop(ID, "poweroff")
    site.reaches(State.STOPPED)
    return site


def folder(site: Site) -> Path:
    return Path(site.cloud.config.cloud.saved)


def done(site: Site) -> dict[str, object]:
    eventually(lambda: not site.cloud.saved()["busy"])
    return site.cloud.saved()


def stripping(monkeypatch: pytest.MonkeyPatch, program: Callable[[Path], str]) -> None:
    """Have the node strip saved disks by a function in the place of the program."""

    def run(argv: tuple[str, ...], *more: Any, **by_name: Any) -> str:
        if "bait.cloud.strip" not in argv:
            return confined(argv, *more, **by_name)
        return program(Path(json.loads(by_name["data"])["disk"]))

    confined = sandbox.run_confined
    monkeypatch.setattr(sandbox, "GUESTFS_USER", NOBODY.pw_name)
    monkeypatch.setitem(sys.modules, "guestfs", ModuleType("guestfs"))
    monkeypatch.setattr(disks, "run_confined", run)


def test_what_can_not_be_written_down_is_not_begun(stopped: Site, mocker: MockerFixture) -> None:
    full = WnodesError("the ledger can't be written: its disk is full")
    record = mocker.patch.object(stopped.cloud.saver.ledger, "record", side_effect=full)
    with pytest.raises(WnodesError, match="its disk is full"):
        stopped.cloud.save(ID, TAG)
    mocker.stop(record)
    assert not stopped.cloud.saver.reads(ID)
    stopped.cloud.save(ID, TAG)
    assert done(stopped)["tags"] == [TAG]


def test_a_saved_disk_is_an_image_of_its_own(stopped: Site) -> None:
    stopped.cloud.save(ID, TAG)
    made = {TAG: {"consistency": "offline", "stripped": False}}
    assert done(stopped) == {"tags": [TAG], "busy": [], "failed": {}, "made": made}
    image = catalogue.read(folder(stopped), TAG)
    assert (image.format, image.trusted, image.context) == ("qcow2", False, "script")
    told = subprocess.run(
        ["qemu-img", "info", "--output=json", image.disk.source], capture_output=True, check=True
    )
    assert "backing-filename" not in json.loads(told.stdout)
    assert sorted(path.name for path in folder(stopped).iterdir()) == [
        f"{TAG}.qcow2",
        f"{TAG}.toml",
    ]


@pytest.mark.parametrize("what", ["backing", "data"])
def test_a_disk_that_would_read_another_file_is_not_saved(
    stopped: Site, tmp_path: Path, what: str
) -> None:
    """A QEMU that its guest has taken over may write what it likes into the disk's header."""
    secret, disk = tmp_path / "secret", stopped.cloud.builder.paths(ID).disk
    secret.write_bytes(b"secret" * 20000)
    if what == "backing":
        argv = ["rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", str(secret), str(disk)]
    else:
        disk.unlink()
        option = f"data_file={secret},data_file_raw=on"
        argv = ["create", "-q", "-f", "qcow2", "-o", option, str(disk), "64k"]
    subprocess.run(["qemu-img", *argv], check=True)
    stopped.cloud.save(ID, TAG)
    assert "its disk refers to a file that is no image (" in str(done(stopped)["failed"])
    assert not list(folder(stopped).iterdir())


def test_what_reads_a_users_disk_has_no_others(
    stopped: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A disk may make qemu-img do what it likes: not as root, nor as who has all VMs' disks."""
    taken = tmp_path / "bin" / "qemu-img"
    taken.parent.mkdir(mode=0o755)
    taken.write_text("#!/bin/sh\nid -u >&2\nexit 1\n")
    taken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{taken.parent}:{os.environ['PATH']}")
    stopped.cloud.save(ID, TAG)
    assert TAG in cast("dict[str, str]", done(stopped)["failed"])
    assert f"qemu-img: {NOBODY.pw_uid}" in caplog.messages


def test_a_saved_disk_says_what_it_is_like(stopped: Site, mocker: MockerFixture) -> None:
    def save(_builder: object, _machine: str, _moment: object, target: Path) -> None:
        target.write_text("a disk")

    mocker.patch("bait.cloud.build.CloudBuilder.save", save)
    strip = mocker.patch("bait.cloud.disks.strip", return_value=True)
    for state, like in (
        (State.READY, "crash"),
        (State.HIBERNATED, "crash"),
        (State.FAILED, "offline"),
    ):
        put(stopped.node.ledger, ID, state=state)
        stopped.cloud.save(ID, TAG)
        assert done(stopped)["made"] == {TAG: {"consistency": like, "stripped": True}}
        stopped.cloud.delete_saved(TAG)
    strip.side_effect = WnodesError("halfway", told="a program of the node can't work on the disk")
    stopped.cloud.save(ID, TAG)
    assert "can't work on the disk" in str(done(stopped)["failed"])
    assert done(stopped)["made"] == {}
    assert list(folder(stopped).iterdir()) == []


def test_two_saved_disks_of_a_vm_are_stripped_at_once(
    stopped: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a bait that was killed has left the folder of one."""
    both = threading.Barrier(2)

    def program(_disk: Path) -> str:
        both.wait(60)
        return STRIPPED

    stripping(monkeypatch, program)
    left = stopped.cloud.builder.stripping(TAG)
    left.mkdir(parents=True)
    (left / "appliance").touch()
    for path in (left / "appliance", left):
        os.chown(path, NOBODY.pw_uid, -1)
    stopped.cloud.save(ID, TAG)
    eventually(lambda: both.n_waiting == 1)
    stopped.cloud.save(ID, "again_linux_x86_64")
    told = done(stopped)
    assert told["failed"] == {}
    like = {"consistency": "offline", "stripped": True}
    assert told["made"] == {TAG: like, "again_linux_x86_64": like}
    assert list(left.parent.iterdir()) == []


def test_a_vm_that_is_deleted_meanwhile_takes_no_saved_disk_along(
    stopped: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, go_on = threading.Event(), threading.Event()

    def program(_disk: Path) -> str:
        there.set()
        assert go_on.wait(60)
        return STRIPPED

    stripping(monkeypatch, program)
    stopped.cloud.save(ID, TAG)
    assert there.wait(60)
    stopped.cloud.delete(ID)
    stopped.reaches(None)
    go_on.set()
    told = done(stopped)
    assert (told["tags"], told["failed"]) == ([TAG], {})


@pytest.mark.parametrize("says", [STRIPPED, "/etc/machine-id: read-only", ""])
def test_what_strips_a_disk_can_not_have_it_read_another_file(
    stopped: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    """Whatever a disk has made of that program, which may say what it likes."""

    def program(disk: Path) -> str:
        argv = ["rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", str(tmp_path / "secret")]
        subprocess.run(["qemu-img", *argv, str(disk)], check=True)
        return says

    stripping(monkeypatch, program)
    stopped.cloud.save(ID, TAG)
    assert "its disk refers to another file (" in str(done(stopped)["failed"])
    assert not list(folder(stopped).iterdir())


def test_a_disk_that_keeps_something_is_saved(
    stopped: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stripping(monkeypatch, lambda _disk: "/etc/machine-id: read-only")
    stopped.cloud.save(ID, TAG)
    assert done(stopped)["made"] == {TAG: {"consistency": "offline", "stripped": False}}
    assert f"{TAG}.new is not stripped: /etc/machine-id: read-only" in caplog.messages


def test_while_a_saved_disk_is_stripped_its_vm_starts(stopped: Site, mocker: MockerFixture) -> None:
    there, go_on = threading.Event(), threading.Event()

    def strip(*_: object) -> bool:
        there.set()
        return go_on.wait(60)

    mocker.patch("bait.cloud.disks.strip", strip)
    stopped.cloud.save(ID, TAG)
    assert there.wait(60)
    stopped.runs(an_order(), "9")
    assert stopped.cloud.saved()["busy"] == [TAG]
    go_on.set()
    done(stopped)


def test_what_is_deleted_is_gone_and_can_be_saved_again(stopped: Site) -> None:
    stopped.cloud.save(ID, TAG)
    done(stopped)
    for _ in range(2):
        stopped.cloud.delete_saved(TAG)
        assert list(folder(stopped).iterdir()) == []
    assert done(stopped)["tags"] == []
    left = stopped.cloud.builder.stripping(TAG)
    left.mkdir(parents=True)  # by a bait that was killed
    half = folder(stopped) / f"{TAG}.new"
    half.touch()
    stopped.cloud.delete_saved(TAG)
    assert (left.exists(), half.exists()) == (False, False)
    stopped.cloud.save(ID, TAG)
    assert done(stopped)["tags"] == [TAG]


def test_what_is_being_written_is_not_deleted(stopped: Site, mocker: MockerFixture) -> None:
    go = threading.Event()
    mocker.patch("bait.cloud.build.CloudBuilder.save", side_effect=lambda *_: go.wait(5))
    stopped.cloud.save(ID, TAG)
    with pytest.raises(ConflictError, match="just being written"):
        stopped.cloud.delete_saved(TAG)
    go.set()
    done(stopped)


def test_machines_are_made_from_it(stopped: Site) -> None:
    stopped.cloud.save(ID, TAG)
    done(stopped)
    stopped.cloud.delete(ID)
    stopped.reaches(None)
    stopped.runs(an_order(image=TAG, saved=True), "8")
    stopped.cloud.stop(ID, "poweroff")
    stopped.reaches(State.STOPPED)
    stopped.cloud.save(ID, "again_linux_x86_64")  # whose base is a saved one too
    assert done(stopped)["tags"] == ["again_linux_x86_64", TAG]


def test_a_tag_that_is_there_or_on_its_way_is_success(stopped: Site, mocker: MockerFixture) -> None:
    save, go_on = stopped.cloud.builder.save, threading.Event()
    begun: list[str] = []

    def slow(machine: str, moment: Moment | None, target: Path) -> None:
        begun.append(machine)
        assert go_on.wait(5)
        save(machine, moment, target)

    mocker.patch("bait.cloud.build.CloudBuilder.save", side_effect=slow)
    for _ in range(3):
        stopped.cloud.save(ID, TAG)
    assert stopped.cloud.saved()["busy"] == [TAG]
    go_on.set()
    done(stopped)
    stopped.cloud.save(ID, TAG)
    assert begun == [ID]


def test_a_start_waits_until_its_disk_is_read(stopped: Site, mocker: MockerFixture) -> None:
    go_on = threading.Event()
    mocker.patch("bait.cloud.build.CloudBuilder.save", side_effect=lambda *_: go_on.wait(5))
    stopped.cloud.save(ID, TAG)
    next(stopped.lease(an_order(), "8"))
    eventually(lambda: stopped.row().state is State.BUILDING)
    go_on.wait(0.1)
    assert stopped.domains() == []
    go_on.set()
    stopped.reaches(State.READY)


def test_a_machine_in_the_middle_of_something_is_not_saved(stopped: Site) -> None:
    for state in (State.REQUESTED, State.BUILDING, State.STOPPING, State.HIBERNATING, State.ENDING):
        put(stopped.node.ledger, ID, state=state)
        with pytest.raises(ConflictError, match=str(state)):
            stopped.cloud.save(ID, TAG)
    assert stopped.cloud.saved()["busy"] == []


def full(_site: Site, mocker: MockerFixture) -> None:
    def fill(_builder: object, _machine: str, _moment: object, target: Path) -> None:
        target.write_text("half")
        raise OSError(28, "No space left on device")

    mocker.patch("bait.cloud.build.CloudBuilder.save", fill)


def no_folder(site: Site, _mocker: MockerFixture) -> None:
    folder(site).write_text("")


def no_disk(site: Site, _mocker: MockerFixture) -> None:
    site.disk().unlink()


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (full, "the node can't write the image: its disk is full (the node's"),
        (no_folder, "the node can't write the image (the node's"),
        (no_disk, "the node can't write the image (the node's"),
    ],
)
def test_what_fails_is_said_leaves_nothing_and_can_be_tried_again(
    stopped: Site,
    mocker: MockerFixture,
    break_it: Callable[[Site, MockerFixture], None],
    message: str,
) -> None:
    break_it(stopped, mocker)
    stopped.cloud.save(ID, TAG)
    told = done(stopped)
    assert isinstance(told["failed"], dict)
    assert told["failed"][TAG].startswith(message)
    assert told["tags"] == []
    if folder(stopped).is_dir():
        assert list(folder(stopped).iterdir()) == []
    if break_it is full:
        mocker.stopall()
        stopped.cloud.save(ID, TAG)
        told = done(stopped)
        assert (told["tags"], told["busy"], told["failed"]) == ([TAG], [], {})
