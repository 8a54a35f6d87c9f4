"""A guest's SSH server greets, or not yet; one whose boot takes long has longer for it."""

import socket
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from bait.batch.greeting import Greeting

LONG = 60.0  # seconds that nothing here takes


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Connections to it are made, also before they are taken."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LONG)
        yield listener


class Clock:
    """Seconds, as told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def call(server: socket.socket, clock: Clock) -> Greeting:
    address, port = server.getsockname()
    return Greeting(address, port, clock)


def answer(server: socket.socket, greeting: bytes) -> None:
    link, _ = server.accept()
    with link:
        link.sendall(greeting)


@pytest.mark.parametrize(
    ("said", "greets"), [(b"SSH-2.0-dropbear\r\n", True), (b"220 mail\r\n", False), (b"", False)]
)
def test_what_greets(server: socket.socket, said: bytes, greets: bool) -> None:
    with closing(call(server, Clock())) as greeting:
        assert not greeting.heard(0)
        answer(server, said)
        assert greeting.heard(LONG) is greets
        assert not greeting.waits


def test_where_nobody_listens_there_is_nothing_to_wait_for() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with closing(Greeting(*nobody.getsockname())) as greeting:
            assert not greeting.heard(LONG)
            assert not greeting.waits


@pytest.mark.parametrize(("booted", "calls"), [(0.0, 2), (600.0, 1)])
def test_a_slow_guest_has_longer_to_greet(server: socket.socket, booted: float, calls: int) -> None:
    """Within 6 s it says nothing yet: who has booted for ten minutes is not called once more."""
    clock = Clock()
    with closing(call(server, clock)) as greeting:
        clock.now += booted
        for _ in range(2):
            assert not greeting.heard(0)
            clock.now += 6
        assert not greeting.heard(0)
        assert taken(server) == calls


def taken(server: socket.socket) -> int:
    """How many connections there were."""
    server.settimeout(0)
    count = 0
    with suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            count += 1
    return count


@pytest.mark.parametrize(("booted", "waits"), [(0.0, False), (600.0, True)])
def test_a_slow_guest_has_longer_to_take_a_connection(booted: float, waits: bool) -> None:
    """A server whose queue is full answers nobody, as a guest whose kernel is slow."""
    clock = Clock()
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [_unfinished(full) for _ in range(4)]
        with closing(call(full, clock)) as greeting:
            clock.now += booted
            assert not greeting.heard(0)
            clock.now += 1
            assert not greeting.heard(0)
            assert greeting.waits is waits
        for link in fillers:
            link.close()


def _unfinished(server: socket.socket) -> socket.socket:
    link = socket.socket()
    link.setblocking(False)
    link.connect_ex(server.getsockname())
    return link
