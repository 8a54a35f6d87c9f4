"""A guest's power button, by libvirt's test driver, which has none; and how a restart is heard."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from xml.etree.ElementTree import fromstring

import libvirt
import pytest

from bait.hypervisor.domains import Hypervisor
from bait.hypervisor.power_button import listening
from tests.unit.bait.hypervisor.test_domains import ID, NOWHERE, URI, in_state, xml
from wnodes_lrms.config.load import Network
from wnodes_lrms.errors import ConflictError, WnodesError


@pytest.fixture
def ours(libvirt_test: libvirt.virConnect) -> Hypervisor:  # noqa: ARG001
    return Hypervisor(URI, "box", "hv1", Network(), NOWHERE)


def found(link: libvirt.virConnect) -> libvirt.virDomain:
    return link.lookupByUUIDString(ID)


def on_poweroff(domain: libvirt.virDomain) -> str | None:
    return fromstring(domain.XMLDesc()).findtext("on_poweroff")  # noqa: S314 (libvirt's own)


def test_it_restarts_at_poweroff_until_that_is_taken_back(
    ours: Hypervisor, libvirt_test: libvirt.virConnect
) -> None:
    ours.create(xml())
    domain = found(libvirt_test)
    for _ in range(2):
        ours.restart_at_poweroff(ID)
        assert on_poweroff(domain) == "restart"
        domain.shutdown()  # by its user, within the guest
        assert domain.isActive()
    for _ in range(2):
        ours.end_at_poweroff(ID)
        assert on_poweroff(domain) == "destroy"
    domain.shutdown()
    assert ours.domains() == {}
    ours.end_at_poweroff(ID)  # one that is gone is success
    with pytest.raises(ConflictError, match="does not run"):
        ours.restart_at_poweroff(ID)


@pytest.mark.parametrize(
    "act",
    [
        lambda one, _file: one.shutdown(ID),
        lambda one, _file: one.reset(ID),
        lambda one, file: one.save(ID, file),
    ],
)
def test_what_ends_resets_or_saves_it_takes_that_back(
    ours: Hypervisor,
    libvirt_test: libvirt.virConnect,
    tmp_path: Path,
    act: Callable[[Hypervisor, Path], None],
) -> None:
    """Before it is done: a file that can't be written, a button that the test driver has not."""
    ours.create(xml())
    ours.restart_at_poweroff(ID)
    domain = found(libvirt_test)
    with suppress(WnodesError):
        act(ours, tmp_path / "no" / "such" / "folder")
    assert on_poweroff(domain) == "destroy"


def test_a_guest_that_stands_still_is_not_pressed(tmp_path: Path) -> None:
    """The test driver knows no button: it would be an error."""
    one = in_state(tmp_path, libvirt.VIR_DOMAIN_PAUSED)
    with one.power_button(ID) as button:
        button.press()
        assert button.is_connected
    one = in_state(tmp_path, libvirt.VIR_DOMAIN_RUNNING)
    with pytest.raises(WnodesError, match="can't do that to"), one.power_button(ID) as button:
        button.press()


class Ears:
    """A domain and its connection, which say what is listened for."""

    def __init__(self) -> None:
        self.heard: dict[int, tuple[object, int, Callable[..., None]]] = {}

    def connect(self) -> "Ears":
        return self

    def domainEventRegisterAny(  # noqa: N802 (libvirt's name)
        self, domain: object, event: int, hear: Callable[..., None], _opaque: object
    ) -> int:
        self.heard[7] = domain, event, hear
        return 7

    def domainEventDeregisterAny(self, number: int) -> None:  # noqa: N802 (libvirt's name)
        del self.heard[number]


def test_a_restart_is_heard_of_and_then_nothing_any_more() -> None:
    ears = Ears()
    with listening(ears) as button:
        (domain, event, hear) = ears.heard[7]
        assert (domain, event) == (ears, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT)
        assert not button.restarted.is_set()
        hear(ears, ears, None)
        assert button.restarted.is_set()
    assert ears.heard == {}
