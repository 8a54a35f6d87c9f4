"""What a node's checks conclude of its files: images, room, and who may write what. Pure:
bait/checks/files.py does the looking."""

import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from wnodes_lrms.doctor import Check, fault, ok, unknown, warning


class Copy(Enum):
    """A node's own copy of an image file, held against the checksum that is its name."""

    ABSENT = "absent"
    RIGHT = "right"
    WRONG = "wrong"
    UNREAD = "unread"  # it would have taken too long


@dataclass(frozen=True)
class PartSeen:
    """A file of an image: what is wrong with its source (nothing: None), and the node's copy."""

    source: str
    trouble: str | None
    copy: Copy
    path: Path


def image(tag: str, parts: Sequence[PartSeen], unfit: str | None = None) -> Check:
    """Whether VMs can be made from an image. `unfit` is why none starts from what its files have,
    whoever has them."""
    name = f"image {tag}"
    for part in parts:
        if part.copy is Copy.WRONG:
            return fault(
                name,
                f"the node's copy of {part.source} is damaged",
                f"`rm {part.path}`: the next job fetches it again",
            )
    for part in parts:
        if part.trouble and part.copy is Copy.ABSENT:
            return fault(
                name,
                f"{part.source}: {part.trouble}",
                f"bring the file back, or name another with `wnodes image add {tag} …`",
            )
    for part in parts:
        if part.trouble:
            return warning(
                name,
                f"only the node's copy is left; {part.source}: {part.trouble}",
                "bring the file back before the copy is evicted, or other nodes need it",
            )
    if unfit:
        return fault(name, unfit, f"name another with `wnodes image add {tag} …`")
    unread = [part for part in parts if part.copy is Copy.UNREAD]
    if unread:
        return unknown(
            name,
            f"reachable; {len(unread)} of its cached files take too long to verify here",
            f"`sha256sum {unread[0].path}` must say the file's own name",
        )
    cached = sum(part.copy is Copy.RIGHT for part in parts)
    copies = f"{cached} of them cached and verified" if cached else "none cached yet"
    return ok(name, f"{len(parts)} files reachable, {copies}")


def space(folder: Path, free: int, needed: int) -> Check:
    """Room for overlays, without what is promised to scratch disks; both numbers are MiB."""
    if free < needed:
        return fault(
            "disk space",
            f"{folder} has {free} MiB free, min_free_disk asks for {needed}: no VM is made",
            "make room there, or move state_dir in [bait] to a larger disk",
        )
    return ok("disk space", f"{folder} has {free} MiB free")


def scratch(largest: int, room: int, able: bool) -> Check:
    """What there is for scratch disks: `largest` is the GiB of the largest that a job can have,
    `room` the MiB that are left beside min_free_disk, `able` whether there is a mkfs.ext4."""
    name = "scratch disks"
    if not able:
        return fault(name, "mkfs.ext4 is not found: none is made", "install e2fsprogs")
    if room < largest << 10:
        return warning(
            name,
            f"there is room for {max(0, room) >> 10} GiB, and a job may have {largest}: such a job"
            " is tried again, maybe elsewhere",
            "make room in state_dir, or see scratch and scratch_most in [[batch]]",
        )
    return ok(name, f"the largest, {largest} GiB, has room")


def cache_space(folder: Path, free: int, used: int, limit: int) -> Check:
    """Room for the image cache to reach its limit; all numbers are MiB."""
    if free + used < limit:
        return warning(
            "cache space",
            f"{folder} has room for {free + used} MiB: the disk is full before cache_limit"
            f" ({limit} MiB) evicts anything",
            f"set cache_limit in [images] below {free + used}, or move cache_dir",
        )
    return ok("cache space", f"{folder} holds {used} of {limit} MiB")


@dataclass(frozen=True)
class Mode:
    """Who may write to a file or folder."""

    path: Path
    uid: int
    gid: int
    mode: int


def open_to_others(lineage: Sequence[Mode], owner: int) -> str | None:
    """What lets anybody but `owner` change a file, given it and all folders above it.

    A folder with the sticky bit lets others add, but not take the place of what is there.
    """
    for at in lineage:
        if at.uid not in (0, owner):
            return f"{at.path} belongs to uid {at.uid}"
        sticky = at is not lineage[-1] and at.mode & stat.S_ISVTX
        if at.mode & stat.S_IWOTH and not sticky:
            return f"{at.path} is writable by everybody"
        if at.mode & stat.S_IWGRP and at.gid != 0 and not sticky:
            return f"{at.path} is writable by group {at.gid}"
    return None


def permissions(troubles: Collection[str]) -> list[Check]:
    """One check where all is well, otherwise one for each trouble."""
    if not troubles:
        return [ok("permissions", "configuration, catalogue and the bait's folders are root's")]
    remedy = "`chown root` it and `chmod go-w` it: its writer could take over the node"
    return [fault("permissions", trouble, remedy) for trouble in troubles]


def control_socket(path: Path, mode: int) -> Check:
    """The socket is for everybody; who may do what is decided by the caller's uid."""
    if mode & 0o666 != 0o666:
        return fault(
            "socket",
            f"{path} has mode {stat.S_IMODE(mode):o}: starters can't reach the bait",
            "`systemctl restart wnodes-bait` makes it anew",
        )
    return ok("socket", f"{path} is open to jobs' starters")


def traversal(uid: int | None, closed: Sequence[Path]) -> Check:
    """Whether libvirt's QEMU comes to the VMs' files; `closed`: folders that stop it."""
    if uid is None:
        return unknown("qemu access", "libvirt does not tell which user its QEMU is")
    if closed:
        return fault(
            "qemu access",
            f"{closed[0]} is closed to QEMU, which libvirt runs as uid {uid}",
            f"`chmod o+x {closed[0]}`, or put state_dir, run_dir and cache_dir elsewhere",
        )
    return ok("qemu access", f"uid {uid} comes through to disks, seeds and images")
