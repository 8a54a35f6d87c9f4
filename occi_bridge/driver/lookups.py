"""Have baits ask the batch system whether it still has certain jobs."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from occi_bridge.driver.bait_client import Bait
from wnodes_lrms.errors import WnodesError

PAUSE = 2.0  # seconds between two questions about a job
_AT_ONCE = 8  # questions of one bridge

log = logging.getLogger(__name__)


class Lookups:
    """Asks about the jobs that are wanted, again and again, each by a task of its own."""

    def __init__(self, baits: Mapping[str, Bait], news: Callable[[], None]) -> None:
        """`baits` by URL; `news` is called after each answer."""
        self._baits = baits
        self._news = news
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._urls: Mapping[str, tuple[str, ...]] = {}  # whom to ask about each job
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._since: dict[str, float] = {}  # job → when that was said first, and nothing else since
        # job → seconds between the first and the last time that the batch system has said that
        # there is none; nothing where it has said otherwise, or has not answered, since then
        self.gone: dict[str, float] = {}

    def want(self, jobs: Mapping[str, tuple[str, ...]]) -> None:
        """Ask about these jobs from now on and no others, each through these baits in turn."""
        self._urls = {job: urls for job, urls in jobs.items() if urls}
        for job in self._tasks.keys() - self._urls.keys():
            self._tasks.pop(job).cancel()
            self._note(job, None)
        for job in self._urls.keys() - self._tasks.keys():
            self._tasks[job] = asyncio.create_task(self._ask(job))

    async def _ask(self, job: str) -> None:
        turn = 0
        while True:
            at, urls = time.monotonic(), self._urls[job]
            try:
                async with self._places:
                    node = await self._baits[urls[turn % len(urls)]].where(job)
                self._note(job, at if node is None else None)
            except WnodesError:
                turn += 1
                self._note(job, None)
            except Exception:  # a fault of ours
                self._note(job, None)
                log.exception("job %s can't be looked up", job)
            self._news()
            await asyncio.sleep(PAUSE)

    def _note(self, job: str, gone_at: float | None) -> None:
        if gone_at is None:
            self._since.pop(job, None)
            self.gone.pop(job, None)
        else:
            self.gone[job] = gone_at - self._since.setdefault(job, gone_at)
