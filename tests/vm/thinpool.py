"""The bait's pool of volumes on a real thin pool, without VMs. Runs on the node, as root.

usage: thinpool.py BACKING   all of it, on data/volumes, which is empty, and whose disk is this file
       thinpool.py look      the names of its volumes, as a bait sees them that is a unit
"""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from bait.volumes import thin
from bait.volumes.thin import Thin
from wnodes_lrms.config.load import Pool
from wnodes_lrms.errors import ConflictError, RejectedError

_SETTINGS = Pool(kind="lvm", group="data")
_GIB, _MIB = 1 << 30, 1 << 20
_WRITTEN = 32  # MiB, enough to see them come and go
_LONG = 600.0  # seconds for what an emulated machine does by and by


def main(what: str) -> None:
    """Do what is asked for."""
    if what == "look":
        print(*Thin(_SETTINGS).list())
        return
    pool = Thin(_SETTINGS)
    has = pool.lvm.look().pool
    assert (has.zeroes, has.fails, has.discards) == (True, True, "passdown"), has
    assert pool.has_room()
    grows_and_is_kept_from_others(pool)
    copies_are_of_their_own(pool)
    keeps_its_promises(pool)
    leaves_others_alone(pool)
    nobody_reads_what_was(pool)
    is_wiped(Thin(_SETTINGS, wipe=True), Path(what))
    assert pool.list() == {}
    assert pool.lvm.look().promised == 0


def grows_and_is_kept_from_others(pool: Thin) -> None:
    """Made, open, grown, deleted; udev does not look into it."""
    volume = new()
    for _ in range(2):
        pool.create(volume, 1)
    assert pool.list() == {volume: 1}
    call("mkfs.ext4", "-q", path(pool, volume))
    call("udevadm", "settle")
    known = call("udevadm", "info", "--query=property", f"--name={path(pool, volume)}")
    assert "DM_UDEV_DISABLE_OTHER_RULES_FLAG=1" in known, known
    assert "ID_FS_TYPE" not in known, known
    with opened(pool, volume) as device:
        assert os.lseek(device, 0, os.SEEK_END) == _GIB
        pool.create(volume, 2)
        assert os.lseek(device, 0, os.SEEK_END) == 2 * _GIB
        pool.check_unused(volume, readonly=True)
        for act in (pool.check_unused, pool.delete, lambda _: pool.lvm.remove(name(volume))):
            refused(ConflictError, lambda act=act: act(volume))
    pool.check_unused(volume)
    call("lvchange", "--activate", "n", f"data/{name(volume)}")
    assert not Path(f"/dev/data/{name(volume)}").exists()
    write(pool, volume, 0, b"active")
    for _ in range(2):
        pool.delete(volume)
    assert pool.list() == {}


def copies_are_of_their_own(pool: Thin) -> None:
    """A copy is what its volume was, while somebody writes on that, and outlives it."""
    volume, copy = new(), new()
    pool.create(volume, 1)
    write(pool, volume, 500, b"before")
    with opened(pool, volume):
        pool.copy(volume, copy, nullcontext())
    write(pool, volume, 500, b"after!")
    assert read(pool, copy, 500) == b"before"
    pool.delete(volume)
    assert read(pool, copy, 500) == b"before"
    call("lvchange", "--activate", "n", f"data/{name(copy)}")
    assert read(pool, copy, 500) == b"before"  # it is no snapshot that is skipped
    pool.delete(copy)


def keeps_its_promises(pool: Thin) -> None:
    """No more than there is."""
    volume, most = new(), pool.lvm.look().pool.size // _GIB
    pool.create(volume, most)
    refused(RejectedError, lambda: pool.create(volume, most + 1))
    refused(RejectedError, lambda: pool.copy(volume, new(), nullcontext()))
    pool.delete(volume)


def leaves_others_alone(pool: Thin) -> None:
    """One that is called as ours are, and has no tag."""
    volume = new()
    theirs = ["--type", "thin", "--thinpool", "volumes", "--virtualsize", "1g"]
    call("lvcreate", "--yes", *theirs, "--name", name(volume), "data")
    assert pool.list() == {}
    for act in (lambda: pool.create(volume, 2), lambda: pool.delete(volume)):
        refused(ConflictError, act)
    call("lvremove", "--yes", f"data/{name(volume)}")


def nobody_reads_what_was(pool: Thin) -> None:
    """A new volume has nothing in it of one before."""
    first, second = new(), new()
    pool.create(first, 1)
    for at in range(_WRITTEN):
        write(pool, first, at, b"secret" * 1000)
    pool.delete(first)
    pool.create(second, 1)
    for at in range(_WRITTEN):
        write(pool, second, at, b"x")  # which gives it a block that the first may have had
        assert read(pool, second, at, 4096).strip(b"\0") == b"x"
    pool.delete(second)


def is_wiped(pool: Thin, backing: Path) -> None:
    """What is deleted is gone from the disk below."""
    volume, before = new(), backing.stat().st_blocks
    pool.create(volume, 1)
    for at in range(_WRITTEN):
        write(pool, volume, at, os.urandom(_MIB))
    written = backing.stat().st_blocks
    assert written - before > _WRITTEN * _MIB // 512 // 2, (before, written)
    pool.delete(volume)
    until = time.monotonic() + _LONG
    while pool.lvm.look().volumes:
        assert time.monotonic() < until, pool.lvm.look().volumes
        time.sleep(1)
    after = backing.stat().st_blocks
    assert written - after > _WRITTEN * _MIB // 512 // 2, (written, after)


def new() -> str:
    return str(uuid.uuid4())


def name(volume: str) -> str:
    return thin._name(volume)


def path(pool: Thin, volume: str) -> str:
    return pool.source(volume).dev


@contextmanager
def opened(pool: Thin, volume: str) -> Iterator[int]:
    device = os.open(path(pool, volume), os.O_RDWR | os.O_CLOEXEC)
    try:
        yield device
    finally:
        os.fsync(device)
        os.close(device)


def write(pool: Thin, volume: str, mebibyte: int, data: bytes) -> None:
    with opened(pool, volume) as device:
        os.pwrite(device, data, mebibyte * _MIB)


def read(pool: Thin, volume: str, mebibyte: int, size: int = 6) -> bytes:
    with opened(pool, volume) as device:
        return os.pread(device, size, mebibyte * _MIB)


def refused(kind: type[Exception], act: object) -> None:
    try:
        act()  # type: ignore[operator]
    except kind:
        return
    raise AssertionError(f"not refused: {act}")


def call(*argv: str) -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main(*sys.argv[1:])
