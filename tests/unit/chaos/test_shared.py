"""The fault harness finds what is left of users' volumes, and takes nothing else for them."""

from pathlib import Path
from uuid import uuid4

from bait.volumes.directory import Directory
from tests.chaos.shared import kept


def test_nothing_is_left_of_a_volume_that_is_deleted(tmp_path: Path) -> None:
    pool, volume = Directory(tmp_path), str(uuid4())
    (tmp_path / "lost+found").mkdir()
    pool.create(volume, 1)
    assert kept(tmp_path) == [tmp_path / f"{volume}.raw"]
    pool.delete(volume)
    assert kept(tmp_path) == []
