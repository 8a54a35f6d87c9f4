"""Scratch disks of batch VMs: files with a file system that is the job owner's, gone with the VM.

The file system is made here, so that an image needs no program for it, but ext4 in its kernel.
"""

import os
import threading
from pathlib import Path

from bait.machine.room import need_room
from bait.privileges.sandbox import Limits, lent, onlooker, run_confined
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.model import Owner

MKFS = "mkfs.ext4"
# What ext4 has had for so long that old kernels of images know it. Without a journal: the file
# system does not outlive the kernel that has it mounted.
_FEATURES = "none,dir_index,dir_nlink,extent,extra_isize,filetype,flex_bg,huge_file,large_file"
_FEATURES += ",sparse_super,uninit_bg"
_one_at_a_time = threading.Lock()  # two disks must not be promised the same room


def make_scratch(config: Config, node: str, file: Path, size: int, owner: Owner) -> None:
    """Make a disk of `size` GiB, whose top folder is the owner's. Raises WnodesError, also where
    there is no room for all of it."""
    with _one_at_a_time:
        need_room(config, node, size)
        try:
            file.touch(mode=0o600, exist_ok=False)
            os.truncate(file, size << 30)
        except OSError as error:
            raise WnodesError(f"{file}: {error.strerror}") from error
    uid = onlooker()
    who = f"root_owner={owner.uid}:{owner.gid}"
    argv = (MKFS, "-q", "-F", "-m", "0", "-O", _FEATURES, "-E", who, str(file))
    with lent(uid, file):
        run_confined(argv, uid, Limits(seconds=120.0, memory=2048, file=size << 10))
