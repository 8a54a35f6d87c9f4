"""Asks a source that may be away: never for long, less and less often; the log says it once."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from bait import metrics
from wnodes_lrms.errors import WnodesError

T = TypeVar("T")

_FIRST = 5.0  # seconds until a source that is away is asked again
_CEILING = 60.0  # seconds that this grows to

log = logging.getLogger(__name__)


class Source(Generic[T]):
    """One question to one source. Not safe to use from many threads."""

    def __init__(self, name: str, question: Callable[[], T]) -> None:
        self.name = name
        self.heard = 0.0  # when it answered last, seconds since the epoch; 0: never
        self._question = question
        self._since: float | None = None  # when it was last well, if it is away
        self._pause = _FIRST
        self._again = 0.0
        self._probe: _Probe[T] | None = None

    def look(self) -> T | None:
        """What it says now; None if it does not answer.

        A source that is away is asked in another thread, so that it keeps nobody waiting.
        """
        if self._since is not None and not self._is_back():
            return None
        try:
            answer = self._question()
        except WnodesError as error:
            self._is_away(error)
            return None
        metrics.answered(self.name)
        self.heard = time.time()
        return answer

    def _is_back(self) -> bool:
        if self._probe and self._probe.is_alive():
            return False
        if self._probe and self._probe.answered:
            log.info("%s answers again, after %.0f s", self.name, time.monotonic() - self._well())
            self._since, self._pause, self._probe = None, _FIRST, None
            return True
        if self._probe or time.monotonic() < self._again:
            self._probe = None
            return False
        self._pause = min(self._pause * 2, _CEILING)
        self._again = time.monotonic() + self._pause
        self._probe = _Probe(self._question)
        self._probe.start()
        return False

    def _is_away(self, error: WnodesError) -> None:
        log.warning("%s does not answer, so nothing follows: %s", self.name, error)
        self._since = time.monotonic()
        self._again = self._since + self._pause

    def _well(self) -> float:
        return self._since or 0.0


class _Probe(threading.Thread, Generic[T]):
    """Asks once whether the source is back."""

    def __init__(self, question: Callable[[], T]) -> None:
        super().__init__(name="probe", daemon=True)
        self._question = question
        self.answered = False

    def run(self) -> None:
        try:
            self._question()
            self.answered = True
        except WnodesError:
            pass  # said once already
