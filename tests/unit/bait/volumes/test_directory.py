"""A folder of sparse files."""

import fcntl
import os
import resource
import shutil
import stat
import subprocess
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest

from bait.volumes.directory import Directory
from tests.unit.conftest import eventually
from wnodes_lrms.errors import AbsentError, ConflictError, RejectedError, WnodesError

ONE, TWO = str(uuid.uuid4()), str(uuid.uuid4())


def test_made_listed_and_removed(tmp_path: Path) -> None:
    pool = Directory(tmp_path / "volumes")
    assert pool.list() == {}
    pool.create(ONE, 2)
    pool.create(TWO, 3)
    assert pool.list() == {ONE: 2, TWO: 3}
    status = pool.path(ONE).stat()
    assert status.st_size == 2 << 30
    assert status.st_blocks == 0  # it takes room as it fills
    assert stat.S_IMODE(status.st_mode) == 0o600
    pool.delete(ONE)
    pool.delete(ONE)
    assert pool.list() == {TWO: 3}
    with pytest.raises(AbsentError, match=ONE):
        pool.path(ONE)


def test_made_again_it_keeps_what_is_in_it(tmp_path: Path) -> None:
    pool = Directory(tmp_path)
    pool.create(ONE, 1)
    with pool.path(ONE).open("r+b") as file:
        file.write(b"a user's work")
    pool.create(ONE, 1)
    assert pool.list() == {ONE: 1}
    assert pool.path(ONE).open("rb").read(13) == b"a user's work"


def test_it_grows_and_never_shrinks(tmp_path: Path) -> None:
    pool = Directory(tmp_path)
    pool.create(ONE, 1)
    with pool.path(ONE).open("r+b") as file:
        file.write(b"a user's work")
    for size in (5, 2):
        pool.create(ONE, size)
        assert pool.list() == {ONE: 5}
    assert pool.path(ONE).stat().st_size == 5 << 30
    assert pool.path(ONE).open("rb").read(13) == b"a user's work"


def test_no_more_is_promised_than_there_is_room_for(tmp_path: Path) -> None:
    pool = Directory(tmp_path)
    much = shutil.disk_usage(tmp_path).free * 7 // 10 >> 30
    with pytest.raises(RejectedError, match=f"no room for that: .* {10 * much} are asked"):
        pool.create(ONE, 10 * much)
    assert pool.list() == {}
    pool.create(ONE, much)
    for _ in range(2):
        pool.create(ONE, much)  # it has that
        with pytest.raises(RejectedError, match=f"promised to nobody yet, {much} are asked"):
            pool.create(TWO, much)  # though nothing of the first has been written
    with pytest.raises(RejectedError, match=f"promised to nobody yet, {much} are asked"):
        pool.create(ONE, 2 * much)
    assert pool.list() == {ONE: much}
    pool.delete(ONE)
    pool.create(TWO, much)


def test_what_a_killed_bait_left_is_no_volume(tmp_path: Path) -> None:
    pool = Directory(tmp_path)
    (tmp_path / f"{ONE}.new").write_text("half")
    assert pool.list() == {}
    pool.create(ONE, 1)
    assert {path.name for path in tmp_path.iterdir()} == {f"{ONE}.raw", ".lock"}


def test_what_is_no_id_is_no_path(tmp_path: Path) -> None:
    for name in ("../x", "", f"{ONE}/.."):
        with pytest.raises(ValueError, match="badly formed"):
            Directory(tmp_path).create(name, 1)


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    pool = Directory(tmp_path / "file")
    with pytest.raises(WnodesError, match=f"volume {ONE}: {tmp_path}/file"):
        pool.create(ONE, 1)
    with pytest.raises(WnodesError, match=f"volume {ONE}: {tmp_path}/file"):
        pool.delete(ONE)


def test_a_volume_larger_than_the_file_system_can_have(tmp_path: Path) -> None:
    pool = Directory(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 29, hard))  # a tmpfs has no such limit itself
    try:
        with pytest.raises(WnodesError, match=f"{ONE}.*File too large"):
            pool.create(ONE, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert pool.list() == {}


@pytest.mark.integration
@pytest.mark.parametrize("reads", [False, True])
def test_a_volume_that_a_qemu_has_open_is_in_use(tmp_path: Path, reads: bool) -> None:
    """Of whatever node: its lock is on the file."""
    pool = Directory(tmp_path)
    pool.create(ONE, 1)
    pool.check_unused(ONE)
    how = "on" if reads else "off"
    drive = f"if=virtio,format=raw,file={pool.path(ONE)},readonly={how}"
    argv = ["qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-accel", "tcg"]
    qemu = subprocess.Popen([*argv, "-drive", drive, "-qmp", "stdio"], stdout=-1, stdin=-1)
    try:
        assert qemu.stdout
        assert qemu.stdin
        qemu.stdin.write(b'{"execute": "qmp_capabilities"}')
        qemu.stdin.flush()
        while b"return" not in qemu.stdout.readline():  # by then it has all its devices
            assert qemu.poll() is None
        for act in (pool.check_unused, pool.delete):
            with pytest.raises(ConflictError, match=f"{ONE} is in use by a VM"):
                act(ONE)
        if reads:
            pool.check_unused(ONE, readonly=True)
        else:
            with pytest.raises(ConflictError, match=f"{ONE} is in use by a VM"):
                pool.check_unused(ONE, readonly=True)
    finally:
        qemu.kill()
        qemu.communicate()
    pool.delete(ONE)
    pool.check_unused(ONE)


@pytest.mark.integration
def test_a_qemu_writes_on_no_volume_that_is_being_copied(tmp_path: Path) -> None:
    pool = Directory(tmp_path)
    pool.create(ONE, 1)

    def opens(readonly: str) -> bool:
        drive = f"if=virtio,format=raw,file={pool.path(ONE)},readonly={readonly}"
        argv = ["qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-accel", "tcg"]
        argv += ["-drive", drive, "-monitor", "stdio"]
        return subprocess.run(argv, input=b"quit\n", capture_output=True).returncode == 0

    with pool.reading(ONE), pool.reading(ONE):
        assert pool.is_read(ONE)
        assert not opens("off")
        assert opens("on")
        with pytest.raises(ConflictError, match="in use"):
            pool.check_unused(ONE)
        pool.check_unused(ONE, readonly=True)
        with pytest.raises(ConflictError, match="in use"):
            pool.delete(ONE)
    assert not pool.is_read(ONE)
    assert opens("off")


def test_a_volume_is_whole_or_not_there(tmp_path: Path) -> None:
    pool = Directory(tmp_path)
    with pool.filling(ONE, 2) as new:
        assert new.stat().st_size == 2 << 30
        with new.open("r+b") as file:
            file.write(b"a user's work")
        assert pool.list() == {}
        with pytest.raises(ConflictError, match="is being made"), pool.filling(ONE, 2):
            pass
        with pytest.raises(ConflictError, match="is being made"):
            pool.delete(ONE)
    assert pool.list() == {ONE: 2}
    assert pool.path(ONE).open("rb").read(15) == b"a user's work\0\0"
    assert stat.S_IMODE(pool.path(ONE).stat().st_mode) == 0o600
    with pytest.raises(ConflictError, match="is there already"), pool.filling(ONE, 2):
        pass
    with pytest.raises(OSError, match="No such file"), pool.filling(TWO, 1) as new:
        new.rename(tmp_path / "elsewhere").unlink()  # what can't be finished is no volume
    assert pool.list() == {ONE: 2}
    (tmp_path / f"{TWO}.copy").write_bytes(b"half")  # of a bait that was killed
    pool.delete(TWO)
    assert {path.name for path in tmp_path.iterdir()} == {f"{ONE}.raw", ".lock"}


def test_a_volume_that_was_made_meanwhile_stays_as_it_is(tmp_path: Path) -> None:
    pool = Directory(tmp_path)

    def fill() -> None:
        with pool.filling(ONE, 1):
            pool.create(ONE, 1)
            pool.path(ONE).write_bytes(b"a user's work")

    with pytest.raises(ConflictError, match="has been made meanwhile"):
        fill()
    assert pool.path(ONE).read_bytes() == b"a user's work"
    assert {path.name for path in tmp_path.iterdir()} == {f"{ONE}.raw", ".lock"}


def test_a_volume_that_goes_while_others_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, glob = Directory(tmp_path), Path.glob
    pool.create(ONE, 1)
    monkeypatch.setattr(Path, "glob", lambda at, form: [*glob(at, form), tmp_path / f"{TWO}.raw"])
    assert pool.list() == {ONE: 1}
    pool.create(ONE, 2)


def test_what_is_being_copied_is_promised_room(tmp_path: Path) -> None:
    pool = Directory(tmp_path)
    much = shutil.disk_usage(tmp_path).free * 7 // 10 >> 30
    with pool.filling(ONE, much):
        with pytest.raises(RejectedError, match="no room for that"):
            pool.create(TWO, much)
        with pytest.raises(RejectedError, match="no room for that"), pool.filling(TWO, much):
            pass


def test_a_deleted_volume_is_wiped_where_the_site_says_so(tmp_path: Path) -> None:
    pool = Directory(tmp_path, wipe=True)
    pool.create(ONE, 1)
    with pool.path(ONE).open("r+b") as file:
        for at in (5, 900 << 20):
            file.seek(at)
            file.write(b"a user's secret")
        kept = os.dup(file.fileno())  # as a look at the disk itself
    os.fsync(kept)
    size = os.fstat(kept).st_blocks
    for _ in range(2):
        pool.delete(ONE)
    assert pool.list() == {}
    eventually(lambda: [path.name for path in tmp_path.iterdir()] == [".lock"])
    for at in (5, 900 << 20):
        assert os.pread(kept, 15, at) == bytes(15)
    assert os.fstat(kept).st_blocks == size  # no more than was written
    os.close(kept)


def test_what_a_killed_bait_has_not_wiped_the_next_one_does(tmp_path: Path) -> None:
    left = tmp_path / f"{ONE}.wipe"
    left.write_bytes(b"a user's secret")
    pool = Directory(tmp_path, wipe=True)
    assert pool.list() == {}
    with left.open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)  # another node's bait does it
        pool.sweep()
        assert left.exists()
    pool.sweep()
    assert list(tmp_path.iterdir()) == []
    pool.sweep()


def test_halves_of_one_volume_are_all_wiped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that fails again and again leaves one each time, and a killed bait one too."""
    pool = Directory(tmp_path, wipe=True)
    monkeypatch.setattr(pool._removals, "begin", lambda: None)  # it is slow
    half = tmp_path / f"{ONE}.copy"
    half.write_bytes(b"a user's secret")
    with ExitStack() as kept:
        files = [kept.enter_context(half.open("rb"))]

        def fill() -> None:
            with pool.filling(ONE, 1) as new:
                new.write_bytes(b"a user's secret")
                files.append(kept.enter_context(new.open("rb")))
                raise RejectedError("no")

        for _ in range(2):
            with pytest.raises(RejectedError):
                fill()
        monkeypatch.undo()
        pool.sweep()
        assert [os.pread(file.fileno(), 15, 0) for file in files] == [bytes(15)] * 3
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
