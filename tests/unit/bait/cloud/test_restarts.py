"""A cloud VM's guest that is asked to restart, hears that late or never, or is asked by a bait that
is killed."""

import threading
from collections.abc import Callable, Iterator
from xml.etree.ElementTree import fromstring

import libvirt
import pytest
from pytest_mock import MockerFixture

from bait.cloud.restarts import NOTE
from bait.hypervisor.domain import PANICKED
from bait.reconcile.plan import Act
from tests.unit.bait.cloud.cloudsite import ID, acts
from tests.unit.bait.conftest import Button, Site
from tests.unit.conftest import eventually, needs_root, put
from wnodes_lrms.errors import UnknownError, WnodesError
from wnodes_lrms.model import State
from wnodes_lrms.restarts import DEAF, UNSEEN

pytestmark = needs_root  # files that only root may write


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bait.cloud.restarts._PRESS_AGAIN", 0.02)
    monkeypatch.setattr("bait.cloud.restarts._LOOK", 0.01)


@pytest.fixture
def deaf(site: Site) -> Iterator[Site]:
    """A site whose VM runs, and does not hear its power button; there is time for it to do so."""
    site.libvirt.deaf = True
    site.cloud.restarts.patience = 3600
    site.runs()
    yield site
    site.cloud.restarts.end(ID)


def at_poweroff(site: Site) -> str | None:
    """What becomes of the VM when its guest shuts down."""
    domain = site.libvirt._connect().lookupByUUIDString(ID)
    return fromstring(domain.XMLDesc()).findtext("on_poweroff")  # noqa: S314 (libvirt's own)


def under_way(site: Site) -> bool:
    return ID in site.cloud.restarts._under_way.machines()


def is_over(site: Site) -> bool:
    """Whether nobody presses its button, and its guest ends it by shutting down."""
    return not under_way(site) and site.node.ledger.note(NOTE) is None


def over(site: Site) -> None:
    eventually(lambda: is_over(site))
    assert at_poweroff(site) == "destroy"


def message(site: Site) -> str:
    shown = site.cloud.machine(ID)
    assert shown["state"] == "running"
    return str(shown["reason"])


def told(site: Site) -> list[str]:
    return [event.what for event in site.node.ledger.events(ID)]


def says_nothing(site: Site) -> None:
    """Its deaf guest is asked to restart, and does not."""
    site.cloud.restarts.patience = 0.1
    site.cloud.restart(ID, "graceful")
    eventually(lambda: message(site) == DEAF)
    over(site)


def pressed_for_a_while(site: Site) -> None:
    """Until it was pressed a few times more."""
    so_far = site.libvirt.pressed
    eventually(lambda: site.libvirt.pressed > so_far + 3)


def test_a_guest_that_does_not_hear_yet_is_asked_until_it_restarts(
    deaf: Site, libvirt_test: libvirt.virConnect
) -> None:
    number = libvirt_test.lookupByUUIDString(ID).ID()
    deaf.cloud.restart(ID, "graceful")
    pressed_for_a_while(deaf)
    assert at_poweroff(deaf) == "restart"
    deaf.libvirt.deaf = False
    over(deaf)
    assert libvirt_test.lookupByUUIDString(ID).ID() == number
    assert "the guest has started anew" in told(deaf)
    pressed = deaf.libvirt.pressed
    acts(deaf)
    deaf.cloud.restarts.settle_left()
    assert (deaf.libvirt.pressed, message(deaf)) == (pressed, "")
    deaf.cloud.restart(ID, "graceful")  # again, for itself
    over(deaf)
    assert deaf.libvirt.pressed == pressed + 1


def test_a_guest_that_never_reacts_is_told_of_until_the_next_act(site: Site) -> None:
    site.libvirt.deaf = True
    site.runs()
    restart, suspend = site.cloud.restart, site.cloud.suspend
    for ask, how in ((restart, "warm"), (suspend, "suspend"), (restart, "cold")):
        says_nothing(site)
        ask(ID, how)
        assert site.row().reason == ""
        if site.row().state is State.SUSPENDED:
            site.cloud.resume(ID)
        site.reaches(State.READY)
    says_nothing(site)
    site.cloud.restarts.patience = 3600
    site.cloud.restart(ID, "graceful")
    assert message(site) == ""
    site.cloud.restarts.end(ID)
    eventually(lambda: is_over(site))
    says_nothing(site)
    site.cloud.stop(ID, "poweroff")
    assert site.reaches(State.STOPPED)
    assert site.cloud.machine(ID)["reason"] == "its user has stopped it"


def test_asked_again_it_has_no_more_time_and_no_more_threads(deaf: Site) -> None:
    deaf.cloud.restart(ID, "graceful")
    task = deaf.cloud.restarts._under_way._tasks[ID]
    note = deaf.node.ledger.note(NOTE)
    deaf.cloud.restarts.patience = 7200
    deaf.cloud.restart(ID, "graceful")
    assert deaf.cloud.restarts._under_way._tasks == {ID: task}
    assert deaf.node.ledger.note(NOTE) == note


@pytest.mark.parametrize("method", ["graceful", "poweroff"])
def test_one_that_is_stopped_meanwhile_stays_so(deaf: Site, method: str) -> None:
    deaf.cloud.restart(ID, "graceful")
    pressed_for_a_while(deaf)
    deaf.libvirt.deaf = False
    deaf.cloud.stop(ID, method)
    deaf.reaches(State.STOPPED)
    eventually(lambda: is_over(deaf))
    assert deaf.domains() == []
    deaf.runs(job="8")
    assert at_poweroff(deaf) == "destroy"


def test_a_button_that_hangs_keeps_no_vm_from_its_end(
    deaf: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU does not answer until it is killed; and what is asked of it then comes too late."""
    pressed, killed = threading.Event(), threading.Event()

    def press(_button: Button) -> None:
        pressed.set()
        assert killed.wait(60)

    monkeypatch.setattr(Button, "press", press)
    deaf.cloud.restart(ID, "graceful")
    assert pressed.wait(60)
    deaf.bait.reconciler.release("7")
    assert deaf.row().state is State.STOPPED
    assert under_way(deaf)
    threading.Timer(0.1, killed.set).start()
    deaf.runs(job="8")  # not before
    assert killed.is_set()
    assert is_over(deaf)


def test_a_reset_is_the_restart_that_was_asked_for(deaf: Site) -> None:
    deaf.cloud.restart(ID, "graceful")
    pressed_for_a_while(deaf)
    deaf.cloud.restart(ID, "warm")
    eventually(lambda: not under_way(deaf))
    over(deaf)
    assert message(deaf) == ""


def test_a_domain_that_comes_after_it_is_not_pressed(deaf: Site) -> None:
    deaf.cloud.restart(ID, "graceful")
    pressed_for_a_while(deaf)
    deaf.cloud.restart(ID, "cold")
    deaf.reaches(State.READY)
    over(deaf)
    assert message(deaf) == ""


def test_it_is_hibernated_as_any(deaf: Site) -> None:
    deaf.cloud.restart(ID, "graceful")
    pressed_for_a_while(deaf)
    deaf.cloud.suspend(ID, "hibernate")
    deaf.reaches(State.HIBERNATED)
    deaf.runs(job="8")
    over(deaf)


def stands_still(site: Site) -> tuple[Callable[[], None], Callable[[], None]]:
    def suspended() -> None:
        site.node.batch.suspended = {"7"}
        assert acts(site) == [Act.PAUSE]

    def goes_on() -> None:
        site.node.batch.suspended = set()
        assert acts(site) == [Act.CONTINUE]

    return suspended, goes_on


@pytest.mark.parametrize("by", ["its job", "its user"])
def test_one_that_stands_still_has_its_time_afterwards(deaf: Site, by: str) -> None:
    """It is not pressed any more then, for it may restart in the moment when it goes on."""
    suspended, goes_on = stands_still(deaf)
    if by == "its user":
        suspended = lambda: deaf.cloud.suspend(ID, "suspend")  # noqa: E731
        goes_on = lambda: deaf.cloud.resume(ID)  # noqa: E731
    deaf.cloud.restart(ID, "graceful")
    pressed_for_a_while(deaf)
    suspended()
    eventually(lambda: not under_way(deaf))
    deaf.node.ledger.set_note(NOTE, f"{ID} 1")  # its time would be over
    deaf.cloud.restarts.settle_left()
    assert not under_way(deaf)
    goes_on()
    deaf.cloud.restarts.settle_left()
    assert not under_way(deaf)
    assert at_poweroff(deaf) == "restart"
    put(deaf.node.ledger, ID, since=1.0)
    deaf.cloud.restarts.settle_left()
    over(deaf)
    assert message(deaf) == UNSEEN


def test_a_libvirt_that_was_away_may_have_told_of_it_so_nobody_presses_again(deaf: Site) -> None:
    deaf.cloud.restart(ID, "graceful")
    pressed_for_a_while(deaf)
    deaf.libvirt.was_away = True
    eventually(lambda: not under_way(deaf))
    pressed = deaf.libvirt.pressed
    deaf.cloud.restarts.settle_left()  # it may be shutting down just now
    assert at_poweroff(deaf) == "restart"
    assert message(deaf) == ""
    deaf.node.ledger.set_note(NOTE, f"{ID} 1")
    put(deaf.node.ledger, ID, since=1.0)
    deaf.cloud.restarts.settle_left()
    over(deaf)
    assert (message(deaf), deaf.libvirt.pressed) == (UNSEEN, pressed)


def test_what_a_killed_bait_has_begun_the_next_one_ends_and_does_not_press(deaf: Site) -> None:
    deaf.cloud.restart(ID, "graceful")
    pressed_for_a_while(deaf)
    deaf.restarted()
    pressed = deaf.libvirt.pressed
    deaf.cloud.restarts.settle_left()
    assert not under_way(deaf)
    assert at_poweroff(deaf) == "restart"
    deaf.node.ledger.set_note(NOTE, f"{ID} 1")
    put(deaf.node.ledger, ID, since=1.0)
    deaf.cloud.restarts.settle_left()
    over(deaf)
    assert (message(deaf), deaf.libvirt.pressed) == (UNSEEN, pressed)
    assert acts(deaf) == []


def test_one_that_is_asked_for_while_an_old_one_is_settled_is_not_lost(
    deaf: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round has just seen that the old one's time is over, and settles it."""
    begun, restarts, libvirt_ = threading.Event(), deaf.cloud.restarts, deaf.libvirt
    end, restart = libvirt_.end_at_poweroff, libvirt_.restart_at_poweroff

    def end_at_poweroff(machine: str) -> None:
        assert begun.wait(60)
        end(machine)

    def restart_at_poweroff(machine: str) -> None:
        restarts._begin_settling(deaf.row())
        restart(machine)

    with monkeypatch.context() as patch:
        patch.setattr(libvirt_, "end_at_poweroff", end_at_poweroff)
        patch.setattr(libvirt_, "restart_at_poweroff", restart_at_poweroff)
        deaf.cloud.restart(ID, "graceful")
        begun.set()
        pressed_for_a_while(deaf)
    deaf.libvirt.deaf = False
    over(deaf)
    assert message(deaf) == ""


def test_a_libvirt_that_does_not_answer_is_asked_again_to_let_it_end(
    deaf: Site, mocker: MockerFixture
) -> None:
    deaf.cloud.restart(ID, "graceful")
    pressed_for_a_while(deaf)
    deaf.restarted()
    deaf.node.ledger.set_note(NOTE, f"{ID} 1")
    put(deaf.node.ledger, ID, since=1.0)
    away = mocker.patch.object(deaf.libvirt, "end_at_poweroff", side_effect=UnknownError("away"))
    deaf.cloud.restarts.settle_left()
    eventually(lambda: away.called and not under_way(deaf))
    assert deaf.node.ledger.note(NOTE)
    mocker.stop(away)
    deaf.cloud.restarts.settle_left()
    over(deaf)


@pytest.mark.parametrize("error", [UnknownError("away"), WnodesError("it can't")])
def test_what_libvirt_has_not_been_told_is_said_at_once(
    deaf: Site, error: WnodesError, mocker: MockerFixture
) -> None:
    mocker.patch.object(deaf.libvirt, "restart_at_poweroff", side_effect=error)
    with pytest.raises(type(error)):
        deaf.cloud.restart(ID, "graceful")
    assert not under_way(deaf)
    assert (deaf.node.ledger.note(NOTE) is None) is not isinstance(error, UnknownError)


def test_of_a_vm_that_is_gone_there_is_no_note(deaf: Site) -> None:
    deaf.cloud.restart(ID, "graceful")
    deaf.node.drop_tasks()
    put(deaf.node.ledger, ID, state=State.STOPPED)
    deaf.cloud.restarts.settle_left()
    assert deaf.node.ledger.note(NOTE) is None


def test_a_panic_is_a_better_reason_than_a_deaf_guest(site: Site) -> None:
    site.libvirt.deaf = True
    site.runs()
    site.cloud.restart(ID, "graceful")
    site.libvirt.panicked = True
    site.bait.reconciler.panicked(ID)
    eventually(lambda: is_over(site))
    assert site.row().reason == PANICKED
    assert DEAF in told(site)
