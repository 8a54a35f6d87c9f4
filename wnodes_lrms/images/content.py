"""What an image's files are, by their first bytes: before anything is made of them. Pure.

Formats: QEMU's description of qcow2, Linux's of its boot protocol for x86. A
disk without a kernel beside it is started by a BIOS (SeaBIOS), which takes a disk's first sector
for a boot loader if it ends in 55 AA, and no other.
"""

import struct
from dataclasses import dataclass

SECTOR = 512
HEAD = 128 << 10  # bytes in which every file system and format says what it is
_HDRS = 0x202  # in a kernel that a boot loader loads
# What is often given for a disk: where it says so, how, and what to do about it.
_OTHERS = (
    (_HDRS, b"HdrS", "a Linux kernel", "give it by --kernel, beside a disk"),
    (0, b"\x7fELF", "a program or a kernel", "give a kernel by --kernel, beside a disk"),
    (0, b"070701", "an initial RAM disk", "give it by --initrd, beside a disk and a kernel"),
    (0, b"\x1f\x8b", "packed by gzip", "unpack it"),
    (0, b"\xfd7zXZ\0", "packed by xz", "unpack it"),
    (0, b"\x28\xb5\x2f\xfd", "packed by zstd", "unpack it"),
    (0, b"BZh", "packed by bzip2", "unpack it"),
    (0, b"PK\x03\x04", "a zip archive", "unpack it"),
    (257, b"ustar", "a tar archive", "take the disk out of it"),
    (0, b"KDMV", "a disk of VMware's", "`qemu-img convert -O qcow2` it"),
    (0, b"# Disk Descr", "a disk of VMware's", "`qemu-img convert -O qcow2` it"),
    (0, b"vhdxfile", "a disk of Hyper-V's", "`qemu-img convert -O qcow2` it"),
    (0, b"conectix", "a disk of Virtual PC's", "`qemu-img convert -O qcow2` it"),
    (0x40, b"\x7f\x10\xda\xbe", "a disk of VirtualBox's", "`qemu-img convert -O qcow2` it"),
    (0x8001, b"CD001", "an image of a CD", "give a disk on which a system is installed"),
    (0, b"<!DOCTYPE", "a web page", "see in a browser what its server says"),
    (0, b"<html", "a web page", "see in a browser what its server says"),
)
_QCOW2 = b"QFI\xfb"
_CORRUPT, _DATA_FILE = 1 << 1, 1 << 2  # of the features that a reader must know


@dataclass(frozen=True)
class Qcow2:
    """A qcow2's header, as far as it matters here."""

    size: int  # bytes of the disk that a guest sees
    cluster: int  # bytes
    tables: int  # where the first of its tables (L1) begins, in the file


def disk_fault(head: bytes, form: str) -> str | None:
    """Why a file that begins so is no disk, of this format, for VMs; None: it may be one."""
    if not head.strip(b"\0"):
        return "its beginning is empty: nothing is installed on it" if head else "it is empty"
    found = "qcow2" if head.startswith(_QCOW2) else None
    if form == "raw" and found:
        return "it is in the format qcow2, not raw: say --format qcow2"
    if found:
        return _qcow2_fault(head)
    for at, mark, what, remedy in _OTHERS:
        if head[at : at + len(mark)].lower() == mark.lower():
            return f"it is {what}, not a disk: {remedy}"
    if form == "qcow2":
        return "it is not in the format qcow2: if it is a raw disk, say --format raw"
    return None


def qcow2(head: bytes) -> Qcow2:
    """The header of a file that disk_fault() has nothing against."""
    bits, size = struct.unpack_from(">IQ", head, 20)
    return Qcow2(size, 1 << bits, struct.unpack_from(">Q", head, 40)[0])


def boot_fault(sector: bytes) -> str | None:
    """Why nothing starts from a disk with this first sector; None: a boot loader may be there."""
    if sector[510:512] != b"\x55\xaa":
        return "its first sector is no boot loader's"
    if not sector[:440].strip(b"\0"):
        return "it has partitions, and no boot loader for a BIOS: it may have one for UEFI"
    return None


def kernel_fault(head: bytes) -> str | None:
    """Why a file that begins so is no kernel that QEMU starts; None: it is one."""
    if head[_HDRS : _HDRS + 4] == b"HdrS" or head.startswith(b"\x7fELF"):
        return None
    return "it is no Linux kernel"


def initrd_fault(head: bytes) -> str | None:
    """Why a file that begins so is no initial RAM disk; None: it may be one, in any packing."""
    if not head:
        return "it is empty"
    if kernel_fault(head) is None:
        return "it is a kernel, not an initial RAM disk"
    if head.startswith(_QCOW2):
        return "it is a disk, not an initial RAM disk"
    return None


def _qcow2_fault(head: bytes) -> str | None:
    if len(head) < 72:
        return "it ends within its header"
    version, backing = struct.unpack_from(">IQ", head, 4)
    bits, size, encryption = struct.unpack_from(">IQI", head, 20)
    features = struct.unpack_from(">Q", head, 72)[0] if version >= 3 and len(head) >= 80 else 0
    if version not in (2, 3) or not 9 <= bits <= 21:
        return "it is not as qcow2 has it, in a version that is known here"
    if backing:
        return "it refers to another file: flatten it (`qemu-img convert -O qcow2`)"
    if features & _DATA_FILE:
        return "its data are in another file: flatten it (`qemu-img convert -O qcow2`)"
    if encryption:
        return "it is encrypted, and a VM here can't open that"
    if features & _CORRUPT:
        return "it is marked as corrupt: see `qemu-img check`"
    if not size:
        return "it has no size: nothing is installed on it"
    return None
