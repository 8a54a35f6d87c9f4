"""On libvirt's test driver: what is ours, and that nothing else is touched."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import libvirt
import pytest
from pytest_mock import MockerFixture

from bait.hypervisor import inventory, own_domains
from bait.hypervisor.domain import MARK, Domain
from bait.hypervisor.domain_state import traffic_of_cards
from bait.hypervisor.domains import Hypervisor
from bait.hypervisor.events import THREAD, Events
from tests.unit.bait.processes import QEMU, Process, end, guest, lives, started
from tests.unit.conftest import eventually
from wnodes_lrms.config.load import Network
from wnodes_lrms.errors import ConflictError, UnknownError, WnodesError
from wnodes_lrms.model import machine_id

URI = "test:///default"
NOWHERE = Path("/nowhere")
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
    one = Hypervisor(URI, "box", "hv1", Network(), NOWHERE)
    yield one
    one.on_stop(lambda _machine, _how: None)


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
    other = Hypervisor(URI, "box", "hv2", Network(), NOWHERE)
    second = machine_id("box", "8", 0)
    ours.create(xml())
    other.create(xml(second, "wnodes-box-8-0", node="hv2", job="8"))
    assert list(ours.domains()) == [ID]
    assert list(other.domains()) == [second]


def test_a_network_goes_although_another_domain_ends_at_that_moment(
    ours: Hypervisor, mocker: MockerFixture
) -> None:
    ours.have_isolated("mine")
    ours.create(xml())
    link = ours._connect()
    listed = link.listAllDomains()
    ours.destroy(ID)
    mocker.patch.object(link, "listAllDomains", return_value=listed)  # as it was a moment before
    ours.drop_isolated(tuple)
    assert "wnodes-mine@hv1" not in link.listNetworks()


@pytest.mark.parametrize("broken", ["<domain", "<domain type='test'><name>x</name></domain>"])
def test_xml_that_libvirt_does_not_take(ours: Hypervisor, broken: str) -> None:
    with pytest.raises((WnodesError, SyntaxError)):
        ours.create(broken)
    assert ours.domains() == {}


def test_the_guests_network_is_made_once(
    ours: Hypervisor, libvirt_test: libvirt.virConnect
) -> None:
    ours.domains()
    Hypervisor(URI, "box", "hv2", Network(), NOWHERE).domains()
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
    Hypervisor(URI, "box", "hv1", Network(), NOWHERE).domains()
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
    # Of its own: libvirt may tell of an earlier test's VM late.
    mine = machine_id("box", stop.__name__, 0)
    told: list[tuple[str, bool]] = []

    def callback(machine: str, _how: str) -> None:
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


def in_state(folder: Path, state: int) -> Hypervisor:
    """A libvirt with one domain of ours, which is in that state."""
    namespace = "http://libvirt.org/schemas/domain/test/1.0"
    own = f"<t:runstate xmlns:t='{namespace}'>{state}</t:runstate></domain>"
    (folder / "node.xml").write_text(f"<node>{xml().replace('</domain>', own)}</node>")
    return Hypervisor(f"test://{folder}/node.xml", "box", "hv1", Network(), NOWHERE)


STATES = {  # as libvirt has them: what is ours of it
    libvirt.VIR_DOMAIN_NOSTATE: (True, Domain(ID, "7", 0)),
    libvirt.VIR_DOMAIN_RUNNING: (True, Domain(ID, "7", 0)),
    libvirt.VIR_DOMAIN_BLOCKED: (True, Domain(ID, "7", 0)),
    libvirt.VIR_DOMAIN_PAUSED: (True, Domain(ID, "7", 0, asleep=True)),  # for an unknown reason
    libvirt.VIR_DOMAIN_SHUTDOWN: (True, Domain(ID, "7", 0)),
    libvirt.VIR_DOMAIN_SHUTOFF: (False, Domain(ID, "7", 0)),
    libvirt.VIR_DOMAIN_CRASHED: (False, Domain(ID, "7", 0, panicked=True)),
    libvirt.VIR_DOMAIN_PMSUSPENDED: (True, Domain(ID, "7", 0, asleep=True)),
}


def test_every_state_that_libvirt_knows_is_one_of_ours(tmp_path: Path) -> None:
    assert sorted(STATES) == list(range(libvirt.VIR_DOMAIN_PMSUSPENDED + 1))
    for state, (runs, domain) in STATES.items():
        one = in_state(tmp_path, state)
        assert (one.is_running(ID), one.domains()) == (runs, {ID: domain}), state


def test_a_guest_that_has_panicked_stands_still_already(tmp_path: Path) -> None:
    one = in_state(tmp_path, libvirt.VIR_DOMAIN_CRASHED)
    assert one.has_panicked(ID)
    one.suspend(ID)
    one.resume(ID)
    assert one.has_panicked(ID)


@pytest.mark.parametrize(
    ("event", "detail", "told"),
    [
        (libvirt.VIR_DOMAIN_EVENT_CRASHED, libvirt.VIR_DOMAIN_EVENT_CRASHED_PANICKED, ["panic"]),
        # It has a crash kernel of its own, which goes on.
        (libvirt.VIR_DOMAIN_EVENT_CRASHED, libvirt.VIR_DOMAIN_EVENT_CRASHED_CRASHLOADED, []),
        # Of a VM that was made before they had a device to tell of a panic by, and stood still.
        (
            libvirt.VIR_DOMAIN_EVENT_STOPPED,
            libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED,
            ["the guest's kernel has panicked"],
        ),
    ],
)
def test_what_libvirt_tells_of_a_panic(
    libvirt_test: libvirt.virConnect, event: int, detail: int, told: list[str]
) -> None:
    events, heard = Events(), list[str]()
    events.stopped = lambda _machine, how: heard.append(how)
    events.panicked = lambda _machine: heard.append("panic")
    events._hear(libvirt_test, libvirt_test.listAllDomains()[0], event, detail, None)
    for thread in threading.enumerate():
        if thread.name == THREAD and thread.is_alive():  # another test's may just be starting
            thread.join(10)
    assert heard == told


def test_a_guest_that_sleeps_is_told_nothing_that_it_would_not_hear(tmp_path: Path) -> None:
    one = in_state(tmp_path, libvirt.VIR_DOMAIN_PMSUSPENDED)
    assert one.is_asleep(ID)
    for act in (one.suspend, one.restart_at_poweroff, one.reset):
        with pytest.raises(ConflictError, match="put itself to sleep: start it first"):
            act(ID)
    with pytest.raises(WnodesError, match="not supported by the connection driver"):
        one.resume(ID)  # the test driver wakes nobody: but it is asked to


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
    uri = "qemu+unix:///system?socket=/no/such/socket"
    away = Hypervisor(uri, "box", "hv1", Network(), NOWHERE)
    with pytest.raises(UnknownError, match="libvirt does not answer at qemu"):
        ask(away)


def test_a_connection_that_broke_is_made_anew(ours: Hypervisor) -> None:
    ours.create(xml())
    assert ours._connections._shared is not None
    link, ours._connections._shared = ours._connections._shared, None
    assert list(ours.domains()) == [ID]
    assert ours._connections._shared is not link


def test_threads_share_one_connection(ours: Hypervisor) -> None:
    connections: list[object] = []
    start = threading.Barrier(10)

    def ask() -> None:
        start.wait()
        connections.append(ours._connect())

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(link) for link in connections}) == 1


def test_the_version_is_as_people_write_it(
    ours: Hypervisor, libvirt_test: libvirt.virConnect
) -> None:
    number = libvirt_test.getLibVersion()
    major, minor, micro = (int(part) for part in ours.version().split("."))
    assert major * 1000000 + minor * 1000 + micro == number


def test_looking_changes_nothing(libvirt_test: libvirt.virConnect) -> None:
    before = libvirt_test.listNetworks()
    found = inventory.look(URI)
    assert found.networks == set(before) == set(libvirt_test.listNetworks())
    assert found.version.startswith("libvirt ")
    with pytest.raises(UnknownError):
        inventory.look("qemu+unix:///system?socket=/no/such/socket")


@pytest.fixture
def out_of_sight(
    libvirt_test: libvirt.virConnect,  # noqa: ARG001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[Hypervisor, Process]]:
    """A libvirt that does not know a VM of ours, and the process of that VM."""
    monkeypatch.setattr(own_domains, "_DYING", 0.1)
    process = started(QEMU, *guest(ID, tmp_path))
    yield Hypervisor(URI, "box", "hv1", Network(), tmp_path), process
    end(process)


def test_a_machine_that_libvirt_lost_sight_of_runs_and_can_be_ended(
    out_of_sight: tuple[Hypervisor, Process],
) -> None:
    one, process = out_of_sight
    assert one.domains() == {}
    assert one.is_running(ID)
    assert one.pid(ID) == process.pid
    one.destroy(ID)
    assert process.wait(5) == -signal.SIGKILL
    assert not one.is_running(ID)
    assert one.pid(ID) is None


def test_another_sites_machine_of_the_same_id_is_not_touched(
    out_of_sight: tuple[Hypervisor, Process],
) -> None:
    _, process = out_of_sight
    other = Hypervisor(URI, "box", "hv1", Network(), NOWHERE)
    assert not other.is_running(ID)
    assert other.pid(ID) is None
    other.destroy(ID)
    assert lives(process)


def test_a_process_that_does_not_end_is_no_end(
    out_of_sight: tuple[Hypervisor, Process], mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = out_of_sight
    monkeypatch.setattr("bait.hypervisor.processes._LETTING_GO", 0.1)
    mocker.patch("signal.pidfd_send_signal")
    with pytest.raises(UnknownError, match="does not end"):
        one.destroy(ID)


def test_traffic_of_a_libvirt_that_does_not_count_it(ours: Hypervisor) -> None:
    ours.create(xml())
    assert ours.traffic().get(ID, {}) == {}


def test_what_the_cards_carried() -> None:
    """As getAllDomainStats has it; a card that it can't look at has a name alone."""
    stats = {
        "net.count": 3,
        "net.0.name": "vnet0",
        "net.0.rx.bytes": 100,
        "net.0.rx.pkts": 3,
        "net.0.tx.bytes": 10,
        "net.1.name": "vnet1",
        "net.2.name": "vnet2",
        "net.2.rx.bytes": 0,
        "net.2.tx.bytes": 0,
    }
    assert traffic_of_cards(stats) == {"vnet0": (100, 10), "vnet2": (0, 0)}
    assert traffic_of_cards({}) == {}


def test_a_copy_of_one_vms_disk_keeps_no_other_vm_waiting(
    ours: Hypervisor, tmp_path: Path, mocker: MockerFixture
) -> None:
    """But a second one of the same VM waits, as libvirt would refuse it."""
    copied: list[str] = []
    begun, go_on = threading.Semaphore(0), threading.Event()

    def backup(_domain: object, _is_it: object, file: Path, *_: object) -> None:
        begun.release()
        assert file.name == "short" or go_on.wait(60)
        copied.append(file.name)

    mocker.patch("bait.hypervisor.operations.backup", backup)
    other = machine_id("box", "8", 0)
    ours.create(xml())
    ours.create(xml(other, "wnodes-box-8-0", job="8"))
    works = [
        threading.Thread(
            target=ours.backup,
            args=(ID, lambda _: True, tmp_path / name, "qcow2", nullcontext()),
            daemon=True,
        )
        for name in ("long", "longer")
    ]
    for work in works:
        work.start()
    assert begun.acquire(timeout=60)
    ours.backup(other, lambda _: True, tmp_path / "short", "qcow2", nullcontext())
    assert copied == ["short"]
    assert begun.acquire(blocking=False)
    assert not begun.acquire(blocking=False)
    go_on.set()
    for work in works:
        work.join(60)
    assert sorted(copied) == ["long", "longer", "short"]
