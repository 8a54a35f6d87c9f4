"""Scratch disks, made by the real mkfs.ext4, and the room that they are promised."""

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from bait.machine.files import paths
from bait.machine.owner import owner_of
from bait.machine.room import need_room, promised
from bait.machine.scratch import make_scratch
from tests.unit.conftest import NOBODY, Node, needs_root
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.folders import PASSED, have

pytestmark = [needs_root, pytest.mark.integration, pytest.mark.usefixtures("passed")]

OWNER = owner_of(NOBODY.pw_uid, NOBODY.pw_gid)


def make(config: Config, machine: str, size: int) -> Path:
    where = paths(config, machine)
    have(where.disks, PASSED)
    make_scratch(config, "hv1", where.scratch, size, OWNER)
    return where.scratch


def told(file: Path, *words: str) -> str:
    done = subprocess.run([*words, file], capture_output=True, text=True, check=True)
    return done.stdout


def test_its_file_system_is_whole_and_its_owners(node: Node) -> None:
    file = make(node.config, "vm", 3)
    seen = file.stat()
    assert (seen.st_size, seen.st_uid, stat.S_IMODE(seen.st_mode)) == (3 << 30, 0, 0o600)
    assert seen.st_blocks * 512 < 16 << 20  # what nobody has written takes no room
    told(file, "e2fsck", "-f", "-n")
    said = told(file, "debugfs", "-R", "stat /")
    assert re.search(rf"User: +{NOBODY.pw_uid} +Group: +{NOBODY.pw_gid}", said)
    # Old kernels know all of it, and none has inode tables left to write.
    said = told(file, "dumpe2fs")
    assert "has_journal" not in said
    assert "metadata_csum" not in said
    groups = said.count("\nGroup ")
    assert groups == said.count("ITABLE_ZEROED") > 0


def test_what_is_promised_is_nobody_elses(node: Node) -> None:
    free = os.statvfs(node.folder)
    most = free.f_bavail * free.f_frsize >> 30
    assert most >= 4, "this test needs 4 GiB of disk"
    make(node.config, "one", most - 2)
    taken = promised(Path(node.config.bait.state_dir))
    assert (most - 3) << 10 < taken <= (most - 2) << 10
    with pytest.raises(
        WnodesError, match=r"disk full on node hv1.*promised to scratch disks"
    ) as no:
        make(node.config, "two", 4)
    assert no.value.retry  # elsewhere there may be room
    assert not paths(node.config, "two").scratch.exists()
    machine = node.config.machine.model_copy(update={"min_free_disk": 4 << 10})
    with pytest.raises(WnodesError, match="min_free_disk asks for 4096"):
        need_room(node.config.model_copy(update={"machine": machine}), "hv1")
    paths(node.config, "one").remove()
    make(node.config, "three", 1)


def test_what_its_guest_has_written_is_not_promised_twice(node: Node) -> None:
    file = make(node.config, "vm", 1)
    before = promised(Path(node.config.bait.state_dir))
    with file.open("r+b") as disk:
        disk.seek(512 << 20)
        disk.write(b"x" * (64 << 20))
        disk.flush()
        os.fsync(disk.fileno())
    assert promised(Path(node.config.bait.state_dir)) == before - 64
