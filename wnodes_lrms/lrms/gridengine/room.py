"""What of a host is free, from `qstat -f -xml -q *@HOST` of Grid Engine 8.1.9. Pure."""

from wnodes_lrms.errors import UnknownError
from wnodes_lrms.lrms.gridengine.allocation import xml
from wnodes_lrms.model import Room

_COUNTS = ("slots_total", "slots_used", "slots_resv")


def parse_room(said: str) -> Room:
    """The most that one of its queues has: each has slots of its own, and what memory is free no
    queue tells. Raises UnknownError if that is no such listing."""
    queues = xml(said).findall("queue_info/Queue-List")
    if not queues:
        raise UnknownError("qstat lists no queue")
    free = [0]
    for queue in queues:
        if queue.findtext("state", ""):  # disabled, in alarm, unreachable, …
            continue
        counts = [queue.findtext(name, "") for name in _COUNTS]
        if not all(count.isdecimal() for count in counts):
            raise UnknownError("qstat does not tell the slots of a queue")
        total, used, reserved = map(int, counts)
        free.append(total - used - reserved)
    return Room(max(free), None)
