"""Network cards of cloud VMs: what a node lets a VM have, and those that come and go while it
runs."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bait.cloud.build import CloudBuilder
from bait.cloud.devices import Orders, check_detachable, has_begun_anew, without
from bait.cloud.offers import vet
from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.ledger.states import RUNS
from bait.machine.tasks import Tasks
from bait.network.addresses import free_address
from bait.network.surroundings import own_macs, surroundings
from wnodes_lrms.errors import ConflictError, RejectedError, UnknownError, WnodesError
from wnodes_lrms.model import Kind, State
from wnodes_lrms.order import Nic, Order
from wnodes_lrms.rates import Rates

_COMING = "cards being plugged in"  # of the ledger's note


@dataclass(eq=False)
class Nics:
    """The network cards of a node's cloud VMs. Which a VM has its order says."""

    ledger: Ledger
    builder: CloudBuilder
    tasks: Tasks
    orders: Orders

    def shown(self, row: Row) -> list[dict[str, Any]]:
        """The VM's cards with their addresses, as the API has them.

        What is only written down is not in it: a bait may have died in between.
        """
        coming = self._coming()
        nics = Order.model_validate_json(row.spec).nics
        return [self._shown(nic, row) for nic in nics if _coming(row, nic) not in coming]

    def vet(self, nics: Sequence[Nic], machine: str = "") -> None:
        """Raises RejectedError unless the node can have these new cards.

        They may be in the place of those that `machine` has had.
        """
        rows = [row for row in self.ledger.rows() if row.id != machine]
        orders = [Order.model_validate_json(row.spec) for row in rows if row.kind is Kind.CLOUD]
        others = [nic for order in orders for nic in order.nics]
        of_batch = {row.site_address for row in rows if row.site_address}
        config = self.builder.vms.config
        offers = config.cloud.network
        macs = own_macs() | {host.mac for offer in offers for host in offer.host}  # batch VMs'
        macs |= {row.site_mac for row in rows if row.site_mac}  # as it was when each was made
        addresses = of_batch.union(surroundings().addresses)
        vet(nics, others, offers, macs, addresses)
        tunnels, private = config.network.tunnels, any(nic.kind == "isolated" for nic in nics)
        if tunnels and private and self.builder.tunnel_end() is None:
            raise RejectedError(f"this node has no address in {tunnels}: see [network] tunnels")

    def address(
        self, row: Row, order: Order, what: str, being: Collection[State], **values: object
    ) -> Row | None:
        """Give the VM its address on the node's network, if it needs one and has none.

        The other values of its row are changed with it. None, and no change, if the VM is
        not in one of the states `being`.
        """
        with self.tasks.news:  # two VMs must not see the same address free
            address = row.address
            if address is None and any(nic.kind == "nat" for nic in order.nics):
                used = {r.address for r in self.ledger.rows() if r.address}
                address = str(free_address(self.builder.vms.config.network.subnet, used))
            return self.ledger.move(row, what, being, address=address, **values)

    def attach_nic(self, row: Row, nic: Nic) -> dict[str, Any]:
        """Plug a card into the running VM; its addresses. One that is in is success."""
        order = Order.model_validate_json(row.spec)
        there = next((other for other in order.nics if other.id == nic.id), None)
        if nic.rates:
            self._need_limits()
        if there and there.rates != nic.rates:
            self._limit(row, there, nic.rates)
        if there is None:
            if nic.kind == "nat" and any(other.kind == "nat" for other in order.nics):
                raise ConflictError("the VM has a card on the node's own network")
            order = order.model_copy(update={"nics": (*order.nics, nic)})
            with self.tasks.news:  # two cards must not see the same address free
                self.vet((nic,))
                row = self.address(row, order, f"card {nic.id}", RUNS) or row
                self._comes(row, nic)
                self.orders.change(row.id, lambda order: {"nics": (*order.nics, nic)})
            try:
                self.builder.plug(row.id, self.builder.card(nic, row.address))
            except UnknownError:
                raise  # it may be in
            except WnodesError:
                with self.tasks.news:  # nobody begins meanwhile
                    if not has_begun_anew(self.ledger, row):
                        self.orders.change(row.id, lambda order: {"nics": without(order.nics, nic)})
                self._has_come(row, nic)
                raise
            self._has_come(row, nic)
        elif _coming(row, nic) in self._coming():
            self.builder.plug(row.id, self.builder.card(there, row.address))
            self._has_come(row, nic)
        return self._shown(nic, row)

    def _coming(self) -> set[str]:
        """The cards that were written down, and may not be plugged in."""
        return set((self.ledger.note(_COMING) or "").split())

    def _comes(self, row: Row, nic: Nic) -> None:
        leases = {each.lease for each in self.ledger.rows()}
        still = {name for name in self._coming() if name.partition("/")[0] in leases}
        self.ledger.set_note(_COMING, " ".join(sorted({*still, _coming(row, nic)})))

    def _has_come(self, row: Row, nic: Nic) -> None:
        with self.tasks.news:
            coming, gone = self._coming(), _coming(row, nic)
            if gone in coming:
                self.ledger.set_note(_COMING, " ".join(sorted(coming - {gone})) or None)

    def _limit(self, row: Row, there: Nic, rates: Rates) -> None:
        """Have a card that is in carry this much."""
        now = there.model_copy(update=asdict(rates))

        def change(order: Order) -> dict[str, Any]:
            return {"nics": tuple(now if nic.id == now.id else nic for nic in order.nics)}

        self.orders.change(row.id, change)
        self.builder.vms.shaper.keep()

    def _need_limits(self) -> None:
        """Raises RejectedError if the node refuses cards that are to be limited."""
        try:
            self.builder.vms.shaper.need()
        except WnodesError as error:
            raise RejectedError(error.told) from error

    def detach_nic(self, row: Row, card: str) -> None:
        """Take a card out; one that is not in is success."""
        order = Order.model_validate_json(row.spec)
        found = next((nic for nic in order.nics if str(nic.id) == card), None)
        if found:
            check_detachable(row)
            if row.state in RUNS:
                self.builder.unplug(row.id, self.builder.card(found, row.address))
            self.orders.change(row.id, lambda order: {"nics": without(order.nics, found)})
            self._has_come(row, found)

    def _shown(self, nic: Nic, row: Row) -> dict[str, Any]:
        own = {"id": str(nic.id), "inbound": nic.inbound, "outbound": nic.outbound}
        if nic.kind != "nat":
            address = nic.address.partition("/")[0] if nic.address else ""
            tap = self.builder.vms.taps.other_card(nic).tap
            return {**own, "mac": nic.mac, "address": address, **self._flows(tap)}
        if not row.address:
            return {**own, "mac": "", "address": ""}
        card = self.builder.vms.taps.own_card(row.address)
        return {**own, "mac": card.mac, "address": row.address, **self._flows(card.tap)}

    def _flows(self, tap: str) -> dict[str, Any]:
        flows = self.builder.vms.shaper.flows().get(tap)
        return (
            {"flows": {way: flow for way, flow in asdict(flows).items() if flow}} if flows else {}
        )


def _coming(row: Row, nic: Nic) -> str:
    """A card in a lease: in the next one its VM starts with it."""
    return f"{row.lease}/{nic.id}"
