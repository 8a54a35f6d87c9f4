"""Ask baits for leases, and give them the orders for their VMs.

What an order says is in the row before a bait hears of it.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.engine import Connection

from occi_bridge.driver import orders, persistence
from occi_bridge.driver.actions import Action
from occi_bridge.driver.bait_client import Bait
from occi_bridge.driver.snapshot import Values, name
from occi_bridge.store import networks, queries, tables
from occi_bridge.store.database import Database
from occi_bridge.store.networks import Net
from occi_bridge.store.rows import Attachment, Compute, Interface, Network
from wnodes_lrms.errors import ConflictError, RejectedError
from wnodes_lrms.order import LeaseRequest, Nic, Order, sign
from wnodes_lrms.validation import first_fault

_LIFE = 300.0  # seconds that a request or an order is good for: longer than a bait may take for it

log = logging.getLogger(__name__)


class Leasing:
    """Asks for leases and gives orders, signed with the bridge's key."""

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

    async def submit(self, action: Action, row: Compute, bait: Bait) -> Values | None:
        """Ask for a lease. The columns that follow; None where the row has changed meanwhile."""
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

    async def order(self, action: Action, row: Compute, bait: Bait) -> Values | None:
        """Give the order to the node that says that the lease job waits there, if it runs there.

        Raises ConflictError if it does not, by the witness's word. Returns as submit().
        """
        order = await self._placed(action, row)
        if order is None:
            return None
        await bait.order(row.lease, self._signed(order))
        return {}

    async def place(self, action: Action, row: Compute) -> Values | None:
        """Write down that the lease job runs on the node that says so; as order(), without one."""
        return None if await self._placed(action, row) is None else {}

    async def _placed(self, action: Action, row: Compute) -> Order | None:
        if action.witness != action.bait:
            node = await self._baits[action.witness].where(row.job)
            if node != action.detail:
                has = f"has job {row.job} on {node or 'no node'}, not on {action.detail}"
                none = f"has no job {row.job}"
                raise ConflictError(f"the batch system {none if node is None else has}")
        return await self._prepared(action, row, {"node": action.detail})

    async def nic(self, card: Interface) -> Nic:
        """A network card, as a bait is to make it. Raises RejectedError if its network is gone."""

        def read() -> dict[str, Net]:
            with self._db.reading() as link:
                return self._nets(link, [card])

        nets = await asyncio.to_thread(read)
        if card.network not in nets:
            raise RejectedError(f"the site has no network {card.network} any more")
        return nets[card.network].nic(card)

    def _signed(self, asked: LeaseRequest) -> str:
        return sign(asked, self._cluster, self._key, time.time(), _LIFE)

    async def _prepared(self, action: Action, row: Compute, values: Values) -> Order | None:
        """The order, with what it says written into the row first; None if its user has changed
        it meanwhile. Raises RejectedError where the row does not make an order."""
        values = values | {"act": action.asked, "again": 0.0}

        def work(link: Connection) -> Order | None:
            if not persistence.set_columns(link, row, values):
                return None
            for column, value in values.items():
                setattr(row, column, value)
            return self._made(link, row, action.detail)

        return await asyncio.to_thread(self._db.write, work)

    def _made(self, link: Connection, row: Compute, node: str) -> Order:
        table = tables.compute
        data = link.execute(sa.select(table.c.user_data).where(table.c.uid == row.uid))
        cards = queries.read(link, Interface, tables.interface.c.compute == row.uid)
        try:
            return orders.order(
                row,
                data.scalar_one(),
                cards,
                self._nets(link, cards),
                queries.read(link, Attachment, tables.attachment.c.compute == row.uid),
                node,
            )
        except ValidationError as error:
            raise RejectedError(f"no order can be made of it: {first_fault(error)}") from error

    def _nets(self, link: Connection, cards: Sequence[Interface]) -> dict[str, Net]:
        """The networks that these cards may be on: the site's, and of users' own those alone."""
        owned = {card.owned for card in cards if card.owned}
        rows = queries.read(link, Network, tables.entity.c.uid.in_(owned)) if owned else ()
        own = (networks.of_user(row) for row in rows)
        return {**self._site, **{net.name: net for net in own}}
