"""What is kept of a guest that writes without end."""

from bait.frontend.backlog import MOST, Backlog


def test_it_comes_out_as_it_went_in() -> None:
    backlog = Backlog()
    assert (bool(backlog), backlog.take(10)) == (False, b"")
    for piece in (b"login: ", b"root\r\n", b"# "):
        backlog.put(piece)
    assert [backlog.take(8), backlog.take(100), backlog.take(1)] == [b"login: r", b"oot\r\n# ", b""]
    assert not backlog


def test_the_end_is_kept_and_what_was_left_out_is_said_once() -> None:
    backlog = Backlog()
    for _ in range(1000):
        backlog.put(b"x" * 1000)
    backlog.put(b"the end")
    left_out = 1_000_007 - MOST
    first = backlog.take(100)
    assert first == b"\x18\r\n[%d bytes were left out]\r\n" % left_out + b"x" * 100
    assert backlog.take(100) == b"x" * 100
    rest = backlog.take(MOST)
    assert rest.endswith(b"the end")
    assert len(rest) == MOST - 200
