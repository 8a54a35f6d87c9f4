"""Private networks that span nodes, in the kernel: kept as the ledger has them.

What the bridge last said is written down before anything is done, and holds until it says something
else. Without the firewall there are no tunnels: only its tables tell other nodes from whoever can
send a packet here.
"""

import json
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from bait.network import tunnels
from bait.network.cards import Taps
from bait.network.firewall import Firewall
from bait.network.surroundings import TunnelEnd, interfaces, tunnel_end
from bait.network.tunnels import Device, Devices, bridge_of, device_of
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import RejectedError, WnodesError
from wnodes_lrms.folders import PASSED, have
from wnodes_lrms.run import LOCAL, run
from wnodes_lrms.tunnel import NetworkName, Tunnel, another

_KEY = "tunnels"  # of the ledger's note
_HELD = TypeAdapter(dict[NetworkName, Tunnel])

log = logging.getLogger(__name__)


class Notes(Protocol):
    """Small facts that outlive the daemon: the ledger's."""

    def note(self, key: str) -> str | None: ...
    def set_note(self, key: str, value: str | None) -> None: ...


def held(notes: Notes) -> dict[str, Tunnel]:
    """What the bridge said last, by the networks' names. Nothing, if another version wrote it down:
    the bridge says it again.
    """
    return _noted(notes) or {}


def _noted(notes: Notes) -> dict[str, Tunnel] | None:
    """The same, but None if it can't be read."""
    text = notes.note(_KEY)
    try:
        return _HELD.validate_json(text) if text else {}
    except ValidationError:
        return None


class Tunnels:
    """The tunnels of one node, behind its firewall. Its methods are called from many threads."""

    def __init__(self, config: Config, node: str, notes: Notes, firewall: Firewall) -> None:
        self.config = config
        self.node = node
        self.notes = notes
        self.firewall = firewall
        self._taps = Taps.of(config.cluster, node)
        self._batch = Path(config.bait.run_dir) / "tunnels.batch"
        self._lock = threading.Lock()
        self._own: TunnelEnd | None = None
        self._fault = ""  # why they are not as they should be, as it was said

    @property
    def end(self) -> str:
        """This node's end of its tunnels, as it was seen last; "" where it has none."""
        own = self._own
        return f"{own.address}:{self.config.network.tunnel_port}" if own else ""

    def held(self) -> dict[str, Tunnel]:
        """What the bridge said last, by the networks' names."""
        return held(self.notes)

    def put(self, wanted: Mapping[str, Tunnel]) -> None:
        """From now on these, and no others.

        Raises RejectedError for what can't be on this node, WnodesError if it can't be done.
        """
        self._vet(wanted)
        with self._lock:
            if wanted != _noted(self.notes):
                self.notes.set_note(_KEY, _HELD.dump_json(dict(wanted)).decode())
            try:
                self.firewall.admit()
            finally:  # without it nothing is joined up
                self._keep()

    def admit(self) -> None:
        """Before a card is plugged in: the firewall knows it, and its network is joined up.

        Raises WnodesError if the firewall can't be changed.
        """
        try:
            self.firewall.admit()
        finally:
            if self.config.network.tunnels and self.held():
                self._try()

    def keep(self) -> None:
        """Have firewall and tunnels as they should be; what is wrong is said, once.

        Raises WnodesError if the ledger can't be read.
        """
        self.firewall.keep()
        self._try()

    def _vet(self, wanted: Mapping[str, Tunnel]) -> None:
        network, own = self.config.network.tunnels, self.end
        if not network or not own:
            raise RejectedError("this node has no tunnels: see [network] tunnels")
        vnis = [tunnel.vni for tunnel in wanted.values()]
        if len(set(vnis)) < len(vnis):
            raise RejectedError("two networks have the same VNI")
        for name, tunnel in wanted.items():
            for end in tunnel.ends:
                if not another(end, own, network):
                    raise RejectedError(f"network {name}: {end} is not another node's end")
            macs = [mac for behind in tunnel.ends.values() for mac in behind]
            if len(set(macs)) < len(macs):
                raise RejectedError(f"network {name}: one MAC is there twice")

    def _try(self) -> None:
        with self._lock:
            try:
                self._keep()
            except WnodesError as error:
                if str(error) != self._fault:
                    log.error("private networks may not reach other nodes: %s", error)
                self._fault = str(error)
            else:
                if self._fault:
                    log.info("private networks reach other nodes again")
                self._fault = ""

    def _keep(self) -> None:
        found, wanted = self._found(), self._wanted()
        if not self.firewall.holds:
            self._take_away(found)
            return
        if self._own and _noted(self.notes) is None:
            raise WnodesError(
                "what the bridge said of them can't be read, as after another version: they stay as"
                " they are until it says something new"
            )
        gone = tunnels.removals(wanted, found)
        for argv in gone:
            run(["ip", *argv], deadline=LOCAL)
        for argv in tunnels.additions(wanted, found):
            run(argv, deadline=LOCAL)
        lines = tunnels.table_changes(wanted, found)
        if lines:
            have(self._batch.parent, PASSED)
            self._batch.write_text("\n".join(lines) + "\n")
            run(["bridge", "-force", "-batch", str(self._batch)], deadline=LOCAL)

    def _take_away(self, found: Devices) -> None:
        """Raises WnodesError if there should be tunnels."""
        for argv in tunnels.removals({}, found):
            run(["ip", *argv], deadline=LOCAL)
        if self._own and self.held():
            raise WnodesError("nftables does not hold the guests, so there are no tunnels")

    def _wanted(self) -> Devices:
        """The networks that have a bridge here: those that a VM is on, or soon will be."""
        network = self.config.network
        own = self._own = tunnel_end(network.tunnels) if network.tunnels else None
        held = self.held() if own else {}
        if own is None or not held:
            return {}
        bridges = {link["ifname"] for link in _links("bridge")}
        wanted = {}
        for name, tunnel in held.items():
            bridge = bridge_of(self.node, name)
            if bridge in bridges:
                device = Device(
                    name=device_of(self._taps.tunnel, self.node, name),
                    vni=tunnel.vni,
                    local=own.address,
                    port=network.tunnel_port,
                    mtu=own.mtu,
                    master=bridge,
                )
                wanted[device] = tunnels.entries(tunnel)
        return wanted

    def _found(self) -> Devices:
        if not any(name.startswith(self._taps.tunnel) for name in interfaces()):
            return {}  # as on most nodes: what they are like need not be asked
        found = {}
        for link in _links("vxlan"):
            if link["ifname"].startswith(self._taps.tunnel):
                device = tunnels.device_seen(link)
                lines = _json(["bridge", "-json", "fdb", "show", "dev", device.name])
                found[device] = tunnels.entries_seen(lines, device.port)
        return found


def _links(kind: str) -> list[dict[str, Any]]:
    return _json(["ip", "-json", "-details", "link", "show", "type", kind])


def _json(argv: list[str]) -> list[dict[str, Any]]:
    said = json.loads(run(argv, deadline=LOCAL) or "[]")
    return [each for each in said if each]
