"""Calls in threads of their own, of which one about the same thing is under way at a time.

So however often something is told, it takes one thread; and one that hangs keeps no other waiting.
"""

import logging
import threading
import time
from collections.abc import Callable, Hashable

_PAUSE = 1.0  # seconds between two calls about the same

log = logging.getLogger(__name__)


class Coalescer:
    """Makes calls. Those that come while one about the same is under way become one, the last."""

    def __init__(self, name: str) -> None:
        """`name` is that of the threads."""
        self._name = name
        self._due: dict[Hashable, Callable[[], None] | None] = {}  # by what a thread is at
        self._guard = threading.Lock()

    def call(self, about: Hashable, what: Callable[[], None]) -> None:
        """Begin the call, or have it made when the one that is under way has ended."""
        with self._guard:
            if about not in self._due:  # the thread waits for the guard
                work = threading.Thread(
                    target=self._work, args=(about,), name=self._name, daemon=True
                )
                work.start()
            self._due[about] = what

    def _work(self, about: Hashable) -> None:
        while what := self._next(about):
            try:
                what()
            except Exception:
                log.exception("internal fault")
            if self._due[about]:
                time.sleep(_PAUSE)

    def _next(self, about: Hashable) -> Callable[[], None] | None:
        with self._guard:
            what = self._due[about]
            if what is None:
                del self._due[about]
            else:
                self._due[about] = None
            return what
