"""What an image's files are, before a checksum is computed: qcow2s are qemu-img's own."""

import struct
import subprocess
from pathlib import Path

import pytest

from wnodes_lrms.errors import RejectedError
from wnodes_lrms.images import content, examine
from wnodes_lrms.images.catalogue import Image, Part

TAG = "small_linux_x86_64"
LOADER = b"\xeb\x63" + bytes(508) + b"\x55\xaa"
KERNEL = bytes(0x202) + b"HdrS" + bytes(100)
ELF = b"\x7fELF" + bytes(100)
CPIO = b"070701" + bytes(100)


def image(form: str = "qcow2", **parts: str) -> Image:
    named = {role: Part(source=f"/images/{role}", sha256="0" * 64) for role in ("disk", *parts)}
    return Image.model_validate({"tag": TAG, "format": form, "context": "script", **named})


def raw(folder: Path, start: bytes) -> Path:
    disk = folder / "disk.raw"
    with disk.open("wb") as file:
        file.write(start + b"x" * content.HEAD)
        file.truncate(10 << 20)
    return disk


def qemu_img(*argv: str) -> None:
    subprocess.run(["qemu-img", *argv], check=True, capture_output=True)


def converted(folder: Path, start: bytes, *options: str) -> Path:
    disk = folder / "disk.qcow2"
    qemu_img("convert", "-O", "qcow2", *options, str(raw(folder, start)), str(disk))
    return disk


def said(fit: Image, **files: Path) -> str:
    with pytest.raises(RejectedError) as refused:
        examine.refuse_unfit(fit, files)
    assert str(refused.value).startswith(f"image {TAG}: /images/")
    return str(refused.value)


@pytest.mark.integration
@pytest.mark.parametrize(
    "options", [(), ("-c",), ("-o", "compat=0.10"), ("-o", "cluster_size=2M"), ("-S", "0")]
)
def test_a_disk_of_qemu_img_with_a_boot_loader_or_without(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    examine.refuse_unfit(image(), {"disk": converted(tmp_path, LOADER, *options)})
    assert "no boot loader" in said(image(), disk=converted(tmp_path, bytes(600), *options))
    examine.refuse_unfit(image(kernel="k"), {"disk": tmp_path / "disk.qcow2"})


@pytest.mark.integration
def test_a_table_beyond_all_files_gets_no_verdict(tmp_path: Path) -> None:
    disk = converted(tmp_path, bytes(600))
    with disk.open("r+b") as stream:
        stream.seek(40)  # l1_table_offset
        stream.write(b"\xff" * 7 + b"\xf8")
    assert examine._first_sector(disk, "qcow2") is None


@pytest.mark.integration
def test_what_is_packed_by_zstd_gets_no_verdict(tmp_path: Path) -> None:
    disk = converted(tmp_path, bytes(600), "-c", "-o", "compression_type=zstd")
    examine.refuse_unfit(image(), {"disk": disk})  # not refused, though nothing starts from it
    assert "no boot loader" in said(image(), disk=converted(tmp_path, bytes(600), "-c"))


@pytest.mark.integration
def test_a_disk_that_refers_to_others_or_is_closed(tmp_path: Path) -> None:
    base, disk = str(converted(tmp_path, LOADER)), tmp_path / "d"
    qemu_img("create", "-f", "qcow2", "-b", base, "-F", "qcow2", str(disk))
    assert "another file" in said(image(), disk=disk)
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={tmp_path}/data", str(disk), "1M")
    assert "in another file" in said(image(), disk=disk)
    # An old kind of encryption, that qemu-img does not make any more: by its number in the header.
    head = bytearray(Path(base).read_bytes()[: content.HEAD])
    struct.pack_into(">I", head, 32, 1)
    disk.write_bytes(head)
    assert "encrypted" in said(image(), disk=disk)


@pytest.mark.parametrize(
    ("start", "form", "word"),
    [
        (KERNEL, "raw", "a Linux kernel"),
        (KERNEL, "qcow2", "a Linux kernel"),
        (ELF, "raw", "--kernel"),
        (CPIO, "raw", "--initrd"),
        (b"\x1f\x8b\x08", "qcow2", "gzip"),
        (b"<!doctype html>", "qcow2", "a web page"),
        (bytes(0x8001) + b"CD001", "raw", "a CD"),
        (LOADER, "qcow2", "--format raw"),
        (b"QFI\xfb", "raw", "--format qcow2"),
        (b"QFI\xfb\0\0\0\7" + bytes(100), "qcow2", "version"),
        (b"QFI\xfb\0\0\0\3", "qcow2", "ends within its header"),
        (b"", "raw", "empty"),
        (bytes(content.HEAD), "raw", "empty"),
    ],
)
def test_what_is_no_disk_is_named(tmp_path: Path, start: bytes, form: str, word: str) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(start)
    assert word in said(image(form, kernel="k"), disk=disk)


def test_a_disk_for_uefi_alone_starts_by_no_bios(tmp_path: Path) -> None:
    disk = raw(tmp_path, bytes(440) + b"x" * 70 + b"\x55\xaa")
    assert "UEFI" in said(image("raw"), disk=disk)


def test_a_file_system_without_partitions_does_with_a_kernel(tmp_path: Path) -> None:
    disk, kernel, initrd = raw(tmp_path, bytes(1080) + b"\x53\xef"), tmp_path / "k", tmp_path / "i"
    kernel.write_bytes(ELF)
    initrd.write_bytes(CPIO)
    whole = image("raw", kernel="k", initrd="i")
    examine.refuse_unfit(whole, {"disk": disk, "kernel": kernel, "initrd": initrd})
    assert "no Linux kernel" in said(whole, disk=disk, kernel=initrd)
    assert "a kernel, not an initial RAM disk" in said(whole, initrd=kernel)


def test_holes_are_told(tmp_path: Path) -> None:
    size, taken = examine.hollow(raw(tmp_path, LOADER)) or (0, 0)
    assert size == 10 << 20
    assert content.HEAD <= taken < size // 2
