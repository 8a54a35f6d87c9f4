"""Looks at the files of an image on this host, before anything is made of them.

Whether VMs can be made from it is judged by images/content.py. A web server's file is only judged
by its beginning, when it is read for its checksum.
"""

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from wnodes_lrms.errors import RejectedError
from wnodes_lrms.images import content
from wnodes_lrms.images.catalogue import Image, Part

_COMPRESSED = 1 << 62
_OFFSET = (1 << 56) - 512  # of a table or a cluster, in an entry of a table
_ZSTD = 1  # how a qcow2 says that it is packed by that


def refuse_unfit(image: Image, files: Mapping[str, Path]) -> None:
    """Refuse an image that no VM can be made from, as far as can be told.

    `files` says where its `disk`, `kernel` and `initrd` are on this host; what is not there is not
    looked at. Raises RejectedError, OSError for a file that can't be read.
    """
    for role, file in files.items():
        with file.open("rb") as stream:
            refuse_beginning(image, role, stream.read(content.HEAD))
    if image.kernel is None and "disk" in files:
        sector = _first_sector(files["disk"], image.format)
        if sector is not None and (fault := content.boot_fault(sector)):
            raise RejectedError(
                f"image {image.tag}: {image.disk.source}: {fault}: without a kernel beside it"
                " (--kernel) no VM starts"
            )


def refuse_beginning(image: Image, role: str, head: bytes) -> None:
    """The same of its `disk`, `kernel` or `initrd`, which begins so. Raises RejectedError."""
    if role == "disk":
        fault = content.disk_fault(head, image.format)
    else:
        fault = (content.kernel_fault if role == "kernel" else content.initrd_fault)(head)
    if fault:
        part: Part = getattr(image, role)
        raise RejectedError(f"image {image.tag}: {part.source}: {fault}")


def hollow(file: Path) -> tuple[int, int] | None:
    """Of a file that is mostly holes: bytes that it has, and bytes that it takes here."""
    status = file.stat()
    taken = status.st_blocks * content.SECTOR
    return (status.st_size, taken) if taken < status.st_size // 2 else None


def _first_sector(file: Path, form: str) -> bytes | None:
    """What a guest sees there; None where that can't be told."""
    with file.open("rb") as stream:
        if form == "raw":
            return stream.read(content.SECTOR)
        try:
            return _of_qcow2(stream)
        except (struct.error, zlib.error, OSError, ValueError):  # it points to where nothing is
            return None


def _of_qcow2(stream: BinaryIO) -> bytes | None:
    head = stream.read(content.HEAD)
    header = content.qcow2(head)
    table = _number(stream, header.tables & _OFFSET) & _OFFSET
    entry = _number(stream, table) if table else 0
    if not entry & _COMPRESSED:
        if entry & 1 or not entry & _OFFSET:  # a cluster of zeros, or none
            return bytes(content.SECTOR)
        stream.seek(entry & _OFFSET)
        return stream.read(content.SECTOR)
    if len(head) > 104 and head[104] == _ZSTD and struct.unpack_from(">I", head, 100)[0] > 104:
        return None
    offset_bits = 70 - (header.cluster.bit_length() - 1)
    stream.seek(entry & ((1 << offset_bits) - 1))
    return zlib.decompressobj(-12).decompress(stream.read(header.cluster), content.SECTOR)


def _number(stream: BinaryIO, at: int) -> int:
    stream.seek(at)
    return int(struct.unpack(">Q", stream.read(8))[0])
