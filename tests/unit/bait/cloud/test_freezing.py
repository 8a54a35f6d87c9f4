"""A guest's file systems are frozen for a moment, and always thawed. libvirt's test driver keeps
account of that as a guest's agent does; one that hangs or lies is told of in its place."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import libvirt
import pytest
from pytest_mock import MockerFixture

from bait.cloud.freezing import NOTE, Freezer
from bait.hypervisor.operations import IsIt
from tests.unit.bait.conftest import MACHINE, VOLUMES, Site, an_order
from tests.unit.conftest import eventually, needs_root, put
from wnodes_lrms.errors import UnknownError, WnodesError
from wnodes_lrms.model import State
from wnodes_lrms.volumes import Consistency

pytestmark = needs_root
ID = str(MACHINE)
ONE, TWO = (str(volume) for volume in VOLUMES[:2])
TAG = "mine_linux_x86_64"


def silent(*_: object) -> Any:
    raise libvirt.libvirtError("Guest agent is not responding: it has not answered in time")


@pytest.fixture
def running(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A VM with a volume and an agent; no answer of which can be late with this driver."""
    monkeypatch.setattr(libvirt.virDomain, "agentSetResponseTimeout", lambda *_: 0)
    monkeypatch.setattr("bait.cloud.freezing._INSISTING", 0.0)
    monkeypatch.setattr("bait.cloud.freezing._TURN", 0.0)
    site.cloud.volumes.create(ONE, 1)
    site.runs(an_order(volumes=VOLUMES[:1]))
    monkeypatch.setattr(site.libvirt, "has", has)
    return site


def has(_machine: str, _is_it: IsIt) -> bool:
    return True  # its volume is not one of those that were plugged in


def freezer(site: Site) -> Freezer:
    return site.cloud.freezer


def domain(site: Site) -> libvirt.virDomain:
    return site.libvirt._connect().lookupByUUIDString(ID)


def is_frozen(site: Site) -> bool:
    """Asked so that it is as it was afterwards."""
    frozen: bool = domain(site).fsThaw() > 0
    if frozen:
        domain(site).fsFreeze()
    return frozen


def noted(site: Site) -> str | None:
    return site.node.ledger.note(NOTE)


def backs_up(site: Site, mocker: MockerFixture) -> list[bool]:
    """Have libvirt's part of a copy done; whether the guest was frozen then."""
    seen: list[bool] = []

    def backup(
        _machine: str, _disk: str, file: Path, _form: str, moment: AbstractContextManager[object]
    ) -> None:
        with moment:
            seen.append(is_frozen(site))
        assert not is_frozen(site)  # though the copy is not finished yet
        file.touch()

    mocker.patch.object(site.libvirt, "backup", backup)
    return seen


def copied(site: Site) -> dict[str, Any]:
    told: list[dict[str, Any]] = []

    def is_done() -> bool:
        told.append(site.cloud.copy_volume(ONE, TWO))
        return bool(told[-1]["done"])

    eventually(is_done)
    return told[-1]


def test_a_copy_of_a_running_vms_volume_is_frozen(running: Site, mocker: MockerFixture) -> None:
    seen = backs_up(running, mocker)
    told = copied(running)
    assert (told["consistency"], seen) == ("frozen", [True])
    assert told["at"] > 0
    assert not is_frozen(running)
    assert noted(running) is None


def test_so_is_a_saved_image(running: Site, mocker: MockerFixture) -> None:
    seen = backs_up(running, mocker)
    mocker.patch("bait.cloud.disks.strip", return_value=True)
    running.cloud.save(ID, TAG)
    eventually(lambda: not running.cloud.saved()["busy"])
    assert running.cloud.saved()["made"] == {TAG: {"consistency": "frozen", "stripped": True}}
    assert seen == [True]


def test_the_note_is_there_before_the_guest_is_frozen(running: Site, mocker: MockerFixture) -> None:
    notes: list[str | None] = []

    def freeze(_machine: str) -> bool:
        notes.append(noted(running))
        return False

    mocker.patch.object(running.libvirt, "freeze", freeze)
    with freezer(running).moment(ID) as moment:
        pass
    assert notes == [ID]
    assert moment.consistency is Consistency.CRASH
    assert noted(running) is None


def test_a_guest_that_does_not_answer_costs_no_more_than_its_word(
    running: Site, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it may have done is undone, as soon as it answers."""
    seen = backs_up(running, mocker)
    domain(running).fsFreeze()  # it froze, and was too late with its answer
    for name in ("fsFreeze", "fsThaw"):
        monkeypatch.setattr(libvirt.virDomain, name, silent)
    mocker.patch(f"{__name__}.is_frozen", return_value=False)
    assert copied(running)["consistency"] == "crash"
    assert seen
    mocker.stopall()
    eventually(lambda: not freezer(running)._busy)
    assert noted(running) == ID
    monkeypatch.undo()
    monkeypatch.setattr(libvirt.virDomain, "agentSetResponseTimeout", lambda *_: 0)
    assert is_frozen(running)
    freezer(running).thaw_left()
    eventually(lambda: noted(running) is None)
    assert not is_frozen(running)


def test_a_guest_that_is_late_is_thawed_as_soon_as_it_hears(
    running: Site, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bait.cloud.freezing._INSISTING", 60.0)
    monkeypatch.setattr("bait.cloud.freezing._AGAIN", 0.01)
    domain(running).fsFreeze()
    real, heard = running.libvirt.thaw, iter((False, False, True))

    def thaw(machine: str) -> int | None:
        if not next(heard):
            raise WnodesError("it has not answered in time")
        return real(machine)

    mocker.patch.object(running.libvirt, "freeze", side_effect=WnodesError("too late"))
    mocker.patch.object(running.libvirt, "thaw", thaw)
    assert not freezer(running).freeze(ID)
    eventually(lambda: noted(running) is None)
    assert not is_frozen(running)
    assert next(heard, None) is None


def test_what_an_agent_says_of_its_faults_does_not_fill_the_log(
    running: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def rubbish(_: libvirt.virDomain) -> int:
        raise libvirt.libvirtError("guest agent command failed: " + "x" * (1 << 20))

    for name in ("fsFreeze", "fsThaw"):
        monkeypatch.setattr(libvirt.virDomain, name, rubbish)
    assert not freezer(running).freeze(ID)
    eventually(lambda: "its guest may be frozen" in caplog.text)
    assert len(caplog.text) < 5000
    monkeypatch.undo()


def test_what_can_not_be_noted_is_not_frozen(running: Site, mocker: MockerFixture) -> None:
    mocker.patch.object(running.node.ledger, "set_note", side_effect=WnodesError("a full disk"))
    with pytest.raises(WnodesError, match="a full disk"):
        freezer(running).freeze(ID)
    assert not is_frozen(running)
    mocker.stopall()
    assert freezer(running).freeze(ID)
    assert freezer(running).thaw(ID, own=True)


def test_a_guest_that_wrote_meanwhile_was_not_frozen(
    running: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with freezer(running).moment(ID) as moment:
        domain(running).fsThaw()  # as one may from within, or by a reset
    assert moment.consistency is Consistency.CRASH
    monkeypatch.setattr(libvirt.virDomain, "fsFreeze", lambda _: 0)  # it has nothing to freeze
    with freezer(running).moment(ID) as moment:
        pass
    assert moment.consistency is Consistency.CRASH
    assert noted(running) is None


def test_what_a_killed_bait_has_frozen_the_next_one_thaws(running: Site) -> None:
    freezer(running).freeze(ID)
    running.restarted()
    assert is_frozen(running)
    assert noted(running) == ID
    for _ in range(2):
        freezer(running).thaw_left()
        eventually(lambda: noted(running) is None and not freezer(running)._busy)
        assert not is_frozen(running)


def test_who_is_just_frozen_is_not_thawed_by_the_way(running: Site) -> None:
    with freezer(running).moment(ID) as moment:
        freezer(running).thaw_left()
        assert not freezer(running).thaw(ID)
        with freezer(running).moment(ID) as second:
            pass
        assert is_frozen(running)
    assert moment.consistency is Consistency.FROZEN
    assert second.consistency is Consistency.CRASH
    assert noted(running) is None


def test_who_may_be_frozen_is_not_taken_for_thawed_by_the_next_copy(
    running: Site, mocker: MockerFixture
) -> None:
    """Such as one whose VM is suspended by then, so that its agent can't hear."""
    freezer(running).freeze(ID)
    running.restarted()
    mocker.patch.object(running.libvirt, "freeze", return_value=False)
    with freezer(running).moment(ID) as moment:
        pass
    assert moment.consistency is Consistency.CRASH
    assert noted(running) == ID
    mocker.stopall()
    assert freezer(running).thaw(ID)


def test_a_guest_that_does_not_hear_the_end_of_the_moment_is_told_again_at_once(
    running: Site, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bait.cloud.freezing._INSISTING", 60.0)
    monkeypatch.setattr("bait.cloud.freezing._AGAIN", 0.01)
    real, deaf = running.libvirt.thaw, iter((True, True))

    def thaw(machine: str) -> int | None:
        if next(deaf, False):
            raise WnodesError("it has not answered in time")
        return real(machine)

    mocker.patch.object(running.libvirt, "thaw", thaw)
    with freezer(running).moment(ID) as moment:
        pass
    assert moment.consistency is Consistency.CRASH  # nobody knows
    eventually(lambda: noted(running) is None)
    assert not is_frozen(running)


def test_guests_that_do_not_answer_take_one_thread_however_often_they_are_told(
    running: Site, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the bait's, and of libvirt's: those of all other VMs are the same."""
    monkeypatch.setattr("bait.cloud.freezing._INSISTING", 60.0)
    guests = [str(volume) for volume in VOLUMES]
    running.node.ledger.set_note(NOTE, " ".join(guests))
    told, answer = [], threading.Semaphore(0)

    def thaw(machine: str) -> int | None:
        told.append(machine)
        assert answer.acquire(timeout=60)
        return 1

    mocker.patch.object(running.libvirt, "thaw", thaw)
    before = {*threading.enumerate()}
    for _ in range(5):
        freezer(running).thaw_left()

    def more() -> int:
        return len({*threading.enumerate()} - before)

    eventually(lambda: told and more() == 1)
    assert len(told) == 1
    for _ in guests:
        answer.release()
    eventually(lambda: noted(running) is None)
    assert sorted(told) == sorted(guests)
    eventually(lambda: more() == 0)


def test_a_fault_of_the_baits_own_leaves_no_guest_for_ever_busy(
    running: Site, mocker: MockerFixture
) -> None:
    mocker.patch.object(running.libvirt, "freeze", side_effect=MemoryError)
    with pytest.raises(MemoryError):
        freezer(running).freeze(ID)
    mocker.stopall()
    domain(running).fsFreeze()  # it had been asked
    freezer(running).thaw_left()
    eventually(lambda: noted(running) is None)
    assert not is_frozen(running)


def test_copies_of_one_guests_disks_that_are_made_at_once_are_all_frozen(
    running: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Ceph the snapshots of two volumes may be."""
    monkeypatch.setattr("bait.cloud.freezing._TURN", 60.0)
    begun = threading.Event()

    def other() -> Consistency:
        begun.set()
        with freezer(running).moment(ID) as second:
            assert is_frozen(running)
        return second.consistency

    with ThreadPoolExecutor(1) as threads:
        with freezer(running).moment(ID) as first:
            second = threads.submit(other)
            assert begun.wait(60)
        assert (first.consistency, second.result(60)) == (Consistency.FROZEN, Consistency.FROZEN)
    assert noted(running) is None
    assert not is_frozen(running)


def test_a_fault_of_the_copy_leaves_nobody_frozen(running: Site) -> None:
    with pytest.raises(WnodesError, match="no copy"), freezer(running).moment(ID):
        raise WnodesError("no copy")
    assert not is_frozen(running)
    assert noted(running) is None


@pytest.mark.parametrize(
    ("state", "stays"), [(State.STOPPED, False), (State.HIBERNATED, True), (None, False)]
)
def test_who_does_not_run_any_more_is_frozen_only_in_its_memory(
    running: Site, state: State | None, stays: bool
) -> None:
    freezer(running).freeze(ID)
    running.restarted()
    domain(running).destroy()
    eventually(lambda: running.row().state is State.STOPPED)
    if state:
        put(running.node.ledger, ID, state=state)
    else:
        running.node.ledger.forget(running.row(), "gone")
    assert not freezer(running).thaw(ID)
    assert (noted(running) == ID) is stays


def test_a_libvirt_that_is_away_changes_nothing(running: Site, mocker: MockerFixture) -> None:
    freezer(running).freeze(ID)
    running.restarted()
    mocker.patch.object(running.libvirt, "thaw", side_effect=UnknownError("away"))
    for _ in range(2):
        assert not freezer(running).thaw(ID)
    assert noted(running) == ID
    mocker.stopall()
    assert freezer(running).thaw(ID)
