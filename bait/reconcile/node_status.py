"""What this node tells bridges for the eyes of people alone: what of it is free, and how old the
answers are that it rests on.

Nothing is decided by it, here or there: placing is the batch system's.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from wnodes_lrms.errors import WnodesError
from wnodes_lrms.lrms.interface import Lrms
from wnodes_lrms.model import Room

# Seconds between two questions. For one node a batch system may send all, and each node asks.
_EVERY = 120.0
_OLD = 400.0  # seconds after which an answer is told no more


class NodeStatus:
    """The node as people want to see it. Its methods are called from many threads."""

    def __init__(self, lrms: Lrms, overhead: int, heard: Callable[[], Mapping[str, float]]) -> None:
        """`overhead`: MiB that a lease has beside its guest's; `heard`: when each source answered
        last (seconds since the epoch)."""
        self._lrms = lrms
        self._overhead = overhead
        self._heard = heard
        self._asking = threading.Lock()  # one at a time asks the batch system
        self._asked = float("-inf")  # monotonic
        self._room: tuple[Room, float] | None = None  # and when it was so

    def keep(self) -> None:
        """Ask again, if that was long ago: in a thread of its own, so that a batch system that
        hangs keeps nobody waiting."""
        if time.monotonic() - self._asked >= _EVERY and not self._asking.locked():
            self._asked = time.monotonic()
            threading.Thread(target=self._ask, name="room", daemon=True).start()

    def room(self) -> dict[str, Any] | None:
        """What a VM could have of the node now: cores, MiB (None: not counted), and when that was
        so. None: not known."""
        found = self._room
        if not found or time.time() - found[1] > _OLD:
            return None
        room, at = found
        memory = None if room.memory is None else max(0, room.memory - self._overhead)
        return {"cores": room.cores, "memory": memory, "at": at}

    def sources(self) -> Mapping[str, float]:
        """When the batch system and libvirt answered last, seconds since the epoch."""
        return self._heard()

    def _ask(self) -> None:
        if not self._asking.acquire(blocking=False):
            return
        try:
            self._room = self._lrms.room(), time.time()
        except WnodesError:
            self._room = None  # that it is away is logged by who needs it
        finally:
            self._asking.release()
