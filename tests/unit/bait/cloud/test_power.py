"""A cloud VM that is suspended, hibernated or restarted."""

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import libvirt
import pytest
from pytest_mock import MockerFixture

from bait.hypervisor.domain import FULL
from bait.reconcile.plan import Act
from tests.unit.bait.cloud.cloudsite import ID, UID, acts, leaves_nothing, rest_of
from tests.unit.bait.conftest import VOLUMES, Site, an_order
from tests.unit.conftest import TAG, needs_root, put
from wnodes_lrms.errors import ConflictError, RejectedError, UnknownError, WnodesError
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.model import State

pytestmark = needs_root  # files that only root may write


def test_suspended_and_resumed_in_its_lease(site: Site, libvirt_test: libvirt.virConnect) -> None:
    site.runs()
    for _ in range(2):
        site.cloud.suspend(ID, "suspend")
        assert libvirt_test.lookupByUUIDString(ID).state()[0] == libvirt.VIR_DOMAIN_PAUSED
        assert site.cloud.machine(ID)["state"] == "suspended"
    assert acts(site) == []
    with pytest.raises(ConflictError, match="suspended, not running"):
        site.cloud.restart(ID, "warm")
    for _ in range(2):
        site.cloud.resume(ID)
        assert libvirt_test.lookupByUUIDString(ID).state()[0] == libvirt.VIR_DOMAIN_RUNNING
    assert site.row().job == "7"


def test_a_machine_stands_still_while_the_batch_system_suspends_its_lease(
    site: Site, libvirt_test: libvirt.virConnect
) -> None:
    site.runs()
    site.node.batch.suspended = {"7"}
    assert acts(site) == [Act.PAUSE]
    shown = site.cloud.machine(ID)
    said = "the batch system has suspended its job"
    assert (shown["state"], shown["reason"]) == ("suspended", said)
    assert libvirt_test.lookupByUUIDString(ID).state()[0] == libvirt.VIR_DOMAIN_PAUSED
    assert acts(site) == []
    with pytest.raises(ConflictError, match="it goes on when that does"):
        site.cloud.resume(ID)
    for refused in (site.cloud.restart, site.cloud.suspend):
        with pytest.raises(ConflictError, match="paused, not running"):
            refused(ID, "hibernate" if refused == site.cloud.suspend else "graceful")
    site.node.batch.suspended = set()
    assert acts(site) == [Act.CONTINUE]
    shown = site.cloud.machine(ID)
    assert (shown["state"], shown["reason"]) == ("running", "")
    assert libvirt_test.lookupByUUIDString(ID).state()[0] == libvirt.VIR_DOMAIN_RUNNING


def test_what_its_user_has_suspended_stays_so_when_its_lease_goes_on(site: Site) -> None:
    site.runs()
    site.cloud.suspend(ID, "suspend")
    for suspended in ({"7"}, set[str]()):
        site.node.batch.suspended = suspended
        assert acts(site) == []
    assert site.row().state is State.SUSPENDED


def test_a_paused_machine_is_stopped_or_removed_as_any(site: Site) -> None:
    site.runs()
    site.node.batch.suspended = {"7"}
    acts(site)
    site.cloud.stop(ID, "poweroff")
    assert site.reaches(State.STOPPED)


@pytest.mark.parametrize("told", [True, False])
def test_a_guest_that_sleeps_is_shown_as_suspended_and_can_be_started(
    site: Site, told: bool
) -> None:
    """Told by libvirt at once, or found at the next look."""

    def happens(act: Act) -> None:
        if told:
            site.bait.reconciler.slept(ID)
        else:
            assert acts(site) == [act]

    site.runs()
    site.libvirt.sleeps = True
    happens(Act.FOLLOW)
    shown = site.cloud.machine(ID)
    assert (shown["state"], shown["reason"]) == ("suspended", "the guest has put itself to sleep")
    assert acts(site) == []
    for refused in (site.cloud.restart, site.cloud.suspend):
        with pytest.raises(ConflictError, match="asleep, not running"):
            refused(ID, "hibernate" if refused == site.cloud.suspend else "graceful")
    site.cloud.resume(ID)
    assert not site.libvirt.sleeps
    shown = site.cloud.machine(ID)
    assert (shown["state"], shown["reason"]) == ("running", "")
    site.libvirt.sleeps = True
    happens(Act.FOLLOW)
    site.libvirt.sleeps = False  # by its own clock
    happens(Act.FOLLOW)
    assert site.cloud.machine(ID)["state"] == "running"
    assert site.row().job == "7"


def test_a_guest_is_not_said_to_be_woken_before_it_is(site: Site, mocker: MockerFixture) -> None:
    """Else a bait that dies in between takes it for one that has gone to sleep again."""
    site.runs()
    site.libvirt.sleeps = True
    assert acts(site) == [Act.FOLLOW]
    away = mocker.patch.object(site.libvirt, "resume", side_effect=UnknownError("libvirt is away"))
    with pytest.raises(UnknownError):
        site.cloud.resume(ID)
    assert site.cloud.machine(ID)["state"] == "suspended"
    mocker.stop(away)
    site.cloud.resume(ID)
    assert site.cloud.machine(ID)["state"] == "running"


@pytest.mark.parametrize("told", [True, False])
def test_a_guest_that_has_panicked_is_shown_so_and_started_anew(
    site: Site, told: bool, mocker: MockerFixture
) -> None:
    """Told by libvirt at once, or found at the next look."""

    def panics() -> None:
        site.libvirt.panicked = True
        if told:
            site.bait.reconciler.panicked(ID)
        else:
            assert acts(site) == [Act.PANIC]
        shown = site.cloud.machine(ID)
        assert (shown["state"], shown["crashed"], shown["reason"]) == (
            *("running", True, "the guest's kernel has panicked"),
        )
        assert acts(site) == []

    def is_well() -> None:
        shown = site.cloud.machine(ID)
        assert (shown["state"], shown["crashed"], shown["reason"]) == ("running", False, "")
        assert acts(site) == []

    site.runs()
    is_well()
    reset = mocker.spy(site.libvirt, "reset")
    for times, method in enumerate(("warm", "graceful"), 1):  # it can't be asked to shut down
        panics()
        site.cloud.restart(ID, method)
        assert reset.call_count == times
        is_well()
    panics()
    site.libvirt.panicked = False  # an administrator has reset it
    assert acts(site) == [Act.PANIC]
    is_well()
    panics()
    site.cloud.restart(ID, "cold")
    site.libvirt.panicked = False  # as it is another domain
    site.reaches(State.READY)
    is_well()
    panics()
    site.cloud.stop(ID, "graceful")
    site.reaches(State.STOPPED)
    assert site.domains() == []


def test_a_guest_that_sleeps_is_woken_to_shut_down(site: Site) -> None:
    order = site.runs()
    site.libvirt.sleeps = True
    assert acts(site) == [Act.FOLLOW]
    site.cloud.stop(ID, "graceful")
    site.reaches(State.STOPPED)
    assert not site.libvirt.sleeps
    assert site.libvirt.pressed == 1
    assert site.outcome(order)[1] == 0


def test_a_guest_that_can_not_be_woken_is_ended_in_time(site: Site, mocker: MockerFixture) -> None:
    site.runs()
    site.libvirt.deaf = True
    mocker.patch.object(site.libvirt, "resume", side_effect=WnodesError("it does not wake"))
    site.cloud.stop(ID, "graceful")
    site.reaches(State.STOPPED)
    assert site.domains() == []


def test_what_was_said_and_not_done_is_done_by_the_next_bait(
    site: Site, libvirt_test: libvirt.virConnect
) -> None:
    site.runs()
    put(site.node.ledger, ID, state=State.SUSPENDED)
    site.restarted()
    assert acts(site) == [Act.HOLD]
    assert libvirt_test.lookupByUUIDString(ID).state()[0] == libvirt.VIR_DOMAIN_PAUSED
    assert acts(site) == []
    put(site.node.ledger, ID, state=State.READY)
    assert acts(site) == [Act.WAKE]
    assert libvirt_test.lookupByUUIDString(ID).state()[0] == libvirt.VIR_DOMAIN_RUNNING


@pytest.mark.parametrize("act", ["suspend", "resume"])
def test_what_libvirt_can_not_do_is_not_said_to_be_done(
    site: Site, act: str, mocker: MockerFixture
) -> None:
    site.runs()
    if act == "resume":
        site.cloud.suspend(ID, "suspend")
    before = site.row().state
    mocker.patch.object(site.libvirt, act, side_effect=WnodesError("it can't"))
    with pytest.raises(WnodesError, match="it can't"):
        site.cloud.resume(ID) if act == "resume" else site.cloud.suspend(ID, "suspend")
    assert site.row().state is before


@pytest.mark.parametrize("suspended", [False, True])
def test_hibernated_it_has_no_lease_and_starts_with_its_memory(
    site: Site, suspended: bool, mocker: MockerFixture
) -> None:
    order = site.runs()
    memory = site.cloud.builder.paths(ID).memory
    if suspended:
        site.cloud.suspend(ID, "suspend")
    site.cloud.suspend(ID, "hibernate")
    site.reaches(State.HIBERNATED)
    assert site.domains() == []
    assert memory.exists()
    shown = site.cloud.machine(ID)
    assert (shown["state"], shown["lease"]) == ("suspended", "")
    assert site.outcome(order) == ("its user has suspended it", 0)
    site.cloud.suspend(ID, "hibernate")
    with pytest.raises(ConflictError):
        site.cloud.resume(ID)
    restore = mocker.spy(site.libvirt, "restore")
    create = mocker.spy(site.libvirt, "create")
    site.runs(job="8")
    assert restore.call_count == 1
    assert create.call_count == 0
    assert [path.name for path in memory.parent.glob("memory*")] == []


def test_it_is_not_hibernated_while_a_disk_is_copied(
    site: Site, mocker: MockerFixture, tmp_path: Path
) -> None:
    """libvirt would do that after the copy, and until then its guest would run without a lease."""
    begun, go_on = threading.Event(), threading.Event()

    def backup(*_: object) -> None:
        begun.set()
        assert go_on.wait(60)

    mocker.patch("bait.hypervisor.operations.backup", backup)
    site.runs()
    args = (ID, lambda _: True, tmp_path / "copy", "qcow2", nullcontext())
    copying = threading.Thread(target=site.libvirt.backup, args=args, daemon=True)
    copying.start()
    assert begun.wait(60)
    with pytest.raises(ConflictError, match="is being copied: ask again"):
        site.cloud.suspend(ID, "hibernate")
    assert site.row().state is State.READY
    site.cloud.suspend(ID, "suspend")
    go_on.set()
    copying.join(60)
    site.cloud.suspend(ID, "hibernate")
    site.reaches(State.HIBERNATED)


def test_what_hibernates_starts_as_large_as_it_was(site: Site) -> None:
    site.runs()
    site.cloud.suspend(ID, "hibernate")
    site.reaches(State.HIBERNATED)
    with pytest.raises(RejectedError, match="hibernates with 1 cores and 256 MiB"):
        next(site.lease(an_order(memory=300), "8"))
    site.runs(job="9")


def test_a_disk_stays_with_its_image(site: Site) -> None:
    site.runs()
    site.cloud.stop(ID, "poweroff")
    site.reaches(State.STOPPED)
    with pytest.raises(RejectedError, match=f"made from image {TAG}"):
        next(site.lease(an_order(image="other_linux_x86_64"), "8"))


def test_a_memory_that_can_not_be_read_is_kept(site: Site) -> None:
    site.runs()
    site.cloud.suspend(ID, "hibernate")
    site.reaches(State.HIBERNATED)
    memory = site.cloud.builder.paths(ID).memory
    good = memory.read_bytes()
    memory.write_bytes(b"no memory")
    order = an_order()
    told = rest_of(site.lease(order, "8"))
    assert "can't restore" in told[-1]["ended"]
    assert told[-1]["code"] == 1
    assert site.row().state is State.FAILED
    assert site.disk().exists()
    assert memory.read_bytes() == b"no memory"
    memory.write_bytes(good)
    site.runs(job="9")


def test_what_can_not_be_hibernated_goes_on_running(site: Site) -> None:
    order = site.runs()
    site.cloud.builder.paths(ID).memory.with_suffix(".new").mkdir()
    site.cloud.suspend(ID, "hibernate")
    site.reaches(State.READY)
    assert site.domains() == [ID]
    assert "could not be hibernated" in site.cloud.machine(ID)["reason"]
    assert site.outcome(order) == (None, None)


def test_one_that_dies_while_its_memory_is_written_rests_at_once(
    site: Site, mocker: MockerFixture
) -> None:
    """And not only when it is looked at again, which is booked until then."""
    order = site.runs()

    def dies(machine: str, _file: Path) -> None:
        site.libvirt.destroy(machine)
        raise WnodesError("its QEMU was killed")

    mocker.patch.object(site.libvirt, "save", dies)
    site.cloud.suspend(ID, "hibernate")
    site.reaches(State.STOPPED)
    assert not site.domains()
    assert site.outcome(order)[1] == 0


def test_the_lease_ends_while_its_memory_is_written(site: Site, mocker: MockerFixture) -> None:
    order = site.runs()
    save, go_on = site.libvirt.save, threading.Event()

    def slow(machine: str, file: Path) -> None:
        assert go_on.wait(5)
        save(machine, file)

    mocker.patch.object(site.libvirt, "save", slow)
    site.cloud.suspend(ID, "hibernate")
    site.cloud.jobs.ending(JobId("7"), UID)  # hibernating is how it ends
    assert site.row().state is State.HIBERNATING
    threading.Timer(0.2, go_on.set).start()
    site.bait.reconciler.release("7")
    site.reaches(State.HIBERNATED)
    assert site.cloud.builder.paths(ID).memory.exists()
    assert site.outcome(order)[0] == "its user has suspended it"


def test_destroyed_while_its_memory_is_written(site: Site, mocker: MockerFixture) -> None:
    order = site.runs()
    save, begun = site.libvirt.save, threading.Event()

    def slow(machine: str, file: Path) -> None:
        begun.set()
        time.sleep(0.2)
        save(machine, file)

    mocker.patch.object(site.libvirt, "save", slow)
    site.cloud.suspend(ID, "hibernate")
    assert begun.wait(5)
    site.cloud.delete(ID)
    site.reaches(None)
    assert leaves_nothing(site)
    assert site.outcome(order)[1] == 0


@pytest.mark.parametrize("method", ["graceful", "warm", "cold"])
def test_restarted_in_its_lease(site: Site, libvirt_test: libvirt.virConnect, method: str) -> None:
    order = site.runs()
    inode, number = site.disk().stat().st_ino, libvirt_test.lookupByUUIDString(ID).ID()
    for _ in range(2):
        site.cloud.restart(ID, method)
        site.reaches(State.READY)
    site.node.drop_tasks()  # of all that libvirt told
    assert site.row().state is State.READY
    assert site.outcome(order) == (None, None)
    assert site.disk().stat().st_ino == inode
    assert (libvirt_test.lookupByUUIDString(ID).ID() == number) is (method != "cold")


@pytest.mark.parametrize(
    "ask",
    [
        lambda cloud: cloud.restart(ID, "warm"),
        lambda cloud: cloud.restart(ID, "graceful"),
        lambda cloud: cloud.suspend(ID, "suspend"),
    ],
)
def test_what_has_just_stopped_is_not_absent(
    site: Site, libvirt_test: libvirt.virConnect, ask: Callable[[Any], None]
) -> None:
    site.runs()
    site.libvirt.on_stop(lambda _machine, _how: None)
    libvirt_test.lookupByUUIDString(ID).destroy()
    with pytest.raises(ConflictError, match="does not run"):
        ask(site.cloud)


@pytest.mark.parametrize("told", [True, False])
def test_a_vm_that_finds_no_room_waits_for_it_and_says_so(
    site: Site, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by libvirt at once, or found at the next look."""

    def shown() -> tuple[str, str]:
        machine = site.cloud.machine(ID)
        return machine["state"], machine["reason"]

    site.cloud.volumes.create(str(VOLUMES[0]), 1)
    site.runs(an_order(volumes=VOLUMES[:1]))
    site.libvirt.stuck = True
    if told:
        site.bait.reconciler.stuck(ID)
    else:
        assert acts(site) == [Act.FULL]
    assert shown() == ("suspended", FULL)
    with pytest.raises(ConflictError, match="the site's storage is full"):
        site.cloud.resume(ID)
    with monkeypatch.context() as full:
        full.setattr("bait.cloud.volumes._SPARE", 1 << 60)
        assert acts(site) == [Act.WAKE]
        assert site.libvirt.stuck
    assert acts(site) == [Act.WAKE]
    assert not site.libvirt.stuck
    assert acts(site) == [Act.FULL]
    assert shown() == ("running", "")
    assert acts(site) == []
