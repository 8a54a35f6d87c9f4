"""contrib/images/small/build: the kernel is taken out of whatever it is packed with."""

import struct
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

BUILD = Path(__file__).parents[3] / "contrib" / "images" / "small" / "build"
ELF = b"\x7fELF" + bytes(range(256)) * 40
SECTORS, OFFSET = 4, 1000  # of the part that sets up, of the payload in what comes after it
PACKERS = {
    "gzip": ["gzip", "-c"],
    "bzip2": ["bzip2", "-c"],
    "lzma": ["xz", "--format=lzma", "-c"],
    "xz": ["xz", "--check=crc32", "-c"],
    "lz4": ["lz4", "-l", "-c"],
    "zstd": ["zstd", "-q", "-c"],
    "nothing": ["cat"],
}


def packed(argv: list[str], content: bytes) -> bytes:
    """A kernel as Linux's own makefile lays it out for a boot loader (Documentation, x86/boot)."""
    payload = subprocess.run(argv, input=content, stdout=subprocess.PIPE, check=True).stdout
    if argv[0] != "gzip":  # whose format ends with that already
        payload += struct.pack("<I", len(content))
    head = bytearray((SECTORS + 1) * 512 + OFFSET)
    head[497] = SECTORS
    struct.pack_into("<II", head, 584, OFFSET, len(payload))
    return bytes(head) + payload + b"what comes after it"


def unpacked(folder: Path, kernel: bytes) -> subprocess.CompletedProcess[str]:
    """What the recipe makes of it, in the file `out`; only its functions are run."""
    functions = BUILD.read_text().partition("\n[ $# -eq 1 ]")[0].replace("/boot/", f"{folder}/")
    (folder / "vmlinuz-6").write_bytes(kernel)
    script = f"{functions}\nrelease=6 work={folder}\nmake_kernel {folder}/out\n"
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("packer", PACKERS)
def test_a_kernel_comes_out_as_it_was(tmp_path: Path, packer: str) -> None:
    done = unpacked(tmp_path, packed(PACKERS[packer], ELF))
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out").read_bytes() == ELF


def test_what_is_packed_otherwise_is_named(tmp_path: Path) -> None:
    done = unpacked(tmp_path, packed(["cat"], b"\x89LZO" + ELF))
    assert done.returncode != 0
    assert f"build: the kernel {tmp_path}/vmlinuz-6 is packed in a way that is" in done.stderr
    done = unpacked(tmp_path, packed(["gzip", "-c"], b"no kernel"))
    assert f"build: the kernel {tmp_path}/vmlinuz-6 has no ELF kernel in it" in done.stderr
