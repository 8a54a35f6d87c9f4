"""Copying a user's disk: qemu-img is real, and confined."""

import os
import stat
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from bait.cloud import disks
from bait.machine.vms import NodeVms
from tests.unit.conftest import needs_root
from wnodes_lrms.errors import WnodesError

pytestmark = [pytest.mark.integration, needs_root]
DIGEST = "0123456789abcdef" * 4


@pytest.fixture
def vms(tmp_path: Path) -> NodeVms:
    for at in (tmp_path, *tmp_path.parents[:-1]):  # who looks at disks comes to them as on a node
        at.chmod(at.stat().st_mode | 0o711)
    (tmp_path / "cache").mkdir()
    cache = SimpleNamespace(folder=tmp_path / "cache")
    return SimpleNamespace(cache=cache, let_in=lambda file: file.chmod(0o644))  # type: ignore[return-value]


def overlay(folder: Path, base: Path) -> Path:
    """A user's disk on such a base."""
    base.parent.mkdir(exist_ok=True)
    base.write_bytes(b"image" * 20000)
    disk = folder / "disk.qcow2"
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base), str(disk)]
    subprocess.run(argv, check=True)
    return disk


def test_a_copy_stands_alone_and_is_roots(tmp_path: Path, vms: NodeVms) -> None:
    base, target = tmp_path / "cache" / DIGEST, tmp_path / "copy.qcow2"
    disk = overlay(tmp_path, base)
    disks.copy(vms, disk, target)
    for file in (disk, target):
        assert file.stat().st_uid == os.geteuid()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    base.rename(tmp_path / "elsewhere")
    same = ["qemu-img", "compare", "-F", "raw", str(target), str(tmp_path / "elsewhere")]
    assert (
        subprocess.run(same, check=True, capture_output=True).stdout == b"Images are identical.\n"
    )


@pytest.mark.parametrize(
    "base", [f"elsewhere/{DIGEST}", "cache/secret", f"cache/{DIGEST}.part", f"cache/{DIGEST}0"]
)
def test_a_disk_on_what_is_no_image_of_the_cache_is_not_read(
    tmp_path: Path, vms: NodeVms, base: str
) -> None:
    disk, target = overlay(tmp_path, tmp_path / base), tmp_path / "copy.qcow2"
    with pytest.raises(WnodesError, match="which is no image of this node's") as fault:
        disks.copy(vms, disk, target)
    assert fault.value.words("job").startswith("its disk refers to a file that is no image")
    assert not target.exists()
