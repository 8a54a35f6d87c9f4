"""The throughput of the guests' cards, in the kernel: kept as the ledger has it, by iproute2.

The queues of a card go with its tap. Its IFB device does not, and is taken away when the VM ends.
"""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bait.ledger.records import Row
from bait.network import shaping
from bait.network.cards import Taps, guests
from bait.network.notifications import Notifications, Topic
from bait.network.shaping import back_of, tap_of
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.folders import PASSED, have
from wnodes_lrms.rates import UNLIMITED, Flows, Rates
from wnodes_lrms.run import LOCAL, run

_FRESH = 2.0  # seconds for which what was measured is not measured again

log = logging.getLogger(__name__)


def trouble() -> str:
    """Why the kernel can't limit throughput; "" if it can. It is tried in a network of its own."""
    script = "\n".join(shaping.trial("wgprobe"))
    try:
        run(["unshare", "--net", "--", "sh", "-ec", script], deadline=LOCAL)
    except WnodesError as error:
        return str(error)
    return ""


class Shaper:
    """What limits the cards of one node's guests. Its methods are called from many threads."""

    def __init__(self, config: Config, node: str, rows: Callable[[], Iterable[Row]]) -> None:
        """`rows` are the ledger's."""
        self.config = config
        self._taps = Taps.of(config.cluster, node)
        self._rows = rows
        self._batch = Path(config.bait.run_dir) / "throughput.batch"
        self._lock = threading.Lock()
        self._able = False  # the kernel has been seen to
        self._looked = False  # at all cards that are here, once: an earlier bait limited others
        self._done: dict[str, tuple[int, Rates]] = {}  # tap: interface's number, its limits
        self._fault = ""  # why something is not limited, as it was said
        self._notifications = Notifications(Topic.THROUGHPUT)
        self._right: Mapping[str, Rates] | None = None  # what was wanted when all was seen to be so
        self._measured: tuple[float, dict[str, Flows]] = (0.0, {})

    def vet(self, taps: Collection[str]) -> None:
        """Before these cards are plugged in. Raises WnodesError if one of them is to be limited,
        and `need` does."""
        if not self._wanted().keys().isdisjoint(taps):
            self.need()

    def need(self) -> None:
        """Raises WnodesError if the kernel can't limit a card, and the site wants none without."""
        if self._able:
            return
        with self._lock:
            why = self._trouble()
        self._able = not why
        if why and self.config.network.unshaped == "refuse":
            told = "this node can't limit the throughput of a VM"
            raise WnodesError(f"{told}: {why}; see [network] unshaped", told=told)

    def shape(self) -> None:
        """After cards were plugged in, or their limits changed. What goes wrong is said, and tried
        again in each round."""
        with self._lock:
            wanted = self._wanted()
            if wanted:
                self._try(wanted)

    def keep(self) -> None:
        """Have each card limited as it should be; what is wrong is said, once.

        While the kernel tells of no change, it is not asked how they are. Raises WnodesError if the
        ledger can't be read.
        """
        with self._lock:
            wanted = self._wanted()
            if self._notifications.came() or wanted != self._right:
                self._right = None
                self._try(wanted)

    def sweep(self) -> None:
        """After a VM has ended, or a card was taken out: nothing of it stays."""
        with self._lock:
            self._sweep()

    def flows(self) -> dict[str, Flows]:
        """What the limited cards carry, by their taps. Nothing, if that can't be told."""
        with self._lock:
            at, found = self._measured
            if time.monotonic() - at > _FRESH:
                wanted = self._wanted()
                try:
                    found = self._found(wanted) if wanted else {}
                except WnodesError as error:
                    log.warning("what the guests' cards carry can't be told: %s", error)
                    found = {}
                self._measured = time.monotonic(), found
            return found

    def _trouble(self) -> str:
        """The same as above, tried in the node's own network: the daemon may make no other."""
        tap = f"{self._taps.own}probe"
        self._remove(tap)  # of a bait that was killed
        try:
            for line in shaping.trial(tap):
                run(line.split(), deadline=LOCAL)
        except WnodesError as error:
            return str(error)
        finally:
            self._remove(tap)
        return ""

    def _remove(self, tap: str) -> None:
        for device in _numbers().keys() & {tap, back_of(tap)}:
            with suppress(WnodesError):
                run(["ip", "link", "delete", device], deadline=LOCAL)

    def _wanted(self) -> dict[str, Rates]:
        cards = guests(self._rows(), self._taps)
        return shaping.limits(cards, self.config.network, self.config.cloud.network)

    def _try(self, wanted: Mapping[str, Rates]) -> None:
        try:
            self._keep(wanted)
        except WnodesError as error:
            if str(error) != self._fault:
                log.error("throughput is not limited as it should be: %s", error)
            self._fault = str(error)
        else:
            if self._fault:
                log.info("throughput is limited again")
            self._fault = ""

    def _keep(self, wanted: Mapping[str, Rates]) -> None:
        self._sweep()
        wrong = self._wrong(wanted)
        if not wrong:
            self._is_right(wanted)
            return
        numbers = _numbers()
        for tap in wrong:
            if self._done.get(tap) == (numbers.get(tap), wanted.get(tap, UNLIMITED)):
                log.warning("somebody has changed the throughput of card %s: limited again", tap)
        fault = None
        try:
            self._limit({tap: wanted.get(tap, UNLIMITED) for tap in wrong}, wrong)
        except WnodesError as error:  # of a card that has just gone, or for good
            fault = error
        self._measured = (0.0, {})
        if not self._wrong(wanted):
            self._is_right(wanted)
        elif fault:
            raise fault

    def _is_right(self, wanted: Mapping[str, Rates]) -> None:
        self._looked = True
        self._right = None if self._strays() else wanted

    def _wrong(self, wanted: Mapping[str, Rates]) -> dict[str, Flows]:
        """The cards that are there, and not limited as they should be."""
        here = () if self._looked else self._here()
        found = self._found({*wanted, *self._done, *map(tap_of, self._backs()), *here})
        wrong = {tap: now for tap, now in found.items() if now.limits != wanted.get(tap, UNLIMITED)}
        for tap, number in _numbers().items():
            if tap in found and tap not in wrong:
                self._done[tap] = number, wanted.get(tap, UNLIMITED)
        for tap in self._done.keys() - wanted.keys() - wrong.keys():
            del self._done[tap]
        return wrong

    def _found(self, taps: Iterable[str]) -> dict[str, Flows]:
        there = _numbers().keys() & set(taps)
        if not there:
            return {}
        links = _json(["ip", "-json", "link", "show"])
        # Ours alone: what others have on the host may be a kind that tc can't tell in JSON (sfq).
        ours = sorted(_numbers().keys() & {*there, *map(back_of, there)})
        show = ["tc", "-json", "-statistics", "qdisc", "show", "dev"]
        # Where one device is asked for, tc leaves its name out.
        qdiscs = [{"dev": dev, **each} for dev in ours for each in _json([*show, dev])]
        ways = {each["dev"] for each in qdiscs if each["kind"] == "ingress"}
        leads = {}
        for tap in ways.intersection(there):
            argv = ["tc", "-json", "filter", "show", "dev", tap, "ingress"]
            leads[tap] = shaping.lead(_json(argv))
        try:
            return shaping.flows(there, links, qdiscs, leads)
        except (KeyError, TypeError) as error:
            raise WnodesError(f"tc and ip tell what is not understood: {error!r}") from error

    def _limit(self, wanted: Mapping[str, Rates], found: Mapping[str, Flows]) -> None:
        """A line that is refused keeps no other out; the first that was is raised in the end."""
        fault = None
        for program, lines in (
            ("ip", shaping.links_needed(wanted, self._backs())),
            ("tc", shaping.buckets(wanted, found)),
        ):
            try:
                self._run_batch(program, lines)
            except WnodesError as error:
                fault = fault or error
        if fault:
            raise fault

    def _run_batch(self, program: str, lines: Sequence[str]) -> None:
        if not lines:
            return
        try:
            have(self._batch.parent, PASSED)
            self._batch.write_text("\n".join(lines) + "\n")
        except OSError as error:
            raise WnodesError(f"{self._batch}: {error.strerror}") from error
        run([program, "-force", "-batch", str(self._batch)], deadline=LOCAL)

    def _sweep(self) -> None:
        for back in self._strays():
            try:
                run(["ip", "link", "delete", back], deadline=LOCAL)
            except WnodesError as error:  # it is tried again in each round
                log.warning("%s", error)

    def _strays(self) -> list[str]:
        """The IFB devices of cards that have gone."""
        there = _numbers()
        return [back for back in self._backs() if tap_of(back) not in there]

    def _here(self) -> list[str]:
        """The cards of this node's guests, limited or not."""
        return [name for name in _numbers() if name.startswith((self._taps.own, self._taps.other))]

    def _backs(self) -> list[str]:
        """The IFB devices of this node's cards."""
        mine = tuple(back_of(tap) for tap in (self._taps.own, self._taps.other))
        return [name for name in _numbers() if name.startswith(mine)]


def _numbers() -> dict[str, int]:
    """The interfaces that are there, by their names."""
    return {name: number for number, name in socket.if_nameindex()}


def _json(argv: list[str]) -> list[dict[str, Any]]:
    try:
        said = json.loads(run(argv, deadline=LOCAL) or "[]")
    except ValueError as error:
        raise WnodesError(f"{' '.join(argv)}: no JSON: {error}") from error
    return [each for each in said if each]
