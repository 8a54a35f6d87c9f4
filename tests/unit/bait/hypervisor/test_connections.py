"""A libvirt that hangs, goes and comes back; and connections of one's own."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import libvirt
import pytest

from bait.hypervisor import connections as module
from bait.hypervisor.connections import Connections
from tests.unit.conftest import eventually
from wnodes_lrms.errors import UnknownError, WnodesError

TEST = "test:///default"


class Mute:
    """A libvirt that hangs: its socket takes connections, and nobody ever says a word."""

    def __init__(self, path: Path) -> None:
        self.uri = f"qemu+unix:///system?socket={path}"
        self.connections: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                self.connections.append(self._listener.accept()[0])

    def dies(self) -> None:
        """Who waits for it hears that it is gone."""
        for link in self.connections:
            link.close()
        self.connections.clear()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.dies()


@pytest.fixture
def mute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mute]:
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    made = Mute(tmp_path / "socket")
    yield made
    made.close()


def no_more(_link: libvirt.virConnect) -> None:
    """Nothing to do with a new connection."""


def opening(connections: Connections) -> threading.Thread:
    assert connections._opening
    return connections._opening


def test_one_that_hangs_is_no_answer_and_is_not_asked_twice(mute: Mute) -> None:
    connections = Connections(mute.uri, no_more)
    for _ in range(3):
        with pytest.raises(UnknownError, match=r"libvirt at .* hangs"):
            connections.shared()
    eventually(lambda: mute.connections)
    first = opening(connections)
    with pytest.raises(UnknownError, match="hangs"), connections.own():
        pytest.fail("there is no connection")
    assert opening(connections) is first
    assert len(mute.connections) == 1
    mute.dies()
    first.join(5)
    assert not first.is_alive()


def test_when_it_has_died_that_is_said_and_then_it_is_asked_anew(mute: Mute) -> None:
    connections = Connections(mute.uri, no_more)
    with pytest.raises(UnknownError, match="hangs"):
        connections.shared()
    eventually(lambda: mute.connections)
    mute.dies()
    opening(connections).join(5)
    with pytest.raises(UnknownError, match="does not answer"):
        connections.shared()
    assert connections._opening is None
    connections.uri = TEST  # now one that answers
    assert connections.shared().getType() == "TEST"


def test_one_that_is_not_there_is_no_answer(tmp_path: Path) -> None:
    connections = Connections(f"qemu+unix:///system?socket={tmp_path}/nobody", no_more)
    for _ in range(2):
        with pytest.raises(UnknownError, match="does not answer"):
            connections.shared()
    with pytest.raises(UnknownError, match="does not answer"), connections.own():
        pytest.fail("there is no connection")


def test_one_connection_for_all_questions() -> None:
    opened: list[libvirt.virConnect] = []
    connections = Connections(TEST, opened.append)
    assert opened == []  # not before somebody asks
    found = {id(connections.shared()) for _ in range(3)}
    assert len(found) == len(opened) == 1


def test_many_who_ask_at_once_have_one_connection() -> None:
    opened: list[libvirt.virConnect] = []
    connections = Connections(TEST, opened.append)
    threads = [threading.Thread(target=connections.shared) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(opened) == 1


def test_a_connection_that_broke_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[libvirt.virConnect] = []
    connections = Connections(TEST, opened.append)
    first = connections.shared()
    monkeypatch.setattr(first, "isAlive", lambda: 0)
    second = connections.shared()
    assert opened == [first, second]
    assert second is connections.shared() is not first


def test_a_connection_that_is_not_made_ready_is_not_used() -> None:
    faults: list[WnodesError] = [UnknownError("no network"), UnknownError("no network")]

    def prepare(_link: libvirt.virConnect) -> None:
        if faults:
            raise faults.pop()

    connections = Connections(TEST, prepare)
    for _ in range(2):
        with pytest.raises(UnknownError, match="no network"):
            connections.shared()
    assert connections.shared().isAlive()


def test_an_act_has_a_connection_of_its_own() -> None:
    opened: list[libvirt.virConnect] = []
    connections = Connections(TEST, opened.append)
    with connections.own() as one, connections.own() as other:
        assert len({id(one), id(other), id(connections.shared())}) == 3
        assert one.isAlive()
        assert other.isAlive()
    assert connections.shared().isAlive()
    assert len(opened) == 1  # what listens for events is the shared one


@pytest.mark.parametrize("fault", [WnodesError("no"), KeyError("x")])
def test_a_connection_of_ones_own_is_closed_whatever_happens(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[libvirt.virConnect] = []
    real: Callable[[libvirt.virConnect], int] = libvirt.virConnect.close

    def close(link: libvirt.virConnect) -> int:
        closed.append(link)
        return real(link)

    monkeypatch.setattr(libvirt.virConnect, "close", close)
    connections = Connections(TEST, no_more)

    def act() -> None:
        with connections.own():
            raise fault

    with pytest.raises(type(fault)):
        act()
    assert len(closed) == 1
    assert connections.shared().isAlive()


def test_one_loop_for_libvirts_events_in_a_process() -> None:
    for _ in range(3):
        Connections(TEST, no_more)
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("libvirt-events") == 1
