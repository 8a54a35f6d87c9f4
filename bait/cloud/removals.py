"""Removing what was deleted, behind the scenes: of one volume it may take an hour."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Removals:
    """One thread removes, however often that is asked for: it looks once more before it ends."""

    def __init__(self, remove: Callable[[], None]) -> None:
        """`remove` removes what it finds, and leaves to the next time what it can't."""
        self._remove = remove
        self._guard = threading.Lock()
        self._under_way = False
        self._asked = False  # and not looked since

    def begin(self) -> None:
        """The same as run(), in a thread of its own."""
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        """Remove until no more is asked for, or leave it to the thread that does so already."""
        with self._guard:
            self._asked = True
            if self._under_way:
                return
            self._under_way = True
        while self._are_due():
            try:
                self._remove()
            except Exception:
                log.exception("internal fault")

    def _are_due(self) -> bool:
        with self._guard:
            self._under_way, self._asked = self._asked, False
            return self._under_way
