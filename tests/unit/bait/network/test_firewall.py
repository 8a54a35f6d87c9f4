"""network/firewall.py and network/ruleset.py in a network of their own: real bridges, frames and
nftables. The far ends of veth pairs stand for guests, for a host of the site's, and for one of the
world's.
"""

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from bait.network.addresses import mac_of
from bait.network.firewall import Firewall
from tests.frames import BROADCAST, advertisement, arp, frame, udp
from tests.unit.bait.network.conftest import enter_new_network
from tests.unit.bait.network.firewallworld import (
    ALICE,
    BOB,
    GATEWAY,
    HOST_MAC,
    INSIDE,
    LAN_GUEST,
    LAN_HOST,
    LAN_MAC,
    NOBODY,
    NODE,
    SERVICE,
    TAPS,
    WORLD,
    World,
    batch,
    cloud,
    nic,
)
from tests.unit.conftest import needs_root
from wnodes_lrms.config.load import Bait, Config
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.model import State
from wnodes_lrms.run import run

pytestmark = [needs_root, pytest.mark.integration]


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
                for port in (67, 6700):
                    world.packet(who, BROADCAST, "10.9.0.255", f"{who} as server", ports=(port, 68))
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
