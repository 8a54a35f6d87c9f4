"""Keeps the files of VMs root's alone; QEMU's user is let into an image by name.

Disks, seeds, volumes and kernels libvirt itself gives to that user when it opens them, and takes
back. An image is shared by many VMs: it stays root's, so that no QEMU can change what others
stand on. Its disk has an access list (acl(5)) with QEMU's user in it, and of its kernel each
VM has a copy.
"""

import logging
import os
import stat
import struct
from collections.abc import Collection, Iterable
from pathlib import Path

from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import WnodesError

_ACCESS_LIST = "system.posix_acl_access"
# Tag, rights, number: as linux/posix_acl_xattr.h has them, version 2.
_OWNER, _USER, _GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x10, 0x20
_NOBODY = 0xFFFFFFFF  # where a tag takes no number

log = logging.getLogger(__name__)


def let_read(file: Path, uids: Collection[int]) -> None:
    """Let these users read a file, beside its owner, and nobody else. Raises WnodesError."""
    entries = (
        (_OWNER, 6, _NOBODY),
        *((_USER, 4, uid) for uid in sorted(uids)),
        (_GROUP, 0, _NOBODY),
        (_MASK, 4, _NOBODY),
        (_OTHERS, 0, _NOBODY),
    )
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(file, _ACCESS_LIST, packed, follow_symlinks=False)
    except OSError as error:
        raise WnodesError(
            f"{file}: nobody but root can be let in: {error.strerror}; it must be on a file system"
            " with access lists (POSIX ACL), such as ext4 or XFS"
        ) from error


def close(config: Config) -> None:
    """Take others' rights off the files and folders that an earlier version left open.

    Not off the control socket, nor off what is a job owner's. A file that can't be changed, as on
    a file system that is another host's, is told of in the log.
    """
    state, run = Path(config.bait.state_dir).resolve(), Path(config.bait.run_dir).resolve()
    machines = [folder for top in (state, run) for folder in _inside(top / "machines")]
    named = (config.images.cache_dir, config.cloud.volumes, config.cloud.saved)
    shared = [Path(name).resolve() for name in named]
    for folder in (state, run, state / "machines", run / "machines", *machines, *shared):
        for path in (folder, *_inside(folder)):
            try:
                _close(path)
            except FileNotFoundError:
                pass  # not made yet, or gone since
            except OSError as error:
                log.warning("%s stays as open as it is: %s", path, error.strerror)


def _inside(folder: Path) -> Iterable[Path]:
    """What is in a folder; nothing if there is none, or only a link to one."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return ()
    try:
        return [folder / name for name in os.listdir(handle)]  # noqa: PTH208 (by its handle)
    finally:
        os.close(handle)


def _close(path: Path) -> None:
    kind = path.lstat().st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        return  # a link has no mode of its own, and a socket the one that it needs
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(handle)
        kept = 0o7711 if stat.S_ISDIR(status.st_mode) else 0o7700
        if _ACCESS_LIST in os.listxattr(handle):
            kept |= 0o070  # what its list lets in at most: the group has none there
        if status.st_mode & 0o7777 & ~kept:
            os.fchmod(handle, status.st_mode & kept)
    finally:
        os.close(handle)
