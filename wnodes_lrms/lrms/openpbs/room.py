"""What of a node is free, from `pbsnodes -H NODE` of OpenPBS 23.06. Pure."""

from collections.abc import Mapping

from wnodes_lrms.errors import UnknownError
from wnodes_lrms.lrms.openpbs.allocation import parse_node
from wnodes_lrms.lrms.pbs import parse_size
from wnodes_lrms.model import Room

_MIB = 1 << 20


def parse_room(node: str, listing: str) -> Room:
    """The most that one of the host's vnodes has: a chunk is on one. Raises UnknownError."""
    parse_node(node, listing)  # whether it is one
    vnodes: list[dict[str, str]] = []
    for line in listing.split("\n"):
        key, equals, value = line.strip().partition(" = ")
        if line.startswith(" ") and equals:
            vnodes[-1][key] = value
        elif line.strip():
            vnodes.append({})
    return max((_room(each) for each in vnodes), key=lambda room: room.cores)


def _room(vnode: Mapping[str, str]) -> Room:
    if vnode.get("state") != "free":
        return Room(0, 0)
    try:
        cores = int(vnode["resources_available.ncpus"])
        cores -= int(vnode.get("resources_assigned.ncpus", "0"))
    except (KeyError, ValueError) as error:
        raise UnknownError("pbsnodes does not tell the node's ncpus") from error
    memory = None
    if total := vnode.get("resources_available.mem"):
        free = parse_size(total) - parse_size(vnode.get("resources_assigned.mem", "0"))
        memory = max(0, free // _MIB)
    return Room(max(0, cores), memory)
