"""With real programs: the one call to them has a deadline and says why."""

import os
import time
from pathlib import Path

import pytest

from tests.unit.conftest import eventually
from wnodes_lrms.errors import UnknownError, WnodesError
from wnodes_lrms.run import run


def sh(script: str, deadline: float = 5.0, unknown: bool = False) -> str:
    return run(["sh", "-c", script], deadline=deadline, unknown=unknown)


def test_the_output_and_nothing_else() -> None:
    assert sh("echo out; echo err >&2") == "out\n"
    assert run(["printf", "%s|", "a b", "$HOME", "*"], deadline=5) == "a b|$HOME|*|"


def test_bytes_that_are_no_text_survive() -> None:
    assert os.fsencode(sh(r"printf '\377\303\251'")) == b"\xff\xc3\xa9"


def test_no_standard_input_and_a_known_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert sh("cat; echo $LC_ALL") == "C.UTF-8\n"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo one >&2; echo 'the reason' >&2; exit 3", "sh: the reason"),
        (
            "printf \"x: no option -- 'm'\\n\\nusage:\\n x [-f]\\n x -t\\n\" >&2; exit 2",
            "sh: x: no option -- 'm'",
        ),
        ("echo 'Usage: x [-f]' >&2; exit 2", "sh: Usage: x [-f]"),
        ("echo not this; exit 3", "sh: exit status 3"),
        ("kill -TERM $$", "sh: exit status -15"),
    ],
)
def test_a_failure_says_why(script: str, message: str) -> None:
    with pytest.raises(WnodesError) as caught:
        sh(script)
    assert str(caught.value) == message
    assert type(caught.value) is WnodesError
    with pytest.raises(UnknownError):
        sh(script, unknown=True)


def test_a_program_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(WnodesError, match="no-such-program: No such file"):
        run(["no-such-program"], deadline=5)
    with pytest.raises(UnknownError, match="Permission denied"):
        run([str(tmp_path)], deadline=5, unknown=True)


def alive(pid: str) -> bool:
    stat = Path("/proc") / pid / "stat"
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_past_the_deadline_children_are_killed_too(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(UnknownError, match=r"sh: no answer within 0\.3 s"):
        sh(f"sleep 300 & echo $! >{tmp_path}/child; wait", deadline=0.3, unknown=True)
    assert time.monotonic() - began < 30
    child = (tmp_path / "child").read_text().strip()
    eventually(lambda: not alive(child))


def test_a_daemon_that_keeps_the_output_open_does_not_hold_us(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(WnodesError, match="no answer"):
        sh(f"setsid sh -c 'echo $$ >{tmp_path}/daemon; sleep 300' & wait", deadline=0.3)
    assert time.monotonic() - began < 30
    os.kill(int((tmp_path / "daemon").read_text()), 9)


def test_much_output_does_not_block() -> None:
    assert len(sh("head -c 3000000 /dev/zero; head -c 300000 /dev/zero >&2")) == 3000000


def test_a_program_is_named_once(tmp_path: Path) -> None:
    program = tmp_path / "prog"
    program.write_text("#!/bin/sh\necho 'prog: no such thing' >&2; exit 1\n")
    program.chmod(0o755)
    with pytest.raises(WnodesError) as caught:
        run([str(program)], deadline=5)
    assert str(caught.value) == "prog: no such thing"
