"""Entries that are right, and each fault of those that are not."""

from pathlib import Path

import pytest

from tests.unit.conftest import TAG
from wnodes_lrms.errors import ConfigError, RejectedError
from wnodes_lrms.images import catalogue
from wnodes_lrms.images.catalogue import Image, Part

DISK = Part(source="https://example.org/a%20b.qcow2", sha256="0" * 64)
FULL = Image(
    tag=TAG,
    format="qcow2",
    disk=DISK,
    kernel=Part(source="/srv/kernel", sha256="1" * 64),
    initrd=Part(source="/srv/initrd", sha256="2" * 64),
    cmdline='console=ttyS0 x="y z"',
    context="script",
    trusted=True,
    min_memory=256,
)
LEAST = Image(tag="a.b-c_d_e", format="raw", disk=DISK, context="cloud-init")


@pytest.mark.parametrize("image", [FULL, LEAST], ids=["full", "least"])
def test_what_is_written_is_read(tmp_path: Path, image: Image) -> None:
    folder = tmp_path / "images"
    file = catalogue.write(folder, image)
    assert file == folder / f"{image.tag}.toml"
    assert file.stat().st_mode & 0o777 == 0o644
    assert catalogue.read(folder, image.tag) == image
    assert list(folder.iterdir()) == [file]


def test_parts_are_all_the_files_that_a_node_needs() -> None:
    assert [part.source for part in FULL.parts] == [DISK.source, "/srv/kernel", "/srv/initrd"]
    assert LEAST.parts == (DISK,)


def test_a_later_entry_takes_the_place_of_the_earlier(tmp_path: Path) -> None:
    catalogue.write(tmp_path, FULL)
    catalogue.write(tmp_path, FULL.model_copy(update={"trusted": False}))
    assert not catalogue.read(tmp_path, TAG).trusted
    assert catalogue.tags(tmp_path) == [TAG]


def test_the_folder_may_hold_other_things(tmp_path: Path) -> None:
    catalogue.write(tmp_path, FULL)
    catalogue.write(tmp_path, LEAST)
    for name in ("README", "Not A Tag.toml", f"{TAG}.new", f"{TAG}.toml~"):
        (tmp_path / name).write_text("x")
    assert catalogue.tags(tmp_path) == [LEAST.tag, TAG]
    assert list(catalogue.images(tmp_path)) == [LEAST, FULL]
    assert catalogue.tags(tmp_path / "none") == []


def test_an_unknown_tag_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match=r"not in the catalogue \(known: none\)"):
        catalogue.read(tmp_path, TAG)
    catalogue.write(tmp_path, LEAST)
    with pytest.raises(RejectedError, match=rf"known: {LEAST.tag}\)") as caught:
        catalogue.read(tmp_path, TAG)
    assert not caught.value.retry


@pytest.mark.parametrize("tag", ["", "x", "../../etc/x_y_z", "x_y_z/../a_b_c", "x_y_z\0", "X_y_z"])
def test_a_tag_can_not_lead_elsewhere(tmp_path: Path, tag: str) -> None:
    with pytest.raises(RejectedError, match="a tag has the form"):
        catalogue.read(tmp_path, tag)
    with pytest.raises(RejectedError, match="a tag has the form"):
        catalogue.remove(tmp_path, tag)


def test_removed_is_gone(tmp_path: Path) -> None:
    catalogue.write(tmp_path, FULL)
    catalogue.remove(tmp_path, TAG)
    assert catalogue.tags(tmp_path) == []
    with pytest.raises(RejectedError):
        catalogue.remove(tmp_path, TAG)


def test_every_fault_of_an_entry_is_named(tmp_path: Path) -> None:
    (tmp_path / f"{TAG}.toml").write_text(
        """
format = "vmdk"
trusted = "perhaps"
min_memory = 0
colour = "blue"
[disk]
source = "ftp://example.org/x"
sha256 = "ABC"
[kernel]
source = "/srv/kernel"
"""
    )
    with pytest.raises(ConfigError) as caught:
        catalogue.read(tmp_path, TAG)
    assert caught.value.where == str(tmp_path / f"{TAG}.toml")
    assert sorted(fault.partition(": ")[0] for fault in caught.value.faults) == [
        "colour",
        "context",
        "disk.sha256",
        "disk.source",
        "format",
        "kernel.sha256",
        "min_memory",
        "trusted",
    ]


def test_an_entry_has_the_tag_that_its_file_is_called_by(tmp_path: Path) -> None:
    file = catalogue.write(tmp_path, FULL)
    file.write_text(f'tag = "other_linux_x86_64"\n{file.read_text()}')
    with pytest.raises(ConfigError, match="tag"):
        catalogue.read(tmp_path, TAG)


def test_what_can_not_be_read_is_said(tmp_path: Path) -> None:
    file = tmp_path / f"{TAG}.toml"
    file.write_text("no toml")
    with pytest.raises(ConfigError, match=f"{TAG}.toml: is not TOML"):
        catalogue.read(tmp_path, TAG)
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not TOML"):
        catalogue.read(tmp_path, TAG)
    file.unlink()
    file.mkdir()
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        catalogue.read(tmp_path, TAG)


@pytest.mark.parametrize(
    "source",
    [
        "http://user:hunter2@127.0.0.1/image",
        "https://hunter2@example.org/image",
        "https://user:hun/ter2@example.org/image",
        "https://user:hun?ter2@example.org/image",
        "https://example.org/image?token=hunter2",
        "https://example.org/image?a=b&X-Amz-Signature=hunter2",
        "https://example.org/image?sv=1&sig=hunter2",
        "https://example.org/image?api_key=hunter2",
    ],
)
def test_a_source_with_a_secret_is_refused_and_not_repeated(tmp_path: Path, source: str) -> None:
    file = catalogue.write(tmp_path, FULL)
    file.write_text(file.read_text().replace(FULL.disk.source, source))
    with pytest.raises(ConfigError, match="everybody reads the catalogue") as caught:
        catalogue.read(tmp_path, TAG)
    assert "disk.source: has a" in str(caught.value)
    assert "ter2" not in str(caught.value)


@pytest.mark.parametrize(
    "source", ["/srv/images@old/disk", "https://example.org/a%40b?download=1&version=keyed"]
)
def test_a_source_without_one_is_taken(source: str) -> None:
    assert Part(source=source, sha256="0" * 64).source == source
