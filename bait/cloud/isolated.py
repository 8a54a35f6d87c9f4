"""The isolated networks of a node: each is there while a cloud VM is on it, or will be.

Whatever takes a VM off them removes those that nobody needs any more. What it could not, and what a
bait left that was killed then, a later round removes.
"""

import threading
from dataclasses import dataclass, field

from bait.hypervisor.domains import Hypervisor
from bait.ledger.ledger import Ledger
from bait.ledger.states import AT_REST
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.model import Kind
from wnodes_lrms.order import Order


@dataclass(eq=False)
class IsolatedNetworks:
    """Removes the isolated networks that nobody needs. Safe to use from many threads."""

    ledger: Ledger
    hypervisor: Hypervisor
    _left: bool = field(init=False, default=True)  # there may be some to remove
    _round: threading.Thread | None = field(init=False, default=None)

    def drop_spare(self) -> None:
        """Remove those that no VM is on or will be. Raises nothing: a later round tries again."""
        self._left = False  # what is left from now on is for a later round
        try:
            self.hypervisor.drop_isolated(self._needed)
        except WnodesError:  # who does not answer is told of elsewhere
            self._left = True

    def drop_soon(self) -> None:
        """The same, for a caller who does not wait for libvirt."""
        self._left = True
        self.keep()

    def _needed(self) -> set[str]:
        rows = self.ledger.rows()
        active = (row for row in rows if row.kind is Kind.CLOUD and row.state not in AT_REST)
        orders = (Order.model_validate_json(row.spec) for row in active)
        return {nic.network for order in orders for nic in order.nics}

    def keep(self) -> None:
        """Remove what was left, in a thread: a libvirt that hangs keeps no round waiting."""
        if self._left and (self._round is None or not self._round.is_alive()):
            self._round = threading.Thread(target=self.drop_spare, daemon=True)
            self._round.start()
