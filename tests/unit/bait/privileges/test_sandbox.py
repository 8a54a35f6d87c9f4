"""What reads users' disks can do no more than that, and leaves nothing running."""

import os
import stat
import threading
import time
from pathlib import Path

import pytest

from bait.privileges import sandbox
from bait.privileges.sandbox import Limits, lent, run_confined
from tests.unit.conftest import NOBODY, eventually, needs_root
from wnodes_lrms.errors import WnodesError

pytestmark = [needs_root, pytest.mark.integration]
LIMITS = Limits(seconds=20.0, memory=512, file=1)


def run(script: str, limits: Limits = LIMITS, data: bytes = b"") -> str:
    return run_confined(("sh", "-c", script), NOBODY.pw_uid, limits, data=data)


def running(word: str) -> bool:
    """Whether a process has this word on its command line."""
    found = [path / "cmdline" for path in Path("/proc").iterdir() if path.name.isdigit()]
    for path in found:
        try:
            if word.encode() in path.read_bytes():
                return True
        except OSError:
            continue
    return False


def test_it_is_that_user_and_can_be_nobody_else() -> None:
    status = run("cat /proc/self/status").splitlines()
    facts = {line.partition(":")[0]: line.split()[1:] for line in status}
    assert set(facts["Uid"]) == {str(NOBODY.pw_uid)}
    assert set(facts["Gid"]) == {str(NOBODY.pw_gid)}
    assert set(facts["CapEff"] + facts["CapPrm"]) == {"0" * 16}
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == (["1"], ["2"])


def test_it_gets_its_input_and_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "secret")
    assert run("cat; echo $SECRET", data=b"given\n") == "given\n\n"


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET"])
def test_it_has_no_network(family: str) -> None:
    code = f"import socket; socket.socket(socket.{family}, socket.SOCK_DGRAM)"
    with pytest.raises(WnodesError, match="Operation not permitted"):
        run(f"exec /usr/bin/python3 -c '{code}'")
    assert run("/usr/bin/python3 -c 'import socket; socket.socket(socket.AF_UNIX)'") == ""


def test_its_limits(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for at in tmp_path.parents[:3]:
        at.chmod(at.stat().st_mode | 0o711)
    with pytest.raises(WnodesError):
        run(f"head -c 2000000 /dev/zero >{tmp_path}/file")
    assert (tmp_path / "file").stat().st_size == 1 << 20
    with pytest.raises(WnodesError, match="MemoryError"):
        run("exec /usr/bin/python3 -c 'bytearray(1 << 30)'")
    assert len(run("head -c 3000000 /dev/zero | tr '\\0' x")) == 1 << 20  # the rest is not kept


def test_nothing_outlives_it() -> None:
    word = f"4{time.monotonic_ns()}"
    run(f"(setsid sleep {word} &); sleep 0.1")
    assert not running(word)
    with pytest.raises(WnodesError, match="no answer within 1 s"):
        run(f"(setsid sleep {word} &); sleep {word}", Limits(seconds=1.0, memory=512, file=1))
    eventually(lambda: not running(word))


def test_a_fault_is_told_in_its_last_words() -> None:
    with pytest.raises(WnodesError, match=r"^sh: the reason$"):
        run("echo first >&2; printf 'the \\033reason\\n' >&2; exit 3")
    with pytest.raises(WnodesError, match="exit status 137"):
        run("kill -9 $$")


def test_a_file_is_lent_and_comes_back_private(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    file.touch(mode=0o600)
    with lent(NOBODY.pw_uid, file):
        assert file.stat().st_uid == NOBODY.pw_uid
        file.chmod(0o666)
    status = file.stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (os.geteuid(), 0o600)


def test_a_file_that_is_lent_twice_comes_back_when_both_are_done(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    file.touch(mode=0o600)
    with lent(NOBODY.pw_uid, file):
        with lent(NOBODY.pw_uid, file):
            pass
        assert file.stat().st_uid == NOBODY.pw_uid
    assert file.stat().st_uid == 0


def test_a_lent_file_that_is_removed_keeps_no_other_from_coming_back(tmp_path: Path) -> None:
    gone, file = tmp_path / "disk", tmp_path / "copy"
    for each in (gone, file):
        each.touch(mode=0o600)
    with lent(NOBODY.pw_uid, gone, file):
        gone.unlink()
    assert file.stat().st_uid == 0


def test_another_user_waits_for_a_file_that_is_lent(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    file.touch(mode=0o600)
    seen: list[int] = []

    def borrow() -> None:
        with lent(NOBODY.pw_uid + 1, file):
            seen.append(file.stat().st_uid)

    with lent(NOBODY.pw_uid, file):
        other = threading.Thread(target=borrow)
        other.start()
        other.join(0.5)
        assert (seen, file.stat().st_uid) == ([], NOBODY.pw_uid)
    other.join(60)
    assert seen == [NOBODY.pw_uid + 1]
    assert file.stat().st_uid == 0


def test_nobody_waits_for_ever_for_a_file_that_is_lent_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_PATIENCE", 0.1)
    disk, free = tmp_path / "disk", tmp_path / "copy"
    for each in (disk, free):
        each.touch(mode=0o600)
    other = lent(NOBODY.pw_uid + 1, free, disk)
    with lent(NOBODY.pw_uid, disk):
        with pytest.raises(WnodesError, match=f"^{disk}: lent to another user than"), other:
            raise AssertionError
        assert disk.stat().st_uid == NOBODY.pw_uid
        with lent(NOBODY.pw_uid, free):  # who has waited in vain has nothing
            assert free.stat().st_uid == NOBODY.pw_uid
    with lent(NOBODY.pw_uid + 1, disk):
        assert disk.stat().st_uid == NOBODY.pw_uid + 1
    assert (disk.stat().st_uid, free.stat().st_uid) == (0, 0)
