"""The driver: of all bridges of a database, one process makes the baits do what users want.

It watches the baits, writes down what it observes, plans, and carries out. Others stand by and take
over when the leader's row in the database expires.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from occi_bridge.driver import lease_end, persistence
from occi_bridge.driver.actions import Action
from occi_bridge.driver.actor import Actor
from occi_bridge.driver.bait_client import Bait
from occi_bridge.driver.heartbeats import Heartbeats
from occi_bridge.driver.lookups import Lookups
from occi_bridge.driver.mismatches import Mismatches
from occi_bridge.driver.observe import observe
from occi_bridge.driver.persistence import Rows
from occi_bridge.driver.plan import concerned, plan, unsettled
from occi_bridge.driver.snapshot import Snapshot, Target, name
from occi_bridge.driver.spanning import Spanning
from occi_bridge.driver.watcher import Watcher, collected
from occi_bridge.store import heard, leader
from occi_bridge.store.database import Database
from occi_bridge.store.rows import Compute, Network
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.tunnel import Tunnel

_TERM = 15.0  # seconds that a leader leads without asking again
_RENEW = 4.0  # seconds between two askings
_TICK = 1.0  # seconds between two looks for requests from bridges on other hosts
_PAUSE = 0.05  # seconds between two rounds, so that many news make few of them
_AT_ONCE = 8  # requests to one bait at a time
_PARTING = 10.0  # seconds for what is being asked when the driver is told to stop
_AFTER_FAULT = 10.0  # seconds before something is tried again that failed for a fault of ours

log = logging.getLogger(__name__)


@dataclass
class _Running:
    """What is being carried out."""

    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)  # by uid or tag
    places: dict[str, asyncio.Semaphore] = field(default_factory=dict)  # by bait


class Driver:
    """Leads if it can, and drives while it leads."""

    def __init__(
        self,
        holder: str,
        db: Database,
        baits: Mapping[str, Bait],
        actor: Actor,
        spanning: Spanning,
    ) -> None:
        """`holder` names the bridge, of which there is one driver at a time: the next one goes on
        leading at once. `baits` by URL, the same as the actor's."""
        self._holder = holder
        self._db = db
        self._actor = actor
        self._spanning = spanning
        self._news = asyncio.Event()
        self._heartbeats = Heartbeats(db)
        self._mismatches = Mismatches()
        self._watchers = [
            Watcher(bait, db, self._heartbeats, self._news.set, self._belongs)
            for bait in baits.values()
        ]
        self._lookups = Lookups(baits, self._news.set)
        self._running = _Running(places={url: asyncio.Semaphore(_AT_ONCE) for url in baits})
        self._nodes: dict[str, str] = {}
        self._rows: Rows = {}
        self._revision = 0  # of the rows
        self._stale = True  # the rows have to be read, whatever the revision says
        self._until = 0.0  # leading until then, on the monotonic clock
        self._asking: asyncio.Task[bool] | None = None  # who leads

    @property
    def leading(self) -> bool:
        """Whether this driver may act."""
        return time.monotonic() < self._until

    def wake(self) -> None:
        """A request has been written: look now."""
        self._news.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Drive until told to stop; then complete what is being asked, and let another lead."""
        tasks = {asyncio.create_task(work()) for work in (self._lead, self._drive, self._tick)}
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stopped, *tasks):
                task.cancel()
        left = [*self._running.tasks.values(), *([self._asking] if self._asking else [])]
        if left:  # also so that this one can't come to lead again after stepping down
            await asyncio.wait(left, timeout=_PARTING)
        with contextlib.suppress(WnodesError):
            await asyncio.to_thread(leader.step_down, self._db, self._holder)
        for task in tasks & done:
            task.result()  # a fault of ours: let it be seen

    async def _lead(self) -> None:
        watching: list[asyncio.Task[None]] = []
        try:
            while True:
                before = time.monotonic()
                self._asking = asyncio.create_task(self._ask())
                if await asyncio.shield(self._asking):
                    self._until = before + _TERM - _RENEW
                if self.leading and not watching:
                    self._stale = True
                    self._heartbeats.forget()
                    log.info("this driver leads")
                    watching = [asyncio.create_task(each.run()) for each in self._watchers]
                elif watching and not self.leading:
                    log.warning("this driver does not lead any more")
                    self._lookups.want({})
                    _cancel(watching)
                await asyncio.sleep(_RENEW)
        finally:
            self._lookups.want({})
            _cancel(watching)

    async def _ask(self) -> bool:
        try:
            leads = await asyncio.to_thread(leader.lead, self._db, self._holder, _TERM)
            if leads and not self.leading:
                urls = list(self._running.places)
                self._nodes = await asyncio.to_thread(heard.nodes, self._db, urls)
            return leads
        except (WnodesError, OSError) as error:
            log.warning("can't ask who leads: %s", error)
            return False

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            self._news.set()

    async def _drive(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if not self.leading:
                continue
            try:
                await self._round()
            except (WnodesError, OSError) as error:
                log.warning("%s", error)
                await asyncio.sleep(_TICK)
            await asyncio.sleep(_PAUSE)

    async def _round(self) -> None:
        snapshot = await self._snapshot()
        if not snapshot.reports.baits and not all(each.silent for each in self._watchers):
            return  # they have only just been asked
        changes = observe(snapshot)
        if changes:
            for change in await asyncio.to_thread(persistence.apply, self._db, changes):
                if change.why:
                    log.info("%s: %s", name(change.row), change.why)
            self._stale = True
            # Not what has been said meanwhile: the rows do not have that yet.
            snapshot = replace(
                await self._snapshot(), reports=snapshot.reports, saved_seen=snapshot.saved_seen
            )
        self._choose_sources(snapshot)
        self._mismatches.compare(snapshot.reports)
        actions = plan(snapshot)
        for action in actions:
            self._begin(action, snapshot.by_uid[action.uid])
        for url, wanted in self._spanning.due(snapshot).items():
            self._tell(url, wanted)
        busy = bool(actions) or bool(self._running.tasks) or unsettled(snapshot)
        places, often = {image.node for image in snapshot.saved}, concerned(snapshot)
        for each in self._watchers:
            node = each.report.node if each.report else ""
            each.busy, each.saving = busy, node in places
            each.often = node in places or not often.isdisjoint((each.bait.url, node))

    async def _snapshot(self) -> Snapshot:
        # Whatever is done while the rows are being read still counts as under way: the rows may
        # not have it yet.
        under_way = frozenset(self._running.tasks)
        revision = await asyncio.to_thread(self._db.revision)
        if self._stale or revision != self._revision:
            self._stale = False
            try:
                self._rows = await asyncio.to_thread(persistence.read_all, self._db)
            except WnodesError:
                self._stale = True
                raise
            self._revision = revision
        now = time.time()
        return Snapshot(
            now=now,
            **self._rows,
            reports=collected(self._watchers, now, self._nodes, self._lookups.gone),
            saved_seen={
                each.report.node: each.saved
                for each in self._watchers
                if each.report and each.saved
            },
            under_way=under_way,
            spans=self._spanning.site.ends is not None,
        )

    def _belongs(self, node: str, url: str) -> str:
        """The URL of a node's bait: the one that has first said so, as long as that is known."""
        return self._nodes.setdefault(node, url)

    def _choose_sources(self, snapshot: Snapshot) -> None:
        """Ask those for leases that have submitted some, and the batch system for lost jobs."""
        via = {row.via for row in snapshot.computes if row.lease}
        for each in self._watchers:
            before, each.lists = each.lists, each.mute or each.bait.url in via
            if each.lists and not before:
                each.poke()
        self._lookups.want(lease_end.doubtful(snapshot))

    def _begin(self, action: Action, row: Target) -> None:
        if action.uid not in self._running.tasks:
            task = asyncio.create_task(self._carry_out(action, row))
            self._running.tasks[action.uid] = task

    def _tell(self, url: str, tunnels: Mapping[str, Tunnel]) -> None:
        key = f"tunnels of {url}"

        async def tell() -> None:
            try:
                await self._spanning.tell(url, tunnels)
            finally:
                del self._running.tasks[key]
                self._poke(url)

        if key not in self._running.tasks:
            self._running.tasks[key] = asyncio.create_task(tell())

    def _poke(self, url: str) -> None:
        for each in self._watchers:
            if each.bait.url == url:
                each.poke()
        self._news.set()

    async def _carry_out(self, action: Action, row: Target) -> None:
        try:
            async with self._running.places.get(action.bait, contextlib.nullcontext()):
                if self.leading:
                    await self._actor.carry_out(action, row)
        except WnodesError as error:
            log.warning("%s: %s: %s", name(row), action.asked, error)
            await asyncio.sleep(_TICK)
        except Exception:
            log.exception("%s: %s: internal fault", name(row), action.asked)
            await asyncio.sleep(_AFTER_FAULT)
        finally:
            del self._running.tasks[action.uid]
            self._stale = True
            failed = not isinstance(row, Network) and row.tries > 0
            job = row.job if isinstance(row, Compute) else ""
            for each in self._watchers:
                if failed and each.bait.url in (action.bait, action.witness):
                    each.doubt(job)
                elif each.bait.url == action.bait:
                    each.poke()
            self._news.set()


def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    tasks.clear()
