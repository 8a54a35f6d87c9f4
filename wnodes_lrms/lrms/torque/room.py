"""What of a node is free, from `pbsnodes -x NODE` of Torque 6.1.3. Pure."""

import re

from wnodes_lrms.errors import UnknownError
from wnodes_lrms.lrms.torque.allocation import records
from wnodes_lrms.model import Room

_SLOTS = re.compile(r"(\d+)(?:-(\d+))?(?:/.*)?")


def parse_room(node: str, listing: str) -> Room:
    """Torque counts slots (np), and no memory by node. Raises UnknownError if it does not tell."""
    found = [each for each in records(listing, "Node") if each.get("name") == node]
    if len(found) != 1 or not found[0].get("state"):
        raise UnknownError(f"pbsnodes does not tell the state of node {node}")
    record = found[0]
    if record["state"] != "free":
        return Room(0, None)
    if not record.get("np", "").isdecimal():
        raise UnknownError(f"pbsnodes does not tell the slots of node {node}")
    # 0-1/12.server,3/13[2].server: slots, then the job that holds them.
    taken = sum(_count(part) for part in record.get("jobs", "").split(",") if part.strip())
    return Room(max(0, int(record["np"]) - taken), None)


def _count(part: str) -> int:
    """How many slots there are in 3 or 0-2, with or without a job."""
    found = _SLOTS.fullmatch(part.strip())
    if not found:
        raise UnknownError("pbsnodes does not tell which slots are taken")
    return int(found[2] or found[1]) - int(found[1]) + 1
