"""Files are root's alone, and an image is for QEMU's user to read."""

import stat
import subprocess
from pathlib import Path

import pytest

from bait.privileges.ownership import close, let_read
from tests.unit.conftest import NOBODY, Node, needs_root

pytestmark = needs_root


def reads(uid: int, file: Path) -> bool:
    done = subprocess.run(["cat", str(file)], user=uid, group=uid, extra_groups=[], check=False)
    return done.returncode == 0


@pytest.mark.integration
def test_an_image_is_for_one_user_to_read_and_nobody_to_write(node: Node) -> None:
    file = Path(node.config.images.cache_dir) / "image"
    for at in (file.parent, *file.parent.parents[:-1]):
        at.chmod(at.stat().st_mode | 0o711)
    file.write_text("image\n")
    file.chmod(0o644)
    for _ in range(2):
        let_read(file, {NOBODY.pw_uid})
        assert stat.S_IMODE(file.stat().st_mode) == 0o640
    file.chmod(file.stat().st_mode | 0o004)
    close(node.config)  # a bait that starts again
    assert reads(NOBODY.pw_uid, file)
    assert not reads(NOBODY.pw_uid - 1, file)
    writing = subprocess.run(
        ["sh", "-c", f"echo x >>{file}"], user=NOBODY.pw_uid, extra_groups=[], check=False
    )
    assert writing.returncode != 0


def test_what_an_earlier_version_left_open_is_closed(node: Node, tmp_path: Path) -> None:
    machine = Path(node.config.bait.state_dir) / "machines" / "some"
    cache, job = (
        Path(node.config.images.cache_dir),
        Path(node.config.bait.run_dir) / "machines" / "some",
    )
    elsewhere = tmp_path / "elsewhere"
    job.mkdir(parents=True)
    machine.mkdir(parents=True)
    elsewhere.mkdir(mode=0o755)
    files = [machine / "disk.qcow2", cache / "image", job / "seed.iso"]
    for file in (*files, elsewhere / "file"):
        file.touch()
        file.chmod(0o644)
    (machine / "link").symlink_to(elsewhere / "file")
    (machine.parent / "link").symlink_to(elsewhere)
    for _ in range(2):
        close(node.config)
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert stat.S_IMODE(machine.stat().st_mode) == 0o711
        assert stat.S_IMODE((elsewhere / "file").stat().st_mode) == 0o644
        assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o755
