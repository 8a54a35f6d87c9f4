"""Copies of volumes, while VMs come and go."""

import os
import threading
import uuid
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import pytest
from pytest_mock import MockerFixture

from bait.cloud.freezing import Moment
from bait.hypervisor.operations import IsIt
from bait.volumes.directory import Directory
from tests.unit.bait.conftest import MACHINE, VOLUMES, Site, an_order
from tests.unit.conftest import eventually, needs_root, put
from wnodes_lrms.errors import AbsentError, ConflictError, RejectedError, WnodesError
from wnodes_lrms.model import State
from wnodes_lrms.volumes import serial

pytestmark = needs_root
ID = str(MACHINE)
ONE, TWO, THREE = (str(volume) for volume in VOLUMES)
WORK = b"a user's work"


def path(site: Site, volume: str) -> Path:
    assert isinstance(site.cloud.volumes, Directory)
    return site.cloud.volumes.path(volume)


@pytest.fixture
def pool(site: Site) -> Site:
    site.cloud.volumes.create(ONE, 1)
    with path(site, ONE).open("r+b") as file:
        for at in (5, 700 << 20):
            file.seek(at)
            file.write(WORK)
    return site


def copied(site: Site, volume: str = TWO) -> dict[str, Any]:
    """How a copy is in the end."""
    told: list[dict[str, Any]] = []

    def is_done() -> bool:
        told.append(site.cloud.copy_volume(ONE, volume))
        return bool(told[-1]["done"])

    eventually(is_done)
    return told[-1]


def content(site: Site, volume: str = TWO) -> list[bytes]:
    with path(site, volume).open("rb") as file:
        return [os.pread(file.fileno(), len(WORK), at) for at in (5, 700 << 20)]


class Held:
    """Copies that wait, once they are at it, until the test lets them go on."""

    def __init__(self, mocker: MockerFixture) -> None:
        self.there, self.go_on = threading.Event(), threading.Event()
        real = Directory.filling

        def filling(pool: Directory, volume: str, size: int) -> Any:
            self.there.set()
            assert self.go_on.wait(60)
            return real(pool, volume, size)

        mocker.patch("bait.cloud.copies._MOMENT", 0.01)
        mocker.patch.object(Directory, "filling", filling)


@pytest.fixture
def held(mocker: MockerFixture) -> Held:
    return Held(mocker)


def test_a_copy_has_what_the_volume_had(pool: Site) -> None:
    told = copied(pool)
    assert (told["size"], told["consistency"]) == (1, "offline")
    assert content(pool) == [WORK, WORK]
    assert pool.cloud.volumes.list() == {ONE: 1, TWO: 1}
    blocks = [path(pool, volume).stat().st_blocks for volume in (ONE, TWO)]
    assert blocks[1] <= blocks[0]  # what was never written takes no room
    again = copied(pool)
    assert (again["size"], again["consistency"], again["at"]) == (1, "", 0.0)
    with path(pool, TWO).open("r+b") as file:
        file.write(b"another's")
    assert content(pool, ONE) == [WORK, WORK]


def test_no_copy_of_what_is_not_there_or_finds_no_room(pool: Site, mocker: MockerFixture) -> None:
    with pytest.raises(AbsentError):
        pool.cloud.copy_volume(str(uuid.uuid4()), TWO)
    mocker.patch.object(Directory, "_check_room", side_effect=RejectedError("no room for that"))
    with pytest.raises(RejectedError, match="no room"):
        copied(pool)
    assert pool.cloud.volumes.list() == {ONE: 1}
    mocker.stopall()
    copied(pool)


def test_a_copy_that_is_asked_for_twice_is_made_once(pool: Site, held: Held) -> None:
    for _ in range(3):
        assert not pool.cloud.copy_volume(ONE, TWO)["done"]
    held.go_on.set()
    assert copied(pool)["consistency"] == "offline"


def test_what_a_killed_bait_has_begun_is_begun_anew(pool: Site) -> None:
    half = path(pool, ONE).with_name(f"{TWO}.copy")
    half.write_bytes(b"half of it")
    pool.restarted()
    copied(pool)
    assert content(pool) == [WORK, WORK]
    assert not half.exists()


def test_a_vm_does_not_write_on_what_is_being_copied(pool: Site, held: Held) -> None:
    pool.runs()
    pool.cloud.copy_volume(ONE, TWO)
    assert held.there.wait(60)
    with pytest.raises(ConflictError, match="is being copied: ask again"):
        pool.cloud.attach_volume(ID, ONE)
    assert pool.cloud.attach_volume(ID, ONE, True) == "vdc"  # but who only reads it may
    pool.cloud.detach_volume(ID, ONE)
    with pytest.raises(ConflictError, match="in use"):
        pool.cloud.delete_volume(ONE)
    held.go_on.set()
    copied(pool)
    assert pool.cloud.attach_volume(ID, ONE) == "vdc"


def test_a_vm_that_starts_waits_for_the_copy_of_its_volume(pool: Site, held: Held) -> None:
    pool.runs(an_order(volumes=VOLUMES[:1]))
    pool.cloud.stop(ID, "poweroff")
    pool.reaches(State.STOPPED)
    pool.cloud.copy_volume(ONE, TWO)
    assert held.there.wait(60)
    next(pool.lease(an_order(volumes=VOLUMES[:1]), "9"))
    eventually(lambda: pool.row().state is State.BUILDING)
    with pytest.raises(ConflictError, match="building: ask again"):
        pool.cloud.copy_volume(ONE, THREE)
    assert ID not in pool.domains()
    held.go_on.set()
    pool.reaches(State.READY)
    assert copied(pool)["consistency"] == "offline"


def test_of_a_vm_that_runs_its_qemu_makes_the_copy(pool: Site, mocker: MockerFixture) -> None:
    asked: list[tuple[str, bool, str]] = []

    def backup(machine: str, is_it: IsIt, file: Path, form: str, moment: Moment) -> None:
        disk = Element("disk")
        SubElement(disk, "serial").text = serial(ONE)
        asked.append((machine, is_it(disk), form))
        assert file.stat().st_size == 1 << 30
        with moment:
            moment.at = 17.0  # it has to wait for another one of that VM first

    mocker.patch.object(pool.libvirt, "backup", backup)
    pool.runs()
    pool.cloud.attach_volume(ID, ONE)
    told = copied(pool)
    assert (told["consistency"], told["at"]) == ("crash", 17.0)
    assert asked == [(ID, True, "raw")]
    assert pool.cloud.volumes.list() == {ONE: 1, TWO: 1}
    mocker.patch.object(pool.libvirt, "backup", side_effect=WnodesError("no"))
    with pytest.raises(WnodesError, match="no"):
        copied(pool, THREE)
    assert pool.cloud.volumes.list() == {ONE: 1, TWO: 1}
    pool.libvirt.plugged = []  # given, and not in yet, or not any more
    with pytest.raises(ConflictError, match="not have the volume yet"):
        copied(pool, THREE)
    mocker.patch.object(pool.node.ledger, "attached", return_value={})  # taken out just now
    with pytest.raises(ConflictError, match="not have the volume yet"):
        copied(pool, THREE)


@pytest.mark.parametrize(
    ("state", "consistency"), [(State.HIBERNATED, "crash"), (State.FAILED, "offline")]
)
def test_a_copy_says_what_it_is_like(pool: Site, state: State, consistency: str) -> None:
    pool.runs(an_order(volumes=VOLUMES[:1]))
    pool.cloud.stop(ID, "poweroff")
    pool.reaches(State.STOPPED)
    put(pool.node.ledger, ID, state=state)
    assert copied(pool)["consistency"] == consistency


def test_a_node_makes_only_so_many_at_once(pool: Site, held: Held) -> None:
    four = [str(uuid.uuid4()) for _ in range(4)]
    for volume in four:
        pool.cloud.copy_volume(ONE, volume)
    with pytest.raises(ConflictError, match="4 copies are being made"):
        pool.cloud.copy_volume(ONE, TWO)
    held.go_on.set()
    for volume in four:
        copied(pool, volume)
    copied(pool)


def test_a_volume_that_is_read_in_small_pieces_is_copied_whole(
    pool: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """read(2) may give less than it was asked for."""
    pread = os.pread
    monkeypatch.setattr("os.pread", lambda file, size, at: pread(file, min(size, 7), at))
    copied(pool)
    monkeypatch.undo()
    assert content(pool) == [WORK, WORK]


def test_a_volume_that_can_not_be_looked_at_is_told_of(pool: Site, mocker: MockerFixture) -> None:
    gone = path(pool, ONE).with_name("gone.raw")
    mocker.patch.object(Directory, "path", return_value=gone)
    with pytest.raises(WnodesError, match=f"volume {ONE} can't be read: No such file"):
        pool.cloud.copy_volume(ONE, TWO)


def test_who_hears_of_a_copy_late_forgets_none_that_was_begun_after_it(
    pool: Site, held: Held
) -> None:
    pool.cloud.copy_volume(ONE, TWO)
    known: dict[str, Any] = pool.cloud.copies._known
    over, newer = known[TWO].over, object()

    class Late:
        """It is over, and somebody else has heard of it and begun another, before we hear."""

        is_set, set = over.is_set, over.set

        def wait(self, _seconds: float) -> None:
            assert over.wait(60)
            known[TWO] = newer

    known[TWO].over = Late()
    held.go_on.set()
    pool.cloud.copy_volume(ONE, TWO)
    assert known[TWO] is newer
