"""Private networks that span nodes: what each bait is to know of where the others' cards are.

A bait is told the whole of it whenever it has something else. While a node is silent, what others
have of it stays: its VMs may well run.
"""

import ipaddress
import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from occi_bridge.driver.bait_client import Bait
from occi_bridge.driver.reports import Report
from occi_bridge.driver.snapshot import Snapshot
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.tunnel import Tunnel, another, split

_PAUSE = 10.0  # seconds after a bait could not, or would not

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Spanned:
    """What the site says of such networks."""

    ends: ipaddress.IPv4Network | None = None  # of all nodes' tunnels; None: there are none
    vnis: Mapping[str, int] | None = None  # of its own networks, by name


def tunnels(snapshot: Snapshot, site: Spanned) -> dict[str, dict[str, Tunnel]]:
    """What each bait that has tunnels is to hold, by its URL and the networks' names. Pure."""
    if site.ends is None:
        return {}
    vnis = {**(site.vnis or {}), **{net.name: net.vni for net in snapshot.networks}}
    places = {
        name: {node: tuple(sorted(macs)) for node, macs in nodes.items()}
        for name, nodes in _places(snapshot).items()
        if name in vnis
    }
    found: dict[str, dict[str, Tunnel]] = {}
    for url, report in snapshot.reports.baits.items():
        if report.end:
            behind = {
                name: _ends(name, nodes, report, snapshot.reports.ends, site.ends)
                for name, nodes in places.items()
                if report.node in nodes
            }
            # Each part is checked: to check all cards again for each bait would take most of a
            # round.
            found[url] = {
                name: Tunnel.model_construct(vni=vnis[name], ends=ends)
                for name, ends in behind.items()
            }
    return found


def _places(snapshot: Snapshot) -> dict[str, dict[str, set[str]]]:
    """The cards (MACs) of VMs that run or are about to, by network and node."""
    vms = snapshot.vms
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for card in snapshot.interfaces:
        row = vms[card.compute]
        if row.lease and row.node and not card.gone:
            found[card.network][row.node].add(card.mac)
    return found


def _ends(
    name: str,
    nodes: Mapping[str, tuple[str, ...]],
    report: Report,
    ends: Mapping[str, str],
    network: ipaddress.IPv4Network,
) -> dict[str, tuple[str, ...]]:
    """The cards of a network behind each other node's end, for one bait. `nodes` has the cards of
    each node, `ends` where its tunnels end."""
    held = report.tunnels.get(name)
    behind: dict[str, tuple[str, ...]] = {}
    for node, macs in nodes.items():
        if node == report.node:
            continue
        end = ends.get(node, "")
        for at, cards in ((end, macs),) if end else _as_before(macs, held):
            # A node may be in other hands: nobody is told to send elsewhere, or to itself.
            if another(at, report.end, network):
                both = behind.get(at, ())
                behind[at] = tuple(sorted({*both, *cards})) if both else cards
    return dict(sorted(behind.items()))


def _as_before(macs: Collection[str], held: Tunnel | None) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Where these cards of a silent node were, by what a bait has."""
    for end, cards in held.ends.items() if held else ():
        if there := tuple(sorted(mac for mac in cards if mac in macs)):
            yield end, there


def disagreement(ends: Mapping[str, str]) -> str:
    """What is wrong with the ends of the nodes' tunnels, in words; "" if nothing is. Pure.

    A node sends to none that has another port. Nodes that share a host's loopback may differ.
    """
    ports: dict[int, list[str]] = defaultdict(list)
    for node, end in sorted(ends.items()):
        address, port = split(end)
        if not address.is_loopback:
            ports[port].append(node)
    if len(ports) < 2:
        return ""
    said = ", ".join(f"{port} on {' '.join(nodes)}" for port, nodes in sorted(ports.items()))
    return f"[network] tunnel_port is not the same everywhere: {said}"


class Spanning:
    """Tells the baits, one thing at a time each."""

    def __init__(self, baits: Mapping[str, Bait], site: Spanned) -> None:
        self.site = site
        self._baits = baits
        self._told: dict[str, float] = {}  # by URL: what was seen before this says nothing
        self._faults: dict[str, str] = {}  # as they were said
        self._apart = ""  # how the nodes' ports differ, as it was said

    def due(self, snapshot: Snapshot) -> dict[str, dict[str, Tunnel]]:
        """What is to be told now, by the URL of the bait."""
        apart = disagreement({n: end for n, end in snapshot.reports.ends.items() if end})
        if apart and apart != self._apart:
            log.warning("%s: private networks do not connect these nodes", apart)
        self._apart = apart
        reports = snapshot.reports.baits
        return {
            url: wanted
            for url, wanted in tunnels(snapshot, self.site).items()
            if wanted != dict(reports[url].tunnels) and reports[url].at > self._told.get(url, 0.0)
        }

    async def tell(self, url: str, wanted: Mapping[str, Tunnel]) -> None:
        """Tell one bait. What goes wrong is said once, and tried again."""
        try:
            await self._baits[url].put_tunnels(wanted)
        except WnodesError as error:
            if self._faults.get(url) != str(error):
                log.warning("private networks on other nodes: %s", error)
            self._faults[url] = str(error)
            self._told[url] = time.time() + _PAUSE
        else:
            self._faults.pop(url, None)
            self._told[url] = time.time()
            log.info("%s: told of %d private networks", url, len(wanted))
