"""A bait that hangs, drips, or never comes to an end."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import baitsocket
from baitsocket import Patience, exchange, lines

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_lines_come_one_by_one(ends: Ends) -> None:
    ours, theirs = ends
    heard = lines(ours, Patience(0.5))
    theirs.sendall(b"1\n2")
    assert next(heard) == b"1"
    theirs.sendall(b"\n\n3")
    assert next(heard) == b"2"
    assert next(heard) == b""
    theirs.close()
    assert list(heard) == []  # what has no end was not said


def test_each_line_has_its_own_time(ends: Ends) -> None:
    """A bait speaks now and then, for as long as a machine lives."""
    ours, theirs = ends
    heard = lines(ours, Patience(2))
    for _ in range(4):
        time.sleep(0.6)
        theirs.sendall(b"news\n")
        assert next(heard) == b"news"


def test_a_time_in_which_the_job_is_suspended_counts_for_little(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock goes on by an hour at each look that comes after such a time."""
    ours, theirs = ends
    now = time.monotonic()
    monkeypatch.setattr(baitsocket, "SLICE", 0.1)
    monkeypatch.setattr("baitsocket.time.monotonic", lambda: now)
    heard = lines(ours, Patience(5.0))
    theirs.sendall(b"be")
    speak = threading.Timer(0.3, lambda: theirs.sendall(b"fore\n"))
    speak.start()
    now += 3600
    assert next(heard) == b"before"
    patience = Patience(5.0)
    now += 3600
    assert patience.left() == pytest.approx(4.9)


def test_a_line_that_never_ends_is_silence(ends: Ends) -> None:
    ours, theirs = ends
    over = threading.Event()

    def drip() -> None:
        while not over.wait(0.05):
            theirs.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        with pytest.raises(TimeoutError):
            list(lines(ours, Patience(0.5)))
    finally:
        over.set()
        thread.join()


def test_an_answer_without_end_is_not_kept(ends: Ends) -> None:
    ours, theirs = ends

    def pour() -> None:
        try:
            while True:
                theirs.sendall(b"x" * 65536)
        except OSError:
            pass  # it was cut off

    thread = threading.Thread(target=pour)
    thread.start()
    with pytest.raises(ValueError, match="a line without end"):
        list(lines(ours, Patience(0.5)))
    ours.close()
    thread.join()


def test_a_full_backlog_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When many jobs start at once each tries again until the bait takes its call."""
    path = str(tmp_path / "bait.sock")
    pauses: list[float] = []
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)  # all that there is room for

        def answer() -> None:
            listener.accept()[0].close()
            with listener.accept()[0] as link:
                link.sendall(link.recv(4096))

        def pause(seconds: float) -> None:
            if not pauses:
                threading.Thread(target=answer, daemon=True).start()
            pauses.append(seconds)

        monkeypatch.setattr("baitsocket.time.sleep", pause)
        assert list(exchange(path, b"again", 60)) == [b"again"]
    assert pauses
