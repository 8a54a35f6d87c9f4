"""What libvirt tells by itself: domains that stop, guests that panic, fall asleep, wake, or let go
of a device."""

import functools
from collections.abc import Callable

import libvirt

from bait.hypervisor.coalescing import Coalescer
from bait.hypervisor.domain import PANICKED
from bait.hypervisor.floods import Floods

# How a domain has stopped, by the detail of libvirt's event, for whoever used it.
UNSEEN = "the VM has stopped, and nobody saw how"
_ENDINGS = {
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: "the guest has shut itself down",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: "the VM was ended by hand on its node",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: PANICKED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: "its process on the node has crashed or was killed",
}
# Not so where the guest has a crash kernel of its own, which then does its work.
_PANIC = (libvirt.VIR_DOMAIN_EVENT_CRASHED, libvirt.VIR_DOMAIN_EVENT_CRASHED_PANICKED)
_CRASH_KERNEL = (
    libvirt.VIR_DOMAIN_EVENT_CRASHED,
    libvirt.VIR_DOMAIN_EVENT_CRASHED_CRASHLOADED,
)
_NO_ROOM = (
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED,
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED_IOERROR,
)
_WOKEN = (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_WAKEUP)
THREAD = "libvirt event"  # the name of a thread in which a callback runs


class Events:
    """Calls `stopped` (VM's id, how in words), `panicked`, `flooded`, `slept`, `stuck` and `let_go`
    (VM's id), each in another thread. However often a guest has something happen, it has one thread
    for each."""

    def __init__(self) -> None:
        self.stopped: Callable[[str, str], None] = lambda _machine, _how: None
        self.panicked: Callable[[str], None] = lambda _machine: None
        self.flooded: Callable[[str], None] = lambda _machine: None
        self.slept: Callable[[str], None] = lambda _machine: None
        self.stuck: Callable[[str], None] = lambda _machine: None
        self.let_go: Callable[[str], None] = lambda _machine: None
        self._floods = Floods()
        self._calls = Coalescer(THREAD)  # not in libvirt's own thread: they ask libvirt things

    def listen(self, link: libvirt.virConnect) -> None:
        """Have this connection tell of any domain. Raises libvirt.libvirtError."""
        link.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._hear, None)
        removed = libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED
        link.domainEventRegisterAny(None, removed, self._removed, None)

    def _removed(
        self, _link: object, domain: libvirt.virDomain, _device: str, _opaque: object
    ) -> None:
        self._tell("let go", domain.UUIDString(), self.let_go)

    def _hear(
        self, _link: object, domain: libvirt.virDomain, event: int, detail: int, _opaque: object
    ) -> None:
        machine = domain.UUIDString()
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            how = _ENDINGS.get(detail, UNSEEN)
            self._tell("stopped", machine, lambda machine: self.stopped(machine, how))
        elif (event, detail) == _PANIC:
            self._tell("panicked", machine, self.panicked)
        elif (event, detail) == _CRASH_KERNEL and self._floods.begins(machine):
            self._tell("flooded", machine, self.flooded)
        elif event == libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED or (event, detail) == _WOKEN:
            self._tell("slept", machine, self.slept)
        elif (event, detail) == _NO_ROOM:
            self._tell("stuck", machine, self.stuck)

    def _tell(self, what: str, machine: str, tell: Callable[[str], None]) -> None:
        self._calls.call((what, machine), functools.partial(tell, machine))
