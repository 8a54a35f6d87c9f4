"""Look at one bait again and again; a hung one delays nobody but itself.

Its VMs and the leases that it lists are asked for apart: behind the second is the batch
system, or its library, which may hang while the bait has all to tell of its VMs.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from occi_bridge.driver.bait_client import Bait
from occi_bridge.driver.heartbeats import Heartbeats
from occi_bridge.driver.replies import SavedImages, ToldUsage
from occi_bridge.driver.reports import LeasesSeen, Report, Reports
from occi_bridge.store import usage
from occi_bridge.store.database import Database
from occi_bridge.store.usage import Usage
from wnodes_lrms.errors import UnknownError, WnodesError

OFTEN = 1.0  # seconds between two looks at a bait that what is under way concerns
SELDOM = 5.0  # at any other
SELDOM_LEASES = 10.0  # the same for leases: behind each look is the batch system
PAUSE = 0.1  # seconds between two looks that a bait's news are the reason for
SILENT = 15.0  # seconds without an answer after which what a bait said is no more believed
_METERED = 300.0  # seconds between two readings of what VMs have had of the node

log = logging.getLogger(__name__)


class Watcher:
    """What one bait said last, kept fresh by a task of its own."""

    def __init__(
        self,
        bait: Bait,
        db: Database,
        heartbeats: Heartbeats,
        news: Callable[[], None],
        belongs: Callable[[str, str], str],
    ) -> None:
        """`news` is called after each look that something under way waits for: the driver sees the
        others soon enough by itself. `belongs` tells which URL has the node that the bait of a URL
        says it is: what another one's bait says is not believed."""
        self.bait = bait
        self._belongs = belongs
        self._db = db
        self._heartbeats = heartbeats
        self._news = news
        self._poked = tuple(asyncio.Event() for _ in range(3))  # of the kinds of looks
        self._begun = time.time()
        self.report: Report | None = None
        self.leases: LeasesSeen | None = None
        self.saved: SavedImages | None = None
        self.busy = False  # something is under way: its news are a reason to look
        self.often = False  # and concerns this bait: look often
        self.saving = False  # look at saved images too
        self.lists = False  # ask it for leases, too
        self.mute = False  # it was asked for them, and could not tell
        self.back = 0.0  # when it, or its batch system, was heard again; seconds since the epoch
        self._missed = True  # its last answer is missing
        self._doubted: str | None = None  # a job, or "": what it was asked for that has failed
        self._away = False  # since then the batch system has not answered through it
        self._error = "it has not answered yet"

    def poke(self) -> None:
        """Look again at once."""
        for poked in self._poked:
            poked.set()

    def doubt(self, job: str) -> None:
        """What it was asked for a job ("": for none) has failed. Find out whether the batch system
        is why, and if so, when it answers again."""
        self._doubted = job
        self.poke()

    @property
    def silent(self) -> bool:
        """Whether it has not answered for long."""
        last = self.report.at if self.report else self._begun
        return time.time() - last > SILENT

    async def run(self) -> None:
        """Look until cancelled."""
        self.poke()  # the first looks are waited for
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._periodic(self._poked[0], self._look, SELDOM))
            tasks.create_task(self._periodic(self._poked[1], self._lease_jobs, SELDOM_LEASES))
            tasks.create_task(self._periodic(self._poked[2], self._probe, SELDOM))
            tasks.create_task(self._meter())

    async def _listen(self) -> None:
        """Look at once when the bait has news: users need not wait for the next look."""
        last = ""
        while True:
            try:
                last = await self.bait.news(last)
                if self.busy:
                    self.poke()
                await asyncio.sleep(PAUSE)
            except WnodesError:
                await asyncio.sleep(SELDOM)

    async def _periodic(
        self, poked: asyncio.Event, look: Callable[[], Awaitable[None]], seldom: float
    ) -> None:
        while True:
            awaited = poked.is_set()
            poked.clear()
            try:
                await look()
            except Exception:  # no descriptor or thread is left, or a fault of ours
                log.exception("looking at bait %s", self.bait.url)
            if awaited or self.often:
                self._news()
            try:
                async with asyncio.timeout(OFTEN if self.often else seldom):
                    await poked.wait()
            except TimeoutError:
                continue

    async def _meter(self) -> None:
        """Copy what VMs have had of the node. One whose bait does not tell is asked later."""
        while True:
            if self.report is None:
                await asyncio.sleep(OFTEN)
                continue
            node, since = self.report.node, time.time() - usage.KEPT
            try:
                told = await self.bait.usages(since)
                await asyncio.to_thread(usage.keep, self._db, node, map(_usage, told), since)
            except WnodesError as error:
                log.debug("bait %s: no word of usage: %s", self.bait.url, error)
            except Exception:  # no descriptor or thread is left, or a fault of ours
                log.exception("usage of bait %s", self.bait.url)
            await asyncio.sleep(_METERED)

    async def _look(self) -> None:
        await asyncio.gather(self._machines(), self._images())
        bait, said = self.bait.url, self.report
        await self._heartbeats.record(bait, said, silent=self.silent, error=self._error)

    async def _machines(self) -> None:
        try:
            report = await self.bait.look()
            whose = self._belongs(report.node, self.bait.url)
            if whose != self.bait.url:
                raise UnknownError(f"it says that it is node {report.node}, which is {whose}")
            self.report = report
            self._heard(again=self._missed)
            self._missed = False
        except WnodesError as error:
            self._error = str(error)
            self._missed = True

    async def _images(self) -> None:
        """What it said last stays until it answers: a plan may be made in between."""
        saved = None
        if self.saving:
            with contextlib.suppress(WnodesError):
                saved = await self.bait.saved()
        self.saved = saved

    async def _lease_jobs(self) -> None:
        if not self.lists:
            self.leases = None
            return
        try:
            self.leases = await self.bait.leases()
            self._heard(again=self.mute)
            self.mute = False
        except WnodesError as error:
            self.leases = None
            if not self.mute:
                log.warning("no word of leases: %s", error)
            self.mute = True

    def _heard(self, *, again: bool) -> None:
        if again:
            self.back = time.time()

    async def _probe(self) -> None:
        if self._doubted is None:
            return
        try:
            await (self.bait.where(self._doubted) if self._doubted else self.bait.leases())
        except UnknownError:
            self._away = True
            return
        except WnodesError:
            pass  # it has answered
        self._heard(again=self._away)
        self._doubted, self._away = None, False


def _usage(told: ToldUsage) -> Usage:
    return Usage(told.number, told.dn, told.cores, told.began, told.wall, told.held)


def collected(
    watchers: Sequence[Watcher], now: float, nodes: Mapping[str, str], gone: Mapping[str, float]
) -> Reports:
    """What all say at `now` (seconds since the epoch), without what is too old to be believed."""
    answers = [each.report for each in watchers if each.report and now - each.report.at <= SILENT]
    urls = set(nodes.values())
    return Reports(
        baits={report.url: report for report in answers},
        nodes=nodes,
        leases={
            each.bait.url: each.leases
            for each in watchers
            if each.leases and now - each.leases.at <= SILENT
        },
        mute=frozenset(each.bait.url for each in watchers if each.mute),
        gone=dict(gone),
        all_answer=len(answers) == len(watchers),
        back={each.bait.url: each.back for each in watchers},
        ends={each.report.node: each.report.end for each in watchers if each.report},
        unheard=any(each.bait.url not in urls for each in watchers),
    )
