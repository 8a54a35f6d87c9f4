"""Carry out actions of the plan, one at a time for each row.

Before a bait is asked the row says what for; what came of it is written at once. A crash in between
leaves a row for which the same action is due again.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from typing import TypeVar

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.engine import Connection

from occi_bridge.driver import journal, orders
from occi_bridge.driver.actions import Act, Action
from occi_bridge.driver.bait_client import Bait
from occi_bridge.driver.snapshot import Target
from occi_bridge.store import networks, queries, tables
from occi_bridge.store.database import Database
from occi_bridge.store.networks import Net
from occi_bridge.store.rows import Attachment, Compute, Interface, Network, Saved, Storage
from wnodes_lrms.errors import AbsentError, ConflictError, RejectedError, UnknownError
from wnodes_lrms.order import LeaseRequest, Order, sign
from wnodes_lrms.validation import first_fault

Result = TypeVar("Result")
Values = dict[str, object]

_PATIENCE = 30.0  # seconds for what was asked to show, before it is asked again
_LIFE = 300.0  # seconds that a request or an order is good for: longer than a bait may take for it
_CEILING = 60.0  # seconds between two attempts at most

log = logging.getLogger(__name__)


class Actor:
    """Asks the baits, on behalf of the one driver that leads."""

    def __init__(
        self,
        db: Database,
        baits: Mapping[str, Bait],
        site: Mapping[str, Net],
        cluster: str,
        key: str,
    ) -> None:
        """`key` signs orders (PEM); `site` are its networks."""
        self._db = db
        self._baits = baits
        self._site = site
        self._cluster = cluster
        self._key = key

    async def carry_out(self, action: Action, row: Target) -> None:
        """Do it, and write down what came of it. Faults of baits end in the row, not here."""
        if action.act is Act.FORGET:
            assert not isinstance(row, Saved)  # noqa: S101 (for mypy)
            await asyncio.to_thread(journal.forget, self._db, row)
            log.info("%s: %s", name(row), action.why)
            return
        if action.act is Act.TELL:
            await self._note(row, {"reason": action.why}, always=False)
            log.info("%s: %s", name(row), action.why)
            return
        assert not isinstance(row, Network)  # noqa: S101 (for mypy)
        try:
            values = await self._ask(action, row)
        except UnknownError as error:
            await self._failed(action, row, str(error))
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
            return await self._submit(action, row, bait)
        if isinstance(row, Compute) and action.act is Act.ORDER:
            return await self._order(action, row, bait)
        await self._note(row, {"act": action.asked, "again": 0.0})
        if isinstance(row, Compute):
            return await self._ask_for_machine(action, row, bait)
        if isinstance(row, Interface):
            return await self._ask_for_card(action, row, bait)
        if isinstance(row, Attachment):
            return await self._ask_for_volume(action, row, bait)
        if isinstance(row, Saved) and action.act is Act.UNSAVE:
            await bait.delete_saved(row.tag)
            await asyncio.to_thread(journal.forget_image, self._db, row)
            log.info("%s: deleted", name(row))
            return None
        if isinstance(row, Saved):
            await bait.save(row.machine, row.tag)
        elif action.act is Act.MAKE:
            await bait.make_volume(row.uid, row.size)
            return {"made": True, "reason": ""}
        else:
            await bait.delete_volume(row.uid)
            await asyncio.to_thread(journal.forget, self._db, row)
            log.info("%s: deleted", name(row))
            return None
        return {}

    async def _ask_for_machine(self, action: Action, row: Compute, bait: Bait) -> Values:
        match action.act:
            case Act.CANCEL:
                await bait.cancel(row.lease, action.detail)
            case Act.DESTROY:
                await bait.destroy(row.uid)
            case Act.RESTART:
                await bait.do(row.uid, "restart", action.detail)
                return {"restart": "", "act": ""}
            case _:
                await bait.do(row.uid, str(action.act), action.detail)
        return {}

    async def _ask_for_card(self, action: Action, row: Interface, bait: Bait) -> Values | None:
        if action.act is Act.UNPLUG:
            await bait.detach_nic(row.compute, row.uid)
            await asyncio.to_thread(journal.forget, self._db, row)
            return None
        nets = await self._read(self._nets)
        if row.network not in nets:
            raise RejectedError(f"the site has no network {row.network} any more")
        card = await bait.attach_nic(row.compute, nets[row.network].nic(row))
        address = card.address or ""
        return {"attached": True, "address": address, "seen_mac": card.mac, "reason": ""}

    async def _ask_for_volume(self, action: Action, row: Attachment, bait: Bait) -> Values | None:
        if action.act is Act.DETACH:
            await bait.detach_volume(row.compute, row.storage)
            await asyncio.to_thread(journal.forget, self._db, row)
            return None
        device = await bait.attach_volume(row.compute, row.storage)
        return {"attached": True, "device": device, "reason": ""}

    async def _submit(self, action: Action, row: Compute, bait: Bait) -> Values | None:
        # What a bait may have heard already stays the same lease, so that it stays one VM.
        values: Values = {
            "lease": row.lease or str(uuid.uuid4()),
            "via": action.bait,
            "lease_at": time.time(),
            "node": row.node if row.ran else "",
            "fault": False,
        }
        order = await self._prepared(action, row, values)
        if order is None:
            return None
        self._signed(order)  # that it can be ordered at all is seen before it waits in a queue
        job = await bait.submit(self._signed(order.lease_request))
        log.info("%s: lease %s is job %s", name(row), row.lease, job)
        return {"job": job, "lease_state": "pending", "reason": "", "lease_at": time.time()}

    async def _order(self, action: Action, row: Compute, bait: Bait) -> Values | None:
        """Give the order to the node that says that the lease job waits there, if it runs there.

        Raises ConflictError if it does not, by the witness's word.
        """
        if action.witness != action.bait:
            node = await self._baits[action.witness].where(row.job)
            if node != action.detail:
                has = f"has job {row.job} on {node or 'no node'}, not on {action.detail}"
                none = f"has no job {row.job}"
                raise ConflictError(f"the batch system {none if node is None else has}")
        order = await self._prepared(action, row, {"node": action.detail})
        if order is None:
            return None
        await bait.order(row.lease, self._signed(order))
        return {}

    def _signed(self, asked: LeaseRequest) -> str:
        return sign(asked, self._cluster, self._key, time.time(), _LIFE)

    async def _prepared(self, action: Action, row: Compute, values: Values) -> Order | None:
        """The order, with what it says written into the row first; None if its user has changed
        it meanwhile. Raises RejectedError where the row does not make an order."""
        values = values | {"act": action.asked, "again": 0.0}

        def work(link: Connection) -> Order | None:
            if not journal.set_columns(link, row, values):
                return None
            for column, value in values.items():
                setattr(row, column, value)
            return self._made(link, row, action.detail)

        return await asyncio.to_thread(self._db.write, work)

    def _made(self, link: Connection, row: Compute, node: str) -> Order:
        table = tables.compute
        data = link.execute(sa.select(table.c.user_data).where(table.c.uid == row.uid))
        try:
            return orders.order(
                row,
                data.scalar_one(),
                queries.read(link, Interface, tables.interface.c.compute == row.uid),
                self._nets(link),
                queries.read(link, Attachment, tables.attachment.c.compute == row.uid),
                node,
            )
        except ValidationError as error:
            raise RejectedError(f"no order can be made of it: {first_fault(error)}") from error

    def _nets(self, link: Connection) -> dict[str, Net]:
        own = (networks.of_user(row) for row in queries.read(link, Network))
        return {**self._site, **{net.name: net for net in own}}

    async def _failed(self, action: Action, row: Target, said: str) -> None:
        """No answer: the same again, after a growing pause."""
        assert not isinstance(row, Network)  # noqa: S101 (for mypy)
        tries = (row.tries if row.act == action.asked else 0) + 1
        pause = min(2.0**tries, _CEILING)
        log.warning("%s: %s: %s; again in %g s", name(row), action.asked, said, pause)
        values: Values = {"act": action.asked, "tries": tries, "again": time.time() + pause}
        await self._note(row, values)

    async def _refused(self, action: Action, row: Target, error: RejectedError) -> None:
        """The bait has said no: what that means for the state that the user wants."""
        said = str(error)
        values = _consequence(action.act, said) if not _passing(action.act, error) else None
        if values is None:
            await self._failed(action, row, said)
            return
        log.warning("%s: %s: %s", name(row), action.asked, said)
        gives_up = "desired" in values
        await self._note(row, values, always=not gives_up)

    async def _note(self, row: Target, values: Values, *, always: bool = True) -> None:
        assert not isinstance(row, Network)  # noqa: S101 (for mypy)

        def work(link: Connection) -> bool:
            return journal.set_columns(link, row, values, always=always)

        if await asyncio.to_thread(self._db.write, work, seen=journal.visible(values)):
            for column, value in values.items():
                setattr(row, column, value)

    async def _read(self, work: Callable[[Connection], Result]) -> Result:
        def read() -> Result:
            with self._db.reading() as link:
                return work(link)

        return await asyncio.to_thread(read)


def _passing(act: Act, error: RejectedError) -> bool:
    """Whether the refusal is of this moment: the bait's next report will tell what to do."""
    if act in (Act.SUBMIT, Act.SAVE):
        return False
    return isinstance(error, AbsentError | ConflictError)


def _consequence(act: Act, said: str) -> Values | None:
    """What a final refusal changes; None where asking again is all that can be done."""
    over: Values = {"act": "", "tries": 0}
    match act:
        case Act.SUBMIT:
            no_lease: Values = {"lease": "", "job": "", "via": "", "lease_state": ""}
            return over | no_lease | {"desired": "inactive", "fault": True, "reason": said}
        case Act.RESTART:
            return over | {"restart": "", "reason": said}
        case Act.SUSPEND:
            return over | {"desired": "active", "reason": said}
        case Act.SAVE:
            return over | {"state": "failed", "reason": said}
        case Act.PLUG | Act.ATTACH | Act.MAKE:
            pause = time.time() + _CEILING
            return {"reason": said, "again": pause}
    return None


def name(row: Target) -> str:
    """How the log calls a row."""
    if isinstance(row, Saved):
        return f"image {row.tag}"
    return f"{type(row).__name__.lower()} {row.uid}"
