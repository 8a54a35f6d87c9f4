"""Carry out actions of the plan, one at a time for each row.

Before a bait is asked the row says what for; what came of it is written at once. A crash in between
leaves a row for which the same action is due again.
"""

import asyncio
import logging
import time
from collections.abc import Mapping

from sqlalchemy.engine import Connection

from occi_bridge.driver import persistence, refusals, retry
from occi_bridge.driver.actions import Act, Action
from occi_bridge.driver.bait_client import Bait
from occi_bridge.driver.bait_connection import FailedError
from occi_bridge.driver.leasing import Leasing
from occi_bridge.driver.replies import Copy
from occi_bridge.driver.snapshot import Target, Values, name
from occi_bridge.store.database import Database
from occi_bridge.store.rows import Attachment, Compute, Interface, Network, Saved, Storage
from wnodes_lrms.errors import ConflictError, RejectedError, UnknownError
from wnodes_lrms.volumes import Consistency

_PATIENCE = 30.0  # seconds for what was asked to show, before it is asked again
_COPYING = 2.0  # seconds between two looks at a copy that is being made

log = logging.getLogger(__name__)


class Actor:
    """Asks the baits, on behalf of the one driver that leads."""

    def __init__(self, db: Database, baits: Mapping[str, Bait], leasing: Leasing) -> None:
        self._db = db
        self._baits = baits
        self._leasing = leasing

    async def carry_out(self, action: Action, row: Target) -> None:
        """Do it, and write down what came of it. Faults of baits end in the row, not here."""
        if action.act is Act.FORGET:
            assert not isinstance(row, Saved)  # noqa: S101 (for mypy)
            await asyncio.to_thread(persistence.forget, self._db, row)
            log.info("%s: %s", name(row), action.why)
            return
        if action.act in (Act.AWAIT, Act.TELL, Act.FAIL):
            await self._note(row, _told(action), always=False)
            log.info("%s: %s", name(row), action.why)
            return
        assert not isinstance(row, Network)  # noqa: S101 (for mypy)
        try:
            values = await self._ask(action, row)
        except UnknownError as error:
            # Of volumes nobody sees more than what is said here.
            failed = isinstance(row, Storage) and isinstance(error, FailedError)
            await self._failed(action, row, str(error), error.told if failed else None)
        except RejectedError as error:
            await self._refused(action, row, error)
        else:
            if values is not None:
                log.info("%s: %s (%s)", name(row), action.asked, action.why)
                now = time.time()
                done = {"tries": 0, "again": now + _PATIENCE, "acted": now}
                await self._note(row, done | values)

    async def _ask(
        self, action: Action, row: Compute | Interface | Attachment | Storage | Saved
    ) -> Values | None:
        """Ask the bait; the columns that follow. None where the row is no more to be written."""
        bait = self._baits[action.bait]
        if isinstance(row, Compute) and action.act is Act.SUBMIT:
            return await self._leasing.submit(action, row, bait)
        if isinstance(row, Compute) and action.act is Act.ORDER:
            return await self._leasing.order(action, row, bait)
        if isinstance(row, Compute) and action.act is Act.PLACE:
            return await self._leasing.place(action, row)
        await self._note(row, {"act": action.asked, "again": 0.0, **_placed(action)})
        if isinstance(row, Compute):
            return await self._ask_for_machine(action, row, bait)
        if isinstance(row, Interface):
            return await self._ask_for_card(action, row, bait)
        if isinstance(row, Attachment):
            return await self._ask_for_volume(action, row, bait)
        if isinstance(row, Saved) and action.act is Act.UNSAVE:
            await bait.delete_saved(row.tag)
            await asyncio.to_thread(persistence.forget_image, self._db, row)
            log.info("%s: deleted", name(row))
            return None
        if isinstance(row, Saved):
            await bait.save(row.machine, row.tag)
        elif isinstance(row, Storage) and action.act is Act.MAKE:
            return await self._made(action, row, bait)
        elif isinstance(row, Storage) and action.act is Act.GROW:
            return await _grown(row, int(action.detail), bait)
        elif isinstance(row, Storage) and action.act is Act.COPY:
            return _copied(row, await bait.copy_volume(row.uid, row.source), time.time())
        else:
            await bait.delete_volume(row.uid)
            await asyncio.to_thread(persistence.forget, self._db, row)
            log.info("%s: deleted", name(row))
            return None
        return {}

    async def _made(self, action: Action, row: Storage, bait: Bait) -> Values:
        size = int(action.detail.partition(" ")[0])
        try:
            await bait.make_volume(row.uid, size, local=bool(row.node))
        except ConflictError:
            raise
        except RejectedError:
            if action.node:  # with nothing left of it there, it may be made elsewhere
                await bait.delete_volume(row.uid)
                await self._note(row, {"node": ""})
            raise
        return {"made": True, "has": size, "reason": ""}

    async def _ask_for_machine(self, action: Action, row: Compute, bait: Bait) -> Values:
        match action.act:
            case Act.CANCEL:
                await bait.cancel(row.lease, action.detail)
            case Act.DESTROY:
                await bait.destroy(row.uid)
            case Act.RESTART:
                await bait.do(row.uid, "restart", action.detail)
                # Its user may have asked for another meanwhile.
                await self._note(row, {"restart": "", "reason": ""}, always=False)
                return {"act": ""}
            case _:
                await bait.do(row.uid, str(action.act), action.detail)
        return {}

    async def _ask_for_card(self, action: Action, row: Interface, bait: Bait) -> Values | None:
        if action.act is Act.UNPLUG:
            await bait.detach_nic(row.compute, row.uid)
            await asyncio.to_thread(persistence.forget, self._db, row)
            return None
        card = await bait.attach_nic(row.compute, await self._leasing.nic(row))
        address = card.address or ""
        return {"attached": True, "address": address, "seen_mac": card.mac, "reason": ""}

    async def _ask_for_volume(self, action: Action, row: Attachment, bait: Bait) -> Values | None:
        if action.act is Act.DETACH:
            await bait.detach_volume(row.compute, row.storage)
            await asyncio.to_thread(persistence.forget, self._db, row)
            return None
        device = await bait.attach_volume(row.compute, row.storage, readonly=row.readonly)
        return {"attached": True, "device": device, "reason": ""}

    async def _failed(
        self, action: Action, row: Target, said: str, told: str | None = None
    ) -> None:
        """No answer: the same again, after a growing pause. `told` is for the user."""
        assert not isinstance(row, Network)  # noqa: S101 (for mypy)
        tries = (row.tries if row.act == action.asked else 0) + 1
        pause = retry.pause(tries)
        log.warning("%s: %s: %s; again in %g s", name(row), action.asked, said, pause)
        values: Values = {"act": action.asked, "tries": tries, "again": time.time() + pause}
        if told is not None:
            values["reason"] = told
        await self._note(row, values)

    async def _refused(self, action: Action, row: Target, error: RejectedError) -> None:
        """The bait has said no: what that means for the state that the user wants."""
        values = refusals.consequence(action.act, error, time.time() + retry.CEILING)
        if values is None:
            # A guest that has not let go yet: its user sees that, and it is asked again.
            told = str(error) if action.act is Act.DETACH else None
            await self._failed(action, row, str(error), told)
            return
        log.warning("%s: %s: %s", name(row), action.asked, error)
        if isinstance(row, Storage) and action.act is Act.GROW:
            values["size"] = row.has  # it is as it was
        gives_up = not values.keys().isdisjoint({"desired", "restart"})
        await self._note(row, values, always=not gives_up)

    async def _note(self, row: Target, values: Values, *, always: bool = True) -> None:
        assert not isinstance(row, Network)  # noqa: S101 (for mypy)

        def work(link: Connection) -> bool:
            return persistence.set_columns(link, row, values, always=always)

        if await asyncio.to_thread(self._db.write, work, seen=persistence.visible(values)):
            for column, value in values.items():
                setattr(row, column, value)


async def _grown(row: Storage, size: int, bait: Bait) -> Values:
    """Have a volume grow to `size` GiB. If that fails it is shown as large as it is, and why; where
    only its guest has not seen that it has grown, FailedError is raised, and it is told again."""
    try:
        await bait.make_volume(row.uid, size, local=bool(row.node))
    except FailedError as error:
        has = max(row.has, await bait.size_of_volume(row.uid))  # it never shrinks
        if has >= size:
            raise
        log.warning("%s: it has %d GiB, not %d: %s", name(row), has, size, error)
        return {"size": has, "has": has, "reason": error.told}
    return {"has": size, "reason": ""}


def _told(action: Action) -> Values:
    """What the row says, where no bait is asked for anything."""
    if action.act is Act.AWAIT:
        return {"act": action.asked, "reason": ""}
    fails: Values = {"desired": "inactive", "fault": True} if action.act is Act.FAIL else {}
    return fails | {"reason": action.why}


def _placed(action: Action) -> Values:
    """Where a volume will be, if on one node alone: written down before that is asked for it. Why
    it was refused before counts no more: a VM that waits for it gives its lease back for that."""
    values: Values = {"node": action.node} if action.node else {}
    if values and action.act is Act.MAKE:
        values["reason"] = ""
    return values


def _copied(row: Storage, told: Copy, now: float) -> Values:
    """What is known of a copy, while it is made and after. A bait that was killed in between no
    longer knows what it is like: nothing better is said of it than is certain."""
    values: Values = {"reason": "", "again": now + _COPYING}
    if told.consistency:
        values |= {"consistency": str(told.consistency), "taken": min(told.at, now)}
    elif not row.consistency:
        values |= {"consistency": str(Consistency.CRASH), "taken": now}
    if told.done:
        values |= {"made": True, "has": told.size}
    return values
