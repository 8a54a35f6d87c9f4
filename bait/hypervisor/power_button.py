"""A guest's power button, and whether a guest that shuts down ends its VM or starts anew.

libvirt's own reboot (virDomainReboot) presses the button, too, and remembers by a flag of its own
(fakeReboot) that the next shutdown is to be a restart. Nobody can read that flag, and nothing but a
restart or another press takes it back: where the guest has not heard the button, its user's
`poweroff` would restart it a day later. So on_poweroff says it here, which can be taken back. And
since libvirt's own shutdown sets that flag while on_poweroff says so, QEMU is told to press.

When such a guest has shut down, libvirt (9.0 and newer) resets its VM, and tells of that by an
event, as it does of any reset, whoever caused it.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import libvirt
import libvirt_qemu

_PRESS = '{"execute": "system_powerdown"}'  # of QEMU's machine protocol (QMP)

_HEARING = 0.1  # seconds for what libvirt has told by now to be heard

log = logging.getLogger(__name__)


def at_poweroff(domain: libvirt.virDomain, *, restart: bool) -> None:
    """Have a guest that shuts down start anew, or end its VM, as is usual."""
    domain.setLifecycleAction(
        libvirt.VIR_DOMAIN_LIFECYCLE_POWEROFF,
        libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_RESTART
        if restart
        else libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_DESTROY,
        libvirt.VIR_DOMAIN_AFFECT_LIVE,
    )


class PowerButton:
    """The power button of one VM, and the word that its guest has started anew, by one connection.

    A libvirt that has gone and come again has told of nothing meanwhile; but then nothing can be
    pressed by this connection, either: so nobody is pressed again who has restarted unseen.
    """

    def __init__(self, domain: libvirt.virDomain) -> None:
        self.restarted = threading.Event()
        self._domain = domain

    @property
    def is_connected(self) -> bool:
        """Whether `restarted` would be heard of."""
        return bool(self._domain.connect().isAlive())

    def press(self) -> None:
        """Press it once, unless the guest has restarted, or the VM stands still, or libvirt is at
        something else with it. Raises libvirt.libvirtError.

        QEMU itself drops this after a reset, until the guest's kernel listens: that takes longer
        than to hear of the reset.
        """
        try:
            runs = self._domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
            if runs and not self.restarted.wait(_HEARING):
                libvirt_qemu.qemuMonitorCommand(self._domain, _PRESS, 0)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_OPERATION_TIMEOUT:
                raise
            log.info("the power button of VM %s: %s", self._domain.UUIDString(), error)

    def hear(self, _link: object, _domain: object, _opaque: object) -> None:
        """In the thread of libvirt's events: QEMU has reset the VM."""
        self.restarted.set()


@contextmanager
def listening(domain: libvirt.virDomain) -> Iterator[PowerButton]:
    """Its power button, with ears as long as this lasts. Raises libvirt.libvirtError."""
    link, button = domain.connect(), PowerButton(domain)
    number = link.domainEventRegisterAny(
        domain, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, button.hear, None
    )
    try:
        yield button
    finally:
        with suppress(libvirt.libvirtError):  # it holds the connection open, else
            link.domainEventDeregisterAny(number)
