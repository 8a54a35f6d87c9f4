"""A bait on the other end that is away, silent, or has no end."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from wnodes_lrms import control
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import RejectedError, UnknownError


@contextmanager
def answering(path: Path, answer: bytes, times: int = 1) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(path))
        door.listen()

        def talk() -> None:
            link, _ = door.accept()
            with link, suppress(OSError):
                link.recv(1000)
                for _ in range(times):
                    link.sendall(answer)

        thread = threading.Thread(target=talk)
        thread.start()
        yield
        thread.join()


def test_the_last_answer_counts(tmp_path: Path) -> None:
    with answering(tmp_path / "a", b'{"state": "x"}\n{"ok": true, "n": 1}\n'):
        assert control.ask(tmp_path / "a", 5.0, op="ping") == {"ok": True, "n": 1}
    with (
        answering(tmp_path / "b", b'{"ok": false, "error": "no"}\n'),
        pytest.raises(RejectedError, match=r"^no$"),
    ):
        control.ask(tmp_path / "b", 5.0, op="ping")


def test_an_answer_that_has_no_end_is_not_waited_for(tmp_path: Path) -> None:
    with (
        answering(tmp_path / "a", b"x" * (1 << 20), times=100),
        pytest.raises(UnknownError, match="too long"),
    ):
        control.ask(tmp_path / "a", 5.0, op="ping")


def test_one_that_breaks_off(tmp_path: Path) -> None:
    with answering(tmp_path / "a", b'{"ok": tr'), pytest.raises(UnknownError, match="broke off"):
        control.ask(tmp_path / "a", 5.0, op="ping")


def test_where_no_bait_runs_no_pattern_is_shown() -> None:
    config = Config(cluster="c", lrms="slurm")
    assert "%" not in str(control.none_here(config))
    assert "/run/wnodes/NODE/bait.sock: start wnodes-bait" in str(control.none_here(config))
    assert "of node hv1 " in str(control.none_here(config, "hv1"))
    assert "/run/wnodes/hv1/bait.sock" in str(control.none_here(config, "hv1"))
