"""The room that VMs' disks have on a node, and what of it is promised to scratch disks."""

from pathlib import Path

from bait.machine.files import SCRATCH_FILE
from bait.machine.images import free_mib
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import WnodesError

_MIB = 1 << 20
_BLOCK = 512  # bytes: what st_blocks counts, see stat(2)


def promised(state_dir: Path) -> int:
    """MiB that scratch disks may still come to take: they are files with holes."""
    holes = 0
    for file in (state_dir / "machines").glob(f"*/{SCRATCH_FILE}"):
        try:
            seen = file.lstat()
        except FileNotFoundError:  # its VM has just ended
            continue
        holes += max(0, seen.st_size - seen.st_blocks * _BLOCK)
    return holes // _MIB


def need_room(config: Config, node: str, more: int = 0) -> None:
    """Raises WnodesError if the disk is too full for another VM, with a scratch disk of `more`
    GiB."""
    folder = Path(config.bait.state_dir)
    free, taken = free_mib(folder), promised(folder)
    needed = config.machine.min_free_disk + (more << 10)
    if free - taken < needed:
        others = f", {taken} of them promised to scratch disks" if taken else ""
        wanted = f"a scratch disk of {more} GiB and min_free_disk need" if more else ""
        raise WnodesError(
            f"disk full on node {node}: {folder} has {free} MiB free{others}, "
            f"{wanted or 'min_free_disk asks for'} {needed}"
        )
