"""hypervisor.py on libvirt's test driver: what is ours, and that nothing else is touched."""

import threading
from collections.abc import Callable, Iterator

import libvirt
import pytest

from bait import hypervisor
from bait.hypervisor import MARK, Domain, Hypervisor, _with
from tests.unit.conftest import eventually
from wnodes_lrms.config import Network
from wnodes_lrms.errors import UnknownError, WnodesError
from wnodes_lrms.model import machine_id

URI = "test:///default"
ID = machine_id("box", "7", 0)


def xml(
    machine: str = ID, name: str = "wnodes-box-7-0", mark: str | None = None, **own: str
) -> str:
    facts = {"cluster": "box", "node": "hv1", "job": "7", "restart": "0"} | own
    words = " ".join(f"{key}='{value}'" for key, value in facts.items())
    mark = f"<m:machine xmlns:m='{MARK}' {words}/>" if mark is None else mark
    return (
        f"<domain type='test'><name>{name}</name><uuid>{machine}</uuid>"
        f"<metadata>{mark}</metadata><memory>1024</memory><os><type>hvm</type></os></domain>"
    )


@pytest.fixture
def ours(libvirt_test: libvirt.virConnect) -> Iterator[Hypervisor]:  # noqa: ARG001
    one = Hypervisor(URI, "box", "hv1", Network())
    yield one
    one.on_stop(lambda _machine: None)


def test_a_domain_of_ours(ours: Hypervisor) -> None:
    assert ours.domains() == {}
    assert not ours.is_running(ID)
    ours.create(xml(restart="3"))
    assert ours.domains() == {ID: Domain(ID, "7", 3)}
    assert ours.is_running(ID)
    ours.destroy(ID)
    assert ours.domains() == {}
    assert not ours.is_running(ID)


def test_created_twice_is_one_and_destroyed_twice_is_gone(ours: Hypervisor) -> None:
    ours.create(xml())
    ours.create(xml())
    assert len(ours.domains()) == 1
    ours.destroy(ID)
    ours.destroy(ID)
    assert ours.domains() == {}


FOREIGN = {
    "no mark": xml(mark=""),
    "another cluster": xml(cluster="other"),
    "another node": xml(node="hv2"),
    "another mark": xml(mark="<m:machine xmlns:m='urn:other' cluster='box' node='hv1'/>"),
    "an empty mark": xml(mark=f"<m:machine xmlns:m='{MARK}'/>"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_domain_is_neither_seen_nor_touched(
    ours: Hypervisor, libvirt_test: libvirt.virConnect, kind: str
) -> None:
    libvirt_test.createXML(FOREIGN[kind])
    assert ours.domains() == {}
    with pytest.raises(WnodesError, match="not bear our mark"):
        ours.destroy(ID)
    with pytest.raises(WnodesError, match="libvirt can't start"):
        ours.create(xml())  # its UUID is taken by somebody else
    assert libvirt_test.lookupByUUIDString(ID).isActive()


def test_libvirts_own_domain_stays(ours: Hypervisor, libvirt_test: libvirt.virConnect) -> None:
    foreign = libvirt_test.lookupByName("test").UUIDString()
    with pytest.raises(WnodesError):
        ours.destroy(foreign)
    assert ours.is_running(foreign)
    assert foreign not in ours.domains()


def test_the_nodes_of_one_libvirt_see_their_own(
    ours: Hypervisor,
    libvirt_test: libvirt.virConnect,  # noqa: ARG001
) -> None:
    other = Hypervisor(URI, "box", "hv2", Network())
    second = machine_id("box", "8", 0)
    ours.create(xml())
    other.create(xml(second, "wnodes-box-8-0", node="hv2", job="8"))
    assert list(ours.domains()) == [ID]
    assert list(other.domains()) == [second]


@pytest.mark.parametrize("broken", ["<domain", "<domain type='test'><name>x</name></domain>"])
def test_xml_that_libvirt_does_not_take(ours: Hypervisor, broken: str) -> None:
    with pytest.raises((WnodesError, SyntaxError)):
        ours.create(broken)
    assert ours.domains() == {}


def test_the_guests_network_is_made_once(
    ours: Hypervisor, libvirt_test: libvirt.virConnect
) -> None:
    ours.domains()
    Hypervisor(URI, "box", "hv2", Network()).domains()
    assert libvirt_test.listNetworks().count("wnodes") == 1
    text = libvirt_test.networkLookupByName("wnodes").XMLDesc()
    assert "<bridge name='wn-wnodes'" in text
    assert "<ip address='192.168.190.1' netmask='255.255.255.0'" in text
    # Each address is only ever given to the link address that goes with it.
    assert "<host mac='52:54:c0:a8:be:02' ip='192.168.190.2'/>" in text
    assert text.count("<host ") == 253
    assert "<range" not in text


def test_a_network_that_went_comes_back_with_the_next_connection(
    ours: Hypervisor, libvirt_test: libvirt.virConnect
) -> None:
    ours.domains()
    libvirt_test.networkLookupByName("wnodes").destroy()
    assert "wnodes" not in libvirt_test.listNetworks()
    Hypervisor(URI, "box", "hv1", Network()).domains()
    assert "wnodes" in libvirt_test.listNetworks()


def stop_by_destroying(domain: libvirt.virDomain) -> None:
    domain.destroy()


def stop_from_within(domain: libvirt.virDomain) -> None:
    domain.shutdown()


@pytest.mark.parametrize("stop", [stop_by_destroying, stop_from_within])
def test_a_stop_is_told(
    ours: Hypervisor,
    libvirt_test: libvirt.virConnect,
    stop: Callable[[libvirt.virDomain], None],
) -> None:
    # Of its own: libvirt may tell of an earlier test's machine late.
    mine = machine_id("box", stop.__name__, 0)
    told: list[tuple[str, bool]] = []

    def callback(machine: str) -> None:
        # It may ask libvirt things: it is not called in the thread of libvirt's events.
        if machine == mine:
            told.append((threading.current_thread().name, ours.is_running(machine)))

    ours.on_stop(callback)
    ours.create(xml(mine))
    stop(libvirt_test.lookupByUUIDString(mine))
    eventually(lambda: told)
    ((thread, running),) = told
    assert not running
    assert thread != "libvirt-events"


def test_a_pause_is_no_stop(ours: Hypervisor, libvirt_test: libvirt.virConnect) -> None:
    ours.create(xml())
    libvirt_test.lookupByUUIDString(ID).suspend()
    assert ours.is_running(ID)
    assert list(ours.domains()) == [ID]


@pytest.mark.parametrize(
    "ask",
    [
        lambda away: away.domains(),
        lambda away: away.is_running(ID),
        lambda away: away.create(xml()),
        lambda away: away.destroy(ID),
        lambda away: away.version(),
    ],
)
def test_a_libvirt_that_is_away_is_unknown(ask: Callable[[Hypervisor], object]) -> None:
    away = Hypervisor("qemu+unix:///system?socket=/no/such/socket", "box", "hv1", Network())
    with pytest.raises(UnknownError, match="libvirt does not answer at qemu"):
        ask(away)


def test_a_connection_that_broke_is_made_anew(ours: Hypervisor) -> None:
    ours.create(xml())
    assert ours._link is not None
    link, ours._link = ours._link, None
    assert list(ours.domains()) == [ID]
    assert ours._link is not link


def test_threads_share_one_connection(ours: Hypervisor) -> None:
    links: list[object] = []
    start = threading.Barrier(10)

    def ask() -> None:
        start.wait()
        links.append(ours._connect())

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(link) for link in links}) == 1


def test_the_version_is_as_people_write_it(
    ours: Hypervisor, libvirt_test: libvirt.virConnect
) -> None:
    number = libvirt_test.getLibVersion()
    major, minor, micro = (int(part) for part in ours.version().split("."))
    assert major * 1000000 + minor * 1000 + micro == number


def test_looking_changes_nothing(libvirt_test: libvirt.virConnect) -> None:
    before = libvirt_test.listNetworks()
    sight = hypervisor.look(URI)
    assert sight.networks == set(before) == set(libvirt_test.listNetworks())
    assert sight.filters is None
    assert sight.version.startswith("libvirt ")
    with pytest.raises(UnknownError):
        hypervisor.look("qemu+unix:///system?socket=/no/such/socket")


def test_what_a_new_lease_changes_is_put_into_the_saved_description() -> None:
    kept = "<domain><uuid>x</uuid><metadata><a job='1'/></metadata><devices><d/></devices></domain>"
    new = "<domain><metadata><a job='2'/></metadata><cputune><p/></cputune><devices/></domain>"
    assert _with(kept, new, ("metadata", "cputune")) == (
        '<domain><uuid>x</uuid><devices><d /></devices><metadata><a job="2" /></metadata>'
        "<cputune><p /></cputune></domain>"
    )
