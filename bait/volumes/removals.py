"""Removing what was deleted, behind the scenes: of one volume it may take an hour."""

import logging
import threading
from collections.abc import Callable

_AGAIN = 600.0  # seconds until what could not be removed is tried again

log = logging.getLogger(__name__)


class Removals:
    """One thread removes, however often that is asked for: it looks once more before it ends. What
    it can't remove it comes back to."""

    def __init__(self, remove: Callable[[], bool]) -> None:
        """`remove` removes what it finds, and says whether it has left something that it could
        not."""
        self._remove = remove
        self._guard = threading.Lock()
        self._under_way = False
        self._asked = False  # and not looked since
        self._comes_back = False

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
        left = False
        while self._are_due():
            try:
                left = self._remove()
            except Exception:
                log.exception("internal fault")
                left = True
        if left:
            self._come_back()

    def _are_due(self) -> bool:
        with self._guard:
            self._under_way, self._asked = self._asked, False
            return self._under_way

    def _come_back(self) -> None:
        with self._guard:
            if self._comes_back:
                return
            self._comes_back = True
        timer = threading.Timer(_AGAIN, self._once_more)
        timer.daemon = True
        timer.start()

    def _once_more(self) -> None:
        self._comes_back = False
        self.run()
