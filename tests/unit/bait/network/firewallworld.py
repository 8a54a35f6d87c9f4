"""A node, guests and hosts for the tests of the firewall: real bridges, veth pairs, nftables."""

import re
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any
from uuid import UUID

from bait.ledger.records import Row
from bait.network.addresses import mac_of
from bait.network.cards import Taps
from bait.network.firewall import Firewall
from tests.frames import frame, udp
from tests.unit.bait.conftest import an_order
from wnodes_lrms.config.load import Bait, Cloud, Config, Network, Offer
from wnodes_lrms.model import Kind, State
from wnodes_lrms.order import Nic
from wnodes_lrms.run import run

TAPS = Taps.of("box", "hv1")
GATEWAY, ALICE, BOB = "192.168.190.1", "192.168.190.2", "192.168.190.3"
NODE, LAN_GUEST, LAN_HOST = "10.9.0.2", "10.9.0.7", "10.9.0.50"
INSIDE, WORLD = "203.0.113.2", "198.51.100.7"  # a router beside the node, and a host behind it
LAN_MAC, ROAMER_MAC, HOST_MAC = "52:54:00:00:00:01", "52:54:00:00:00:02", "02:00:00:00:00:50"
SERVICE = 5000
# The far ends are in the same network, but what comes to them does not come to the node by them.
FAR_ENDS = (
    "add table inet far; add chain inet far in { type filter hook prerouting priority -400; };"
    " add rule inet far in iifname { alice, bob, guest, roamer, host, world } drop"
)
NOBODY = "0.0.0.0"  # noqa: S104 (whose address nobody has given out yet)


def nic(mac: str, address: str | None) -> Nic:
    return Nic(id=UUID(int=int(mac[-2:])), kind="bridge", network="lan", mac=mac, address=address)


def batch(address: str) -> Row:
    return Row(address, "7", 0, State.READY, 0.0, address=address)


def cloud(*nics: Nic, state: State = State.READY) -> Row:
    spec = an_order(nics=nics).model_dump_json(exclude_defaults=True)
    return Row("cloud", "8", 0, state, 0.0, kind=Kind.CLOUD, spec=spec)


class World:
    """A node with its networks, and whoever is on them."""

    def __init__(
        self,
        folder: Path,
        stack: ExitStack,
        limits: Mapping[str, Any] | None = None,
        **network: Any,
    ) -> None:
        """`limits` are those of the site's network br0."""
        lan = IPv4Network("10.9.0.0/24")
        offer = Offer(
            name="lan", bridge="br0", subnet=lan, gateway=IPv4Address("10.9.0.1"), **(limits or {})
        )
        self.config = Config(
            cluster="box",
            lrms="slurm",
            bait=Bait(run_dir=str(folder)),
            network=Network(**network),
            cloud=Cloud(network=(offer,)),
        )
        self.rows = [
            batch(ALICE),
            batch(BOB),
            cloud(nic(LAN_MAC, f"{LAN_GUEST}/24"), nic(ROAMER_MAC, None)),
        ]
        self.firewall = Firewall(self.config, "hv1", lambda: self.rows)
        self.links: dict[str, socket.socket] = {}
        self.stack = stack
        run(["ip", "link", "set", "lo", "up"], deadline=5)
        for name, address in (("wn-wnodes", GATEWAY), ("br0", NODE), ("wi-x", None)):
            self.make(name, "bridge")
            if address:
                run(["ip", "address", "add", f"{address}/24", "dev", name], deadline=5)
        self.join("alice", TAPS.own_card(ALICE).tap, "wn-wnodes")
        self.join("bob", TAPS.own_card(BOB).tap, "wn-wnodes")
        self.join("guest", TAPS.other_card(nic(LAN_MAC, None)).tap, "br0")
        self.join("roamer", TAPS.other_card(nic(ROAMER_MAC, None)).tap, "br0")
        self.join("host", "lan0", "br0")
        self.join("world", "out", None)
        run(["ip", "address", "add", "203.0.113.1/30", "dev", "out"], deadline=5)
        run(["ip", "route", "add", f"{WORLD}/32", "via", INSIDE], deadline=5)
        run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"], deadline=5)
        for address, mac, device in (
            (ALICE, mac_of(ALICE), "wn-wnodes"),
            (BOB, mac_of(BOB), "wn-wnodes"),
            (LAN_GUEST, LAN_MAC, "br0"),
            (LAN_HOST, HOST_MAC, "br0"),
            (INSIDE, HOST_MAC, "out"),
        ):
            entry = ["ip", "neigh", "replace", address, "lladdr", mac, "dev", device]
            run([*entry, "nud", "permanent"], deadline=5)
        run(["nft", FAR_ENDS], deadline=5)
        self.service = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.service.bind(("", SERVICE))
        self.service.settimeout(0.1)
        self.node = self.listen("wn-wnodes")

    def make(self, name: str, kind: str, *more: str) -> None:
        run(["ip", "link", "add", name, "type", kind, *more], deadline=5)
        run(["ip", "link", "set", name, "up"], deadline=5)

    def join(self, name: str, tap: str, bridge: str | None) -> None:
        """Somebody, with the node's end of their card."""
        self.make(tap, "veth", "peer", "name", name)
        run(["ip", "link", "set", name, "up"], deadline=5)
        if bridge:
            run(["ip", "link", "set", tap, "master", bridge], deadline=5)
        self.links[name] = self.listen(name)

    def listen(self, name: str) -> socket.socket:
        link = self.stack.enter_context(
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        )
        link.bind((name, 0))
        link.settimeout(0.1)
        return link

    def door(self, bridge: str) -> str:
        """A bridge's own MAC. The link's file in /sys would be of another network."""
        words = run(["ip", "-o", "link", "show", bridge], deadline=5).split()
        return words[words.index("link/ether") + 1]

    def send(self, who: str, data: bytes) -> None:
        self.links[who].send(data)

    def packet(self, who: str, to: str, target: str, name: str, **other: Any) -> None:
        """A datagram from one of them, in a frame to `to`; its data are its name."""
        mac, address = {
            "alice": (mac_of(ALICE), ALICE),
            "bob": (mac_of(BOB), BOB),
            "guest": (LAN_MAC, LAN_GUEST),
            "roamer": (ROAMER_MAC, "10.9.0.99"),
            "host": (HOST_MAC, LAN_HOST),
        }[who]
        ports = other.get("ports", (4000, SERVICE))
        body = udp(other.get("source", address), target, ports, f"<{name}>".encode())
        self.send(who, frame(to, mac, 0x0800, body))

    def served(self) -> set[str]:
        """The names of what has come to the node's service."""
        return names_in(lambda: self.service.recv(2000))

    def heard(self, who: str) -> set[str]:
        """The names of what has come to somebody, or to the node's side of the guests' bridge."""
        link = self.node if who == "node" else self.links[who]

        def others() -> bytes:
            data, (_, _, kind, *_) = link.recvfrom(2000)
            return b"" if kind == socket.PACKET_OUTGOING else data

        return names_in(others)


def names_in(receive: Callable[[], bytes]) -> set[str]:
    """The names of the frames that come, until none does."""
    found: set[str] = set()
    while True:
        try:
            data = receive()
        except TimeoutError:
            return found
        found |= {name.decode() for name in re.findall(rb"<([a-z0-9' .]+)>", data)}
