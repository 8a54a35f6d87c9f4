"""What the database has of the baits that are heard.

What is new of one is written at once. That the others still answer is written of all together, now
and then: after each write all that users are shown is rendered anew, and all rows are read again.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, replace

from occi_bridge.driver.reports import Draining, Report
from occi_bridge.store import heard
from occi_bridge.store.database import Database
from occi_bridge.store.heard import Heard
from wnodes_lrms.errors import UnknownError

EVERY = 30.0  # seconds between two records that baits still answer
_AGAIN = 5.0  # seconds, where the database has not answered

log = logging.getLogger(__name__)

_Said = tuple[bool, str, Draining | None]  # whether it is silent, its node, and whether that drains


class Heartbeats:
    """What one driver has heard, as it is written down. For one event loop."""

    def __init__(self, db: Database, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds, and never goes back."""
        self._db = db
        self._clock = clock
        self._said: dict[str, _Said] = {}  # by URL, as it was written
        self._heard: dict[str, Heard] = {}  # by URL, what each that answers said last
        self._due = clock() + EVERY

    def forget(self) -> None:
        """Another driver may have written meanwhile: whatever a bait says is new."""
        self._said.clear()
        self._heard.clear()

    async def record(self, url: str, report: Report | None, *, silent: bool, error: str) -> None:
        """A bait was asked: what it said last, whether that is long ago, and why it does not
        answer. Nothing is written before it has answered once, or is silent."""
        if report is None and not silent:
            return
        before, now = self._said.get(url), _said(report, silent)
        if silent and not (before and before[0]):
            log.warning("bait %s is silent: %s", url, error)
        elif before and before[0] and not silent:
            log.info("bait %s answers again", url)
        by = _as_heard(report) if report else None
        if by and not silent:
            self._heard[url] = by
        else:
            self._heard.pop(url, None)
        try:
            if now != before:
                await asyncio.to_thread(heard.told, self._db, url, by, silent=silent)
                self._said[url] = now
            if self._clock() >= self._due:
                self._due = self._clock() + EVERY
                await asyncio.to_thread(heard.still, self._db, dict(self._heard))
        except UnknownError as fault:
            self._due = self._clock() + _AGAIN
            log.warning("%s", fault)


def _said(report: Report | None, silent: bool) -> _Said:
    return (silent, report.node, report.drain) if report else (silent, "", None)


def _as_heard(report: Report) -> Heard:
    room = asdict(report.room) if report.room else {}
    by = Heard(report.node, report.at, room=room, sources=report.sources)
    if report.drain is None:
        return by
    reason = report.drain.reason or "it does not say why"
    return replace(by, drained=reason, drained_by=report.drain.by or 0.0)
