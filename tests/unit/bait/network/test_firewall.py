"""network/firewall.py and network/ruleset.py in a network of their own: real bridges, frames and
nftables. The far ends of veth pairs stand for guests, for a host of the site's, and for one of the
world's.
"""

import logging
import re
import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from bait.ledger.records import Row
from bait.network.addresses import mac_of
from bait.network.cards import Taps
from bait.network.firewall import Firewall
from tests.frames import BROADCAST, advertisement, arp, frame, ipv6, neighbour, udp
from tests.unit.bait.conftest import an_order
from tests.unit.bait.network.conftest import enter_new_network
from tests.unit.conftest import needs_root
from wnodes_lrms.addresses import address6_of
from wnodes_lrms.config.load import Bait, Cloud, Config, Network, Offer
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.model import Kind, State
from wnodes_lrms.order import Nic
from wnodes_lrms.run import run

pytestmark = [needs_root, pytest.mark.integration]

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
        return _names(lambda: self.service.recv(2000))

    def heard(self, who: str) -> set[str]:
        """The names of what has come to somebody, or to the node's side of the guests' bridge."""
        link = self.node if who == "node" else self.links[who]

        def others() -> bytes:
            data, (_, _, kind, *_) = link.recvfrom(2000)
            return b"" if kind == socket.PACKET_OUTGOING else data

        return _names(others)


def _names(receive: Callable[[], bytes]) -> set[str]:
    found: set[str] = set()
    while True:
        try:
            data = receive()
        except TimeoutError:
            return found
        found |= {name.decode() for name in re.findall(rb"<([a-z0-9' .]+)>", data)}


@pytest.fixture(params=[0, 1], ids=["", "bridged packets meet the tables of IP"])
def bridged(request: pytest.FixtureRequest) -> int:
    """What Docker switches on: frames that stay on a bridge go through the rules for packets."""
    return int(request.param)


def test_frames_that_a_guest_may_send(tmp_path: Path, apart: Callable[..., Any]) -> None:
    def attack() -> tuple[set[str], set[str]]:
        with ExitStack() as stack:
            world = World(tmp_path, stack)
            world.firewall.keep()
            mac, evil, door = mac_of(ALICE), "52:54:00:66:66:66", world.door("wn-wnodes")
            everybody = "255.255.255.255"
            sent = {
                "good": (door, mac, 0x0800, udp(ALICE, GATEWAY, (9, 53), b"<good>")),
                "asks": (BROADCAST, mac, 0x0806, arp(1, mac, ALICE, GATEWAY, b"<asks>")),
                "answers": (door, mac, 0x0806, arp(2, mac, ALICE, GATEWAY, b"<answers>")),
                "probes": (BROADCAST, mac, 0x0806, arp(1, mac, NOBODY, ALICE, b"<probes>")),
                "discover": (
                    BROADCAST,
                    mac,
                    0x0800,
                    udp(NOBODY, everybody, (68, 67), b"<discover>"),
                ),
                "offer": (BROADCAST, mac, 0x0800, udp(ALICE, everybody, (67, 68), b"<offer>")),
                "nobody": (BROADCAST, mac, 0x0800, udp(NOBODY, everybody, (9, 9), b"<nobody>")),
                "mac": (door, evil, 0x0800, udp(ALICE, GATEWAY, (9, 53), b"<mac>")),
                "bob's": (
                    door,
                    mac_of(BOB),
                    0x0800,
                    udp(BOB, GATEWAY, (9, 53), b"<bob's>"),
                ),
                "bob": (door, mac, 0x0800, udp(BOB, GATEWAY, (9, 53), b"<bob>")),
                "router": (door, mac, 0x0800, udp(GATEWAY, GATEWAY, (9, 53), b"<router>")),
                "lie": (BROADCAST, mac, 0x0806, arp(2, mac, GATEWAY, BOB, b"<lie>")),
                "asks as it": (BROADCAST, mac, 0x0806, arp(1, mac, GATEWAY, BOB, b"<asks as it>")),
                "liar": (BROADCAST, mac, 0x0806, arp(2, evil, ALICE, BOB, b"<liar>")),
                "nobody's": (BROADCAST, mac, 0x0806, arp(2, mac, NOBODY, BOB, b"<nobody's>")),
                "reverse": (BROADCAST, mac, 0x0806, arp(3, mac, ALICE, BOB, b"<reverse>")),
                "ra": ("33:33:00:00:00:01", mac, 0x86DD, advertisement(b"<ra>")),
                "stp": ("01:80:c2:00:00:00", mac, 38, b"\x42\x42\x03" + bytes(30) + b"<stp>"),
                "lldp": ("01:80:c2:00:00:0e", mac, 0x88CC, b"<lldp>"),
                "else": (BROADCAST, mac, 0x88B5, b"<else>"),
                "vlan": (
                    door,
                    mac,
                    0x8100,
                    b"\0\x05\x08\0" + udp(ALICE, GATEWAY, (9, 53), b"<vlan>"),
                ),
                "tagged 0": (
                    door,
                    mac,
                    0x8100,
                    b"\0\0\x08\0" + udp(ALICE, GATEWAY, (9, 53), b"<tagged 0>"),
                ),
            }
            for to, source, kind, payload in sent.values():
                world.send("alice", frame(to, source, kind, payload))
            return world.heard("node"), world.heard("bob")

    node, neighbour = apart(attack)
    assert node == {"good", "asks", "answers", "probes", "discover"}
    assert neighbour == set()


def test_packets_that_a_guest_may_send(
    tmp_path: Path, apart: Callable[..., Any], bridged: int
) -> None:
    """Also where frames that stay on a bridge meet the rules for packets, as Docker has it."""

    def attack() -> tuple[set[str], ...]:
        with ExitStack() as stack:
            world = World(tmp_path, stack)
            run(["sysctl", "-q", "-w", f"net.bridge.bridge-nf-call-iptables={bridged}"], deadline=5)
            world.firewall.keep()
            door = world.door("wn-wnodes")
            for number, address in enumerate(
                (GATEWAY, NODE, "203.0.113.1", "127.0.0.1", "192.168.190.255", "224.0.0.1")
            ):
                world.packet("alice", door, address, f"service {number}")
            world.packet("alice", BROADCAST, "255.255.255.255", "service all")
            world.packet("alice", mac_of(BOB), BOB, "neighbour")
            for address in (BOB, LAN_HOST, INSIDE, "169.254.169.254", "10.200.0.1"):
                world.packet("alice", door, address, f"by way of the node to {address}")
            world.packet("alice", door, WORLD, "world")
            # The node asks first: its address is answered, nothing else.
            world.service.sendto(b"<question>", (ALICE, 4000))
            world.service.sendto(b"<for bob>", (BOB, 4000))  # the bridge has never heard of Bob
            world.packet("alice", door, GATEWAY, "answer")
            world.packet("alice", door, GATEWAY, "no answer", ports=(4001, SERVICE))
            found = [world.served()]
            return (*found, *(world.heard(who) for who in ("alice", "bob", "host", "world")))

    served, alice, bob, host, outside = apart(attack)
    assert served == {"answer"}
    assert alice == {"question"}
    assert bob == {"for bob"}
    assert host == set()
    assert outside == {"world"}


def test_a_guest_on_a_bridge_of_the_sites(
    tmp_path: Path, apart: Callable[..., Any], bridged: int
) -> None:
    def attack() -> tuple[set[str], ...]:
        with ExitStack() as stack:
            world = World(tmp_path, stack)
            run(["sysctl", "-q", "-w", f"net.bridge.bridge-nf-call-iptables={bridged}"], deadline=5)
            world.firewall.keep()
            door = world.door("br0")
            world.packet("host", door, NODE, "host's")  # the site's own are not ours to judge
            for who in ("guest", "roamer"):
                world.packet(who, HOST_MAC, LAN_HOST, f"{who} to host")
                world.packet(who, door, NODE, f"{who} to node")
                world.packet(who, door, GATEWAY, f"{who} to node's other address")
                world.packet(who, BROADCAST, "10.9.0.255", f"{who} to all")
                world.packet(who, door, WORLD, f"{who} by way of the node")
                world.packet(who, HOST_MAC, "169.254.169.254", f"{who} to metadata")
                world.packet(who, HOST_MAC, LAN_HOST, f"{who} as router", source="10.9.0.1")
                world.packet(who, HOST_MAC, LAN_HOST, f"{who} as node", source=NODE)
            world.packet("guest", HOST_MAC, LAN_HOST, "guest as another", source="10.9.0.8")
            world.service.sendto(b"<question>", (LAN_GUEST, 4000))
            world.packet("host", "02:00:00:00:00:99", "10.9.0.60", "for a host far away")
            world.packet("guest", door, NODE, "answer")
            found = [world.served()]
            return (*found, *(world.heard(who) for who in ("host", "guest", "world")))

    served, host, guest, outside = apart(attack)
    assert served == {"host's", "answer"}
    assert host == {f"{who} to {what}" for who in ("guest", "roamer") for what in ("host", "all")}
    assert guest == {"question", "roamer to all"}
    assert outside == set()


def test_what_a_network_of_the_sites_is_closed_to(
    tmp_path: Path, apart: Callable[..., Any]
) -> None:
    limits = {
        "closed": (IPv4Network("10.9.0.0/24"), IPv4Network("172.16.0.0/12")),
        "open": (f"{LAN_HOST}:{SERVICE}/udp", "172.16.7.0/24"),
    }

    def reach() -> tuple[set[str], set[str], list[str]]:
        with ExitStack() as stack:
            world = World(tmp_path, stack, limits)
            world.firewall.keep()
            for who in ("guest", "roamer"):
                world.packet(who, HOST_MAC, LAN_HOST, f"{who} to a service")
                world.packet(who, HOST_MAC, LAN_HOST, f"{who} to another", ports=(9, 22))
                world.packet(who, HOST_MAC, "10.9.0.51", f"{who} to another host")
                world.packet(who, HOST_MAC, "172.16.1.1", f"{who} to a closed network")
                world.packet(who, HOST_MAC, "172.16.7.1", f"{who} to an opened one")
                world.packet(who, HOST_MAC, WORLD, f"{who} to the world")
            world.packet("guest", HOST_MAC, LAN_HOST, "renewal", ports=(68, 67))
            world.packet("guest", HOST_MAC, WORLD, "another's", source="10.9.0.8")
            found = world.heard("host")
            # Its VM has gone.
            world.rows = world.rows[:2]
            world.firewall.keep()
            world.packet("guest", HOST_MAC, WORLD, "gone")
            counter = ["nft", "-j", "list", "counter", "bridge", "wnodes-hv1", "limited"]
            return found, world.heard("host"), run(counter, deadline=5).split()

    heard, later, counter = apart(reach)
    ways = ("to a service", "to an opened one", "to the world")
    assert heard == {f"{who} {way}" for who in ("guest", "roamer") for way in ways} | {"renewal"}
    assert later == set()
    assert '"packets":' in counter
    assert counter[counter.index('"packets":') + 1] == "6,"


def test_ipv6_where_a_network_has_it(tmp_path: Path, apart: Callable[..., Any]) -> None:
    """Only under the addresses that follow from the MAC; a card on another network not at all."""
    here, there = "2001:db8:1::/64", "2001:db8:1::50"
    own, link = str(address6_of(LAN_MAC, here)), str(address6_of(LAN_MAC, "fe80::/64"))
    other, router = str(address6_of(ROAMER_MAC, here)), "fe80::1"
    everybody, report = "ff02::1", struct.pack("!BBHHHI", 143, 0, 0, 0, 1, 0)
    alert = bytes([58, 0, 5, 2, 0, 0, 1, 0])  # hop-by-hop: router alert, RFC 2711
    sent = {
        "good": ipv6(own, there, 17, b"\0\x09\0\x09\0\x20\0\0<good>"),
        "link": ipv6(link, there, 58, b"\x80\0\0\0\0\0\0\0<link>"),
        "asks": ipv6(own, everybody, 58, neighbour(135, there, b"<asks>")),
        "answers": ipv6(own, everybody, 58, neighbour(136, own, b"<answers>")),
        "of link": ipv6(link, everybody, 58, neighbour(136, link, b"<of link>")),
        "probes": ipv6("::", everybody, 58, neighbour(135, own, b"<probes>")),
        "solicits": ipv6(link, "ff02::2", 58, b"\x85\0\0\0\0\0\0\0<solicits>"),
        "member": ipv6(link, "ff02::16", 58, report + b"<member>", alert),
        "joins": ipv6("::", "ff02::16", 58, report + b"<joins>", alert),
        "other": ipv6(other, there, 17, b"\0\x09\0\x09\0\x20\0\0<other>"),
        "unknown": ipv6("2001:db8:1::7", there, 17, b"\0\x09\0\x09\0\x20\0\0<unknown>"),
        "router's": ipv6(router, there, 17, b"\0\x09\0\x09\0\x20\0\0<router's>"),
        "ra": ipv6(link, everybody, 58, b"\x86\0\0\0\0\0\0\0<ra>"),
        "redirect": ipv6(link, everybody, 58, neighbour(137, own, b"<redirect>")),
        "querier": ipv6(link, everybody, 58, neighbour(130, "::", b"<querier>"), alert),
        "dhcp": ipv6(own, there, 17, b"\x02\x23\x02\x22\0\x20\0\0<dhcp>"),
        "lies": ipv6(own, everybody, 58, neighbour(136, other, b"<lies>")),
        "for router": ipv6(link, everybody, 58, neighbour(136, router, b"<for router>")),
        "squats": ipv6("::", everybody, 58, neighbour(135, other, b"<squats>")),
        "hidden": ipv6(link, everybody, 58, b"\x86\0\0\0\0\0\0\0<hidden>", alert),
        "nobody": ipv6("::", there, 17, b"\0\x09\0\x09\0\x20\0\0<nobody>"),
        "closed": ipv6(own, "2001:db8:2::1", 17, b"\0\x09\0\x09\0\x20\0\0<closed>"),
    }

    def attack() -> tuple[set[str], set[str]]:
        with ExitStack() as stack:
            closed = (IPv4Network("172.16.0.0/12"), IPv6Network("2001:db8:2::/48"))
            world = World(tmp_path, stack, {"subnet6": IPv6Network(here), "closed": closed})
            world.firewall.keep()
            for data in sent.values():
                world.send("guest", frame(HOST_MAC, LAN_MAC, 0x86DD, data))
            world.send("guest", frame(HOST_MAC, ROAMER_MAC, 0x86DD, sent["other"]))
            world.send("alice", frame(BROADCAST, mac_of(ALICE), 0x86DD, sent["asks"]))
            return world.heard("host"), world.heard("node")

    heard, node = apart(attack)
    good = ("good", "link", "asks", "answers", "of link", "probes", "solicits", "member", "joins")
    assert heard == set(good)
    assert node == set()


def test_ipv6_of_one_card_is_no_other_cards(
    tmp_path: Path, apart: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """In a private network that has it, from its first VM on; on a network that has it not, what is
    IPv6 is dropped as such, before and after. The tables are made anew: nobody has changed them."""
    mine = Nic(
        id=UUID(int=9),
        kind="isolated",
        network="u-mine",
        mac="52:54:00:00:00:09",
        address6="fd12::5054:ff:fe00:9/64",
    )
    link, there, everybody = str(address6_of(mine.mac, "fe80::/64")), "fd12::1", "ff02::1"
    own, other = "fd12::5054:ff:fe00:9", str(address6_of(LAN_MAC, "fd12::/64"))
    report = struct.pack("!BBHHHI", 143, 0, 0, 0, 1, 0)
    alert = bytes([58, 0, 5, 2, 0, 0, 1, 0])
    sent = {
        "good": ipv6(own, there, 17, b"\0\x09\0\x09\0\x20\0\0<good>"),
        "link": ipv6(link, everybody, 58, neighbour(136, link, b"<link>")),
        "answers": ipv6(own, everybody, 58, neighbour(136, own, b"<answers>")),
        "other": ipv6(other, there, 17, b"\0\x09\0\x09\0\x20\0\0<other>"),
        "lies": ipv6(own, everybody, 58, neighbour(136, other, b"<lies>")),
        "ra": ipv6(link, everybody, 58, b"\x86\0\0\0\0\0\0\0<ra>"),
        "joins": ipv6("::", "ff02::16", 58, report + b"<joins>", alert),
    }

    def attack() -> tuple[list[set[str]], list[bool]]:
        with ExitStack() as stack:
            world = World(tmp_path, stack)
            world.join("mine", TAPS.other_card(mine).tap, "wi-x")
            world.join("friend", "vx", "wi-x")
            plain, heard, six = world.rows, [], []
            for rows in (plain, [*plain, cloud(mine)], plain):
                world.rows = rows
                world.firewall.keep()
                world.firewall.admit()
                six.append("addresses6" in run(["nft", "list", "ruleset"], deadline=5))
                for data in sent.values():
                    world.send("mine", frame(BROADCAST, mine.mac, 0x86DD, data))
                    world.send("guest", frame(BROADCAST, LAN_MAC, 0x86DD, data))
                heard += [world.heard("friend"), world.heard("host")]
            return heard, six

    heard, six = apart(attack)
    good = {"good", "link", "answers", "joins"}
    assert heard == [set(), set(), good, set(), set(), set()]
    assert six == [False, True, False]
    assert "somebody has changed" not in caplog.text


def test_what_the_site_opens(tmp_path: Path, apart: Callable[..., Any]) -> None:
    def reach(number: int, *opened: str) -> tuple[set[str], set[str], set[str]]:
        with ExitStack() as stack:
            world = World(tmp_path / str(number), stack, open=opened)
            world.firewall.keep()
            door = world.door("wn-wnodes")
            for name, address in (("gateway", GATEWAY), ("lan", NODE)):
                world.packet("alice", door, address, name)
            world.packet("alice", door, LAN_HOST, "service")
            world.packet("alice", door, LAN_HOST, "other port", ports=(4000, 4001))
            world.packet("alice", door, INSIDE, "router")
            return world.served(), world.heard("host"), world.heard("world")

    def all_of_it() -> list[tuple[set[str], set[str], set[str]]]:
        cases = [(), ("node:5000/udp",), ("node:5000/tcp",), ("10.9.0.50:5000/udp",)]
        cases += [("10.9.0.2:5000/udp",), ("10.9.0.0/24",), ("203.0.113.0/30", "10.9.0.50")]
        found = []
        for number, opened in enumerate(cases):
            enter_new_network()
            found.append(reach(number, *opened))
        return found

    none: set[str] = set()
    assert apart(all_of_it) == [
        (none, none, none),
        ({"gateway", "lan"}, none, none),
        (none, none, none),
        (none, {"service"}, none),
        ({"lan"}, none, none),
        (none, {"service", "other port"}, none),
        (none, {"service", "other port"}, {"router"}),
    ]


def test_tables_that_somebody_has_changed_are_made_again(
    tmp_path: Path, apart: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    commands = (
        ["nft", "flush", "ruleset"],
        ["nft", "delete", "table", "bridge", "wnodes-hv1"],
        ["nft", "flush", "chain", "inet", "wnodes-hv1", "own"],
        ["nft", "flush", "set", "bridge", "wnodes-hv1", "cards"],
        ["nft", "insert", "rule", "inet", "wnodes-hv1", "own", "accept"],
        ["nft", "add", "element", "bridge", "wnodes-hv1", "roaming", f"{{ x . {mac_of(BOB)} }}"],
    )

    def break_it() -> list[set[str]]:
        with ExitStack() as stack:
            world = World(tmp_path, stack)
            world.firewall.keep()
            found = []
            for number, command in enumerate(commands):
                run(command, deadline=5)
                caplog.clear()
                for _ in range(3):
                    world.firewall.keep()
                said = [record.message for record in caplog.records]
                assert said == [
                    "somebody has changed the tables wnodes-hv1 of nftables: made again"
                ], command
                world.packet("alice", world.door("wn-wnodes"), WORLD, f"world {number}")
                world.packet("alice", world.door("wn-wnodes"), GATEWAY, f"node {number}")
                found.append(world.served() | world.heard("world"))
            # Nor does a new guest go without, if that comes first.
            run(["nft", "flush", "ruleset"], deadline=5)
            world.rows.append(batch("192.168.190.4"))
            world.firewall.admit()
            world.packet("alice", world.door("wn-wnodes"), GATEWAY, "node")
            return [*found, world.served()]

    caplog.set_level(logging.WARNING, "bait.network.firewall")
    assert apart(break_it) == [{f"world {number}"} for number in range(len(commands))] + [set()]


def test_cards_come_and_go_with_the_ledger(tmp_path: Path, apart: Callable[..., Any]) -> None:
    def live() -> list[set[str]]:
        with ExitStack() as stack:
            world = World(tmp_path, stack)
            rows, world.rows = world.rows, []
            run(["nft", "add", "table", "inet", "others"], deadline=5)
            world.firewall.keep()
            found = []

            def alice(name: str) -> None:
                world.packet("alice", world.door("wn-wnodes"), WORLD, name)
                found.append(world.heard("world"))

            alice("a card that nobody knows")
            world.rows = rows
            world.firewall.admit()
            alice("known")
            world.firewall.keep()
            alice("kept")
            world.rows = rows[1:]
            world.firewall.keep()
            alice("gone")
            # A VM at rest has no cards, and the next bait finds the tables as they are.
            world.rows = [*rows[:2], cloud(nic(LAN_MAC, None), state=State.STOPPED)]
            Firewall(world.config, "hv1", lambda: world.rows).keep()
            alice("another bait's")
            assert TAPS.other not in run(["nft", "list", "set", *CARDS], deadline=5)
            assert "table inet others" in run(["nft", "list", "tables"], deadline=5)
            return found

    none: set[str] = set()
    assert apart(live) == [none, {"known"}, {"kept"}, none, {"another bait's"}]


def test_a_network_that_the_node_joins_is_closed(tmp_path: Path, apart: Callable[..., Any]) -> None:
    def join() -> list[set[str]]:
        with ExitStack() as stack:
            world = World(tmp_path, stack)
            world.firewall.keep()
            run(["ip", "address", "add", "198.51.100.1/24", "dev", "out"], deadline=5)
            neighbour = ["ip", "neigh", "add", WORLD, "lladdr", HOST_MAC, "dev", "out"]
            run([*neighbour, "nud", "permanent"], deadline=5)
            world.packet("alice", world.door("wn-wnodes"), WORLD, "not seen yet")
            found = [world.heard("world")]
            world.firewall.keep()
            world.packet("alice", world.door("wn-wnodes"), WORLD, "seen")
            return [*found, world.heard("world")]

    assert apart(join) == [{"not seen yet"}, set()]


CARDS = ("bridge", "wnodes-hv1", "cards")


def test_while_nothing_changes_no_program_is_run(
    tmp_path: Path, apart: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may have something to tell of new links for a second or so."""
    ran: list[str] = []

    def noting(argv: list[str], **options: Any) -> str:
        ran.append(argv[0])
        return run(argv, **options)

    def rest() -> tuple[set[str], list[str]]:
        with ExitStack() as stack:
            world = World(tmp_path, stack)
            world.firewall.keep()
            world.firewall.keep()
            at_first = set(ran)
            for _ in range(600):
                if ran:
                    ran.clear()
                    time.sleep(0.1)
                    world.firewall.keep()
            return at_first, ran

    for module in ("firewall", "surroundings"):
        monkeypatch.setattr(f"bait.network.{module}.run", noting)
    assert apart(rest) == ({"ip", "nft"}, [])


def test_a_node_without_nftables_says_what_that_means_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "bait.network.firewall")
    config = Config(cluster="box", lrms="slurm", bait=Bait(run_dir=str(tmp_path)))
    firewall = Firewall(config, "hv1", lambda: [batch(ALICE)])
    monkeypatch.setenv("PATH", str(tmp_path))  # no programs there
    for _ in range(2):
        firewall.keep()
        firewall.admit()
    (fault,) = [record.message for record in caplog.records]
    assert fault.startswith("guests may reach this node's services and networks, and each other")
    assert "No such file" in fault


def test_no_guest_starts_once_the_tables_are_lost_for_good(
    tmp_path: Path, apart: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose() -> None:
        with ExitStack() as stack:
            world = World(tmp_path, stack)
            world.firewall.keep()
            world.rows.append(batch("192.168.190.4"))
            monkeypatch.setenv("PATH", str(tmp_path))
            with pytest.raises(WnodesError, match="nft"):
                world.firewall.admit()

    apart(lose)


def test_many_guests(tmp_path: Path, apart: Callable[..., Any]) -> None:
    def many() -> None:
        with ExitStack() as stack:
            world = World(tmp_path, stack)
            world.rows = [batch(f"192.168.{190 + n // 250}.{n % 250 + 2}") for n in range(1000)]
            world.firewall.keep()
            world.rows.append(batch("192.168.199.9"))
            world.firewall.admit()
            assert "c0a8c709" in run(["nft", "list", "set", *CARDS], deadline=5)
            # More at once than a command line holds.
            world.rows = [batch(f"192.169.{n // 250}.{n % 250 + 2}") for n in range(1200)]
            world.firewall.admit()
            listed = run(["nft", "list", "set", *CARDS], deadline=5)
            assert listed.count(TAPS.own) == 1200

    apart(many)
