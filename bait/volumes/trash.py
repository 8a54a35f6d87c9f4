"""What was deleted in a pool of Ceph's: its images are in the pool's trash until each is removed,
piece by piece, which may take an hour."""

import logging
import re

from bait.volumes.ceph import Ceph
from wnodes_lrms.errors import AbsentError, WnodesError

_REMOVING = 3600.0  # seconds for an image

log = logging.getLogger(__name__)


def discard(ceph: Ceph, name: str) -> None:
    """Put an image into the trash, with nothing that would keep it there."""
    ceph.rbd("snap", "purge", "--no-progress", name)
    ceph.rbd("trash", "mv", name)


def empty(ceph: Ceph, ours: re.Pattern[str]) -> bool:
    """Remove the images whose names are `ours`; whether some are left. What can't be removed now is
    logged, and stays."""
    try:
        there = ceph.trash()
    except WnodesError as error:
        log.warning("volumes that were deleted keep their room for now: %s", error)
        return True
    stay = [_stays(ceph, name, id_) for id_, name in there.items() if ours.fullmatch(name)]
    return any(stay)


def _stays(ceph: Ceph, name: str, number: str) -> bool:
    try:
        ceph.rbd("trash", "rm", "--no-progress", ceph.path(number), deadline=_REMOVING)
        log.info("volume %s is removed", name)
    except AbsentError:
        pass  # somebody else has
    except WnodesError as error:
        log.warning("volume %s is not removed yet: %s", name, error)
        return True
    return False
