"""The guests' firewall in the kernel: tables of the node's own, kept as the ledger wants them.

Nothing is done when a guest ends: its card has gone, and what was allowed to it is taken back with
the next change.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from bait.ledger.records import Row
from bait.network.cards import Taps, guests
from bait.network.notifications import Notifications, Topic
from bait.network.ruleset import FAMILIES, Elements, changes, elements, seen, table, whole
from bait.network.surroundings import Surroundings, surroundings
from bait.network.tunnels import device_of
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.folders import PASSED, have
from wnodes_lrms.run import LOCAL, run
from wnodes_lrms.tunnel import Tunnel

log = logging.getLogger(__name__)


class Firewall:
    """What holds the guests of one node. Its methods are called from many threads."""

    def __init__(
        self,
        config: Config,
        node: str,
        rows: Callable[[], Iterable[Row]],
        tunnels: Callable[[], Mapping[str, Tunnel]] = dict,
    ) -> None:
        """`rows` are the ledger's; `tunnels` those to other nodes, by the networks' names."""
        self.config = config
        self.node = node
        self.taps = Taps.of(config.cluster, node)
        self.rows = rows
        self.tunnels = tunnels
        self.file = Path(config.bait.run_dir) / "guests.nft"
        self._lock = threading.Lock()
        self._held: Elements | None = None  # what is in the kernel's sets; None: no tables
        self._rules = ""  # and the rest of the tables, as nft lists it
        self._ever = False  # whether the guests have been held by this bait
        self._around = Surroundings()  # by which the tables were made
        self._tables = Notifications(Topic.NFTABLES)
        self._places = Notifications(Topic.SURROUNDINGS)
        self._seen: Surroundings | None = None  # as they were seen last
        self._fault = ""  # why nothing holds the guests, as it was said

    def admit(self) -> None:
        """Before a card is plugged in: what the ledger has of it is what its guest may be.

        Raises WnodesError if the tables can't be changed, or made where they are lost. Where there
        have never been any, and there can be none, the guests run without: `keep` has said so.
        """
        with self._lock:
            wanted = self._wanted()
            try:
                if self._held is None or self._held.keys() != wanted.keys():
                    self._make(wanted, surroundings())
                else:
                    self._change(self._held, wanted)
            except WnodesError:
                if self._ever:
                    raise

    def keep(self) -> None:
        """Have the tables there as they should be; what is wrong with them is said, once.

        While the kernel tells of no change, it is not asked what it has. Raises WnodesError if the
        ledger can't be read.
        """
        with self._lock:
            wanted = self._wanted()
            try:
                self._keep(wanted)
            except WnodesError as error:
                if str(error) != self._fault:
                    log.error(
                        "guests may reach this node's services and networks, and each other, and"
                        " use any address: nftables: %s",
                        error,
                    )
                self._fault = str(error)
            else:
                if self._fault:
                    log.info("the guests are held again")
                self._fault = ""

    @property
    def holds(self) -> bool:
        """Whether the kernel has the tables, as far as is known."""
        with self._lock:  # not while they are being made
            return self._held is not None

    def _wanted(self) -> Elements:
        far = None
        if self.config.network.tunnels:
            prefix = self.taps.tunnel
            far = {device_of(prefix, self.node, name): t for name, t in self.tunnels().items()}
        return elements(guests(self.rows(), self.taps), self.config.cloud.network, far)

    def _keep(self, wanted: Elements) -> None:
        if self._places.came():
            self._seen = None  # should ip not say
        around = self._seen = self._seen or surroundings()
        if self._held is None or self._held.keys() != wanted.keys() or around != self._around:
            self._make(wanted, around)
        elif self._changed(wanted):
            log.warning("somebody has changed the tables %s of nftables: made again", self._name)
            self._make(wanted, around)
        else:
            self._change(self._held, wanted)

    def _changed(self, wanted: Elements) -> bool:
        if not self._tables.came():
            return False
        held, rules = self._held, self._rules
        self._held = None  # should nft not say
        found = look(self.node, wanted)
        self._held = held
        return (held, rules) != found

    def _change(self, held: Elements, wanted: Elements) -> None:
        commands = changes(self.node, held, wanted)
        try:
            if commands:
                run(["nft", "; ".join(commands)], deadline=LOCAL)
            self._held = wanted
        except WnodesError:  # somebody has removed them, or it is too much for a command line
            self._make(wanted, self._around)

    @property
    def _name(self) -> str:
        return table(self.node)

    def _make(self, wanted: Elements, around: Surroundings) -> None:
        network, offers = self.config.network, self.config.cloud.network
        text = whole(self.node, self.taps, network, offers, around, wanted)
        self._held, self._rules = None, ""  # until they are seen
        try:
            have(self.file.parent, PASSED)
            self.file.write_text(text)
        except OSError as error:
            raise WnodesError(f"{self.file}: {error.strerror}") from error
        run(["nft", "-f", str(self.file)], deadline=LOCAL)
        self._held, self._rules = look(self.node, wanted)
        self._around, self._ever = around, True


def look(node: str, held: Elements) -> tuple[Elements, str]:
    """What the kernel has of a node's tables. Nothing, where it has none.

    Raises WnodesError if nft can't be asked.
    """
    if not there(node):
        return {}, ""
    listed = []
    for family in FAMILIES:
        argv = ["nft", "-j", "list", "table", family, table(node)]
        listed += json.loads(run(argv, deadline=LOCAL))["nftables"]
    return seen(listed, held)


def there(node: str) -> bool:
    """Whether the kernel has both of a node's tables. Raises WnodesError if nft can't be asked."""
    tables = json.loads(run(["nft", "-j", "list", "tables"], deadline=LOCAL))["nftables"]
    found = {(t["table"]["family"], t["table"]["name"]) for t in tables if "table" in t}
    return {(family, table(node)) for family in FAMILIES} <= found
