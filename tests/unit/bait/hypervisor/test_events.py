"""What libvirt tells of a domain, and in which thread and words it is told on."""

import threading

import libvirt
import pytest

from bait.hypervisor.events import THREAD, UNSEEN, Events
from bait.hypervisor.floods import MOST
from tests.unit.conftest import eventually

STOPPED, CRASHED = libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_CRASHED
STARTED, ASLEEP = libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED


class Told:
    """A domain, and what is told of it."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.threads: set[str] = set()
        self.events = Events()
        self.events.stopped = lambda machine, how: self.note(f"{machine} stopped: {how}")
        self.events.panicked = lambda machine: self.note(f"{machine} panicked")
        self.events.flooded = lambda machine: self.note(f"{machine} floods")
        self.events.slept = lambda machine: self.note(f"{machine} slept")
        self.events.stuck = lambda machine: self.note(f"{machine} is stuck")
        self.events.let_go = lambda machine: self.note(f"{machine} let go")

    def note(self, words: str) -> None:
        self.threads.add(threading.current_thread().name)
        self.words.append(words)

    def UUIDString(self) -> str:  # noqa: N802 (libvirt's name)
        return "vm"

    def hear(self, event: int, detail: int) -> None:
        self.events._hear(None, self, event, detail, None)


@pytest.mark.parametrize(
    ("event", "detail", "words"),
    [
        (STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN, "the guest has shut itself down"),
        (
            STOPPED,
            libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED,
            "the VM was ended by hand on its node",
        ),
        (STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED, "the guest's kernel has panicked"),
        (
            STOPPED,
            libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED,
            "its process on the node has crashed or was killed",
        ),
        (STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED, UNSEEN),
        (STOPPED, 99, UNSEEN),  # of a later libvirt
    ],
)
def test_a_stop_is_told_with_its_cause(event: int, detail: int, words: str) -> None:
    told = Told()
    told.hear(event, detail)
    eventually(lambda: told.words)
    assert told.words == [f"vm stopped: {words}"]
    assert told.threads == {THREAD}  # libvirt's own must not wait for an answer of libvirt's


def test_who_found_no_room_or_let_go_of_a_device_is_told_of() -> None:
    told = Told()
    no_room = libvirt.VIR_DOMAIN_EVENT_SUSPENDED_IOERROR
    told.hear(libvirt.VIR_DOMAIN_EVENT_SUSPENDED, no_room)
    told.events._removed(None, told, "virtio-disk2", None)
    eventually(lambda: len(told.words) == 2)
    assert sorted(told.words) == ["vm is stuck", "vm let go"]
    assert told.threads == {THREAD}


def test_of_all_else_only_panics_sleep_and_waking_are_told() -> None:
    told = Told()
    told.hear(CRASHED, libvirt.VIR_DOMAIN_EVENT_CRASHED_CRASHLOADED)  # it has a kernel for that
    told.hear(CRASHED, libvirt.VIR_DOMAIN_EVENT_CRASHED_PANICKED)
    told.hear(ASLEEP, libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED_DISK)
    told.hear(STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_BOOTED)
    told.hear(libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_PAUSED)
    told.hear(libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_STARTED_WAKEUP)
    told.hear(STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_WAKEUP)
    eventually(lambda: {*told.words} == {"vm panicked", "vm slept"})
    told.words.clear()
    told.hear(STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_WAKEUP)
    eventually(lambda: told.words == ["vm slept"])


def test_a_guest_that_tells_of_a_crash_again_and_again_is_told_of_once() -> None:
    told = Told()
    for _ in range(MOST + 1):
        told.hear(CRASHED, libvirt.VIR_DOMAIN_EVENT_CRASHED_CRASHLOADED)
    eventually(lambda: told.words)
    assert told.words == ["vm floods"]
    assert told.threads == {THREAD}


def threads() -> int:
    return sum(thread.name == THREAD for thread in threading.enumerate())


def test_a_guest_that_sleeps_and_wakes_without_end_has_one_thread() -> None:
    told, go_on = Told(), threading.Event()

    def slept(machine: str) -> None:
        assert go_on.wait(60)
        told.note(f"{machine} slept")

    told.events.slept = slept
    for _ in range(100):
        told.hear(ASLEEP, libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED_DISK)
        told.hear(STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_WAKEUP)
    told.hear(STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN)
    eventually(lambda: told.words == ["vm stopped: the guest has shut itself down"])
    eventually(lambda: threads() == 1)
    go_on.set()
    eventually(lambda: threads() == 0)
    assert 1 <= told.words.count("vm slept") <= 2
