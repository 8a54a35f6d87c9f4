"""network/vxlan.py on two nodes, each a network of its own with a cable between them: real VXLAN,
bridges, nftables and frames. The far ends of veth pairs stand for guests.
"""

import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from ipaddress import IPv4Network, IPv6Address
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest

from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.network.cards import Taps
from bait.network.firewall import Firewall
from bait.network.tunnels import Devices, Entry, bridge_of, device_of
from bait.network.vxlan import Tunnels, held
from tests.frames import BROADCAST, arp, frame, ipv6, neighbour, udp
from tests.unit.bait.conftest import an_order
from tests.unit.bait.network.conftest import enter_new_network
from tests.unit.conftest import NOBODY, needs_root
from wnodes_lrms.addresses import address6_of
from wnodes_lrms.config.load import Bait, Config, Network
from wnodes_lrms.errors import RejectedError, WnodesError
from wnodes_lrms.model import Kind, State
from wnodes_lrms.order import Nic
from wnodes_lrms.run import run
from wnodes_lrms.tunnel import Tunnel

pytestmark = [needs_root, pytest.mark.integration]

NET, VNI = "u-1111111100", (1 << 23) + 5
ADDRESS = {"hv1": "10.50.0.1", "hv2": "10.50.0.2"}
ELSEWHERE = "10.50.0.9"  # beside the nodes, and none of them
MAC = {"hv1": "52:54:00:00:00:01", "hv2": "52:54:00:00:00:02"}
GUEST = {"hv1": "10.77.0.1", "hv2": "10.77.0.2"}
SIX = {node: str(address6_of(mac, "fd12::/64")) for node, mac in MAC.items()}
EVIL = "52:54:00:66:66:66"
PORT = 4789
# The guest's end is in the node's network, but what comes to it does not come to the node by it.
FAR_END = (
    "add table inet far; add chain inet far in { type filter hook prerouting priority -400; };"
    " add rule inet far in iifname guest drop"
)
_T = TypeVar("_T")


def end(node: str) -> str:
    return f"{ADDRESS[node]}:{PORT}"


def tunnel(node: str, *macs: str, vni: int = VNI) -> dict[str, Tunnel]:
    """What is told of a network whose cards are behind that node."""
    return {NET: Tunnel(vni=vni, ends={end(node): macs or (MAC[node],)})}


def shown(argv: list[str]) -> Any:
    return json.loads(run(argv, deadline=5) or "[]")


class Node:
    """One node, on a thread: that is in a network of its own."""

    def __init__(self, name: str, folder: Path, stack: ExitStack) -> None:
        self.name = name
        self.thread = stack.enter_context(ThreadPoolExecutor(1))
        self.stack = stack
        self.device = device_of(Taps.of("box", name).tunnel, name, NET)
        self.call(self._enter)
        self.folder = folder
        self.stack.callback(lambda: self.call(lambda: self.ledger.close()))

    def call(self, function: Callable[[], _T]) -> _T:
        return self.thread.submit(function).result(30)

    def _enter(self) -> None:
        enter_new_network()
        self.task = threading.get_native_id()
        run(["ip", "link", "set", "lo", "up"], deadline=5)
        # Or the node's own links talk to their neighbours; libvirt does the same to its bridges.
        run(["sysctl", "-q", "-w", "net.ipv6.conf.default.disable_ipv6=1"], deadline=5)

    def set_up(self) -> None:
        """Its bridge, its guest, its bait's part."""
        taps = Taps.of("box", self.name)
        mac, six = MAC[self.name], f"{SIX[self.name]}/64"
        nic = Nic(id=UUID(int=1), kind="isolated", network=NET, mac=mac, address6=six)
        spec = an_order(nics=(nic,)).model_dump_json(exclude_defaults=True)
        row = Row("vm", "8", 0, State.READY, 0.0, kind=Kind.CLOUD, spec=spec)
        config = Config(
            cluster="box",
            lrms="slurm",
            bait=Bait(run_dir=str(self.folder / self.name)),
            network=Network(tunnels=IPv4Network("10.50.0.0/24")),
        )
        self.ledger = Ledger(self.folder / self.name / "ledger.sqlite")
        firewall = Firewall(config, self.name, lambda: [row], lambda: held(self.ledger))
        self.tunnels = Tunnels(config, self.name, self.ledger, firewall)
        bridge, tap = bridge_of(self.name, NET), taps.other_card(nic).tap
        self.tap = tap
        for line in (
            f"link add {bridge} type bridge",
            f"link add {tap} type veth peer name guest",
            f"link set {tap} master {bridge}",
            *(f"link set {link} up" for link in (bridge, tap, "guest")),
            f"address add {ADDRESS[self.name]}/24 dev cable",
            "link set cable up",
        ):
            run(["ip", *line.split()], deadline=5)
        run(["nft", FAR_END], deadline=5)
        self.guest = self.stack.enter_context(
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        )
        self.guest.bind(("guest", 0))
        self.guest.settimeout(0.3)
        self.tunnels.keep()

    def begin_again(self) -> None:
        """As the next bait does."""
        old = self.tunnels
        firewall = Firewall(old.config, self.name, old.firewall.rows, lambda: held(self.ledger))
        self.tunnels = Tunnels(old.config, self.name, self.ledger, firewall)

    def send(self, data: bytes) -> None:
        self.call(lambda: self.guest.send(data))

    def hears(self, *those: str) -> set[str]:
        """The names in the frames that have come to the guest, once it has heard those."""

        def listen() -> set[str]:
            found: set[str] = set()
            end = time.monotonic() + 10
            while True:
                try:
                    data, (_, _, kind, *_) = self.guest.recvfrom(4000)
                except TimeoutError:
                    if found.issuperset(those) or time.monotonic() > end:
                        return found
                    continue
                if kind != socket.PACKET_OUTGOING:
                    found |= {name.decode() for name in re.findall(rb"<([a-z ]+)>", data)}

        return self.call(listen)

    def count(self, family: str, counter: str) -> int:
        argv = ["nft", "-j", "list", "counter", family, f"wnodes-{self.name}", counter]
        return int(self.call(lambda: shown(argv))["nftables"][1]["counter"]["packets"])

    def device_there(self) -> bool:
        found = self.call(lambda: shown(["ip", "-json", "link", "show", "type", "vxlan"]))
        return self.device in {link["ifname"] for link in found if link}


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    """Two nodes, each of which has been told of the other's guest."""
    with ExitStack() as stack:
        one, two = (Node(name, tmp_path, stack) for name in ADDRESS)
        cable = f"link add cable type veth peer name cable netns {two.task}"
        one.call(lambda: run(["ip", *cable.split()], deadline=5))
        for node, other in ((one, "hv2"), (two, "hv1")):
            node.call(node.set_up)
            node.call(lambda node=node, other=other: node.tunnels.put(tunnel(other)))  # type: ignore[misc]
        yield one, two


def to(other: str, name: str, source: str, size: int = 0) -> bytes:
    """A datagram from the guest of `source` to the other's, by name."""
    data = f"<{name}>".encode() + bytes(size)
    return frame(MAC[other], MAC[source], 0x0800, udp(GUEST[source], GUEST[other], (9, 9), data))


def forged(mac: str = MAC["hv2"]) -> bytes:
    """What somebody who is no node would send to hv1's guest, as VXLAN has it (RFC 7348, 5)."""
    inner = frame(MAC["hv1"], mac, 0x0800, udp(GUEST["hv2"], GUEST["hv1"], (9, 9), b"<forged>"))
    return b"\x08\0\0\0" + VNI.to_bytes(3, "big") + b"\0" + inner


def inject(node: Node, address: str, data: bytes) -> None:
    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.bind((address, 0))
            link.sendto(data, (ADDRESS["hv1"], PORT))

    node.call(send)


def test_guests_of_one_network_meet_across_nodes(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    ask = arp(1, MAC["hv1"], GUEST["hv1"], GUEST["hv2"], b"<asks all>")
    one.send(frame(BROADCAST, MAC["hv1"], 0x0806, ask))
    one.send(to("hv2", "to two", "hv1", size=1400))
    two.send(to("hv1", "to one", "hv2"))
    assert two.hears("asks all", "to two") == {"asks all", "to two"}
    assert one.hears("to one") == {"to one"}


def test_they_meet_by_ipv6_under_no_address_but_their_own(nodes: tuple[Node, Node]) -> None:
    """What asks for a neighbour is for many, and comes to all nodes of the network."""
    one, two = nodes
    many, evil = "ff02::1:ff00:2", "fd12::5"
    sent = {
        "asks": (SIX["hv1"], many, 58, neighbour(135, SIX["hv2"], b"<asks>")),
        "mine": (SIX["hv1"], SIX["hv2"], 17, b"\0\x09\0\x09\0\x20\0\0<mine>"),
        "evil": (evil, SIX["hv2"], 17, b"\0\x09\0\x09\0\x20\0\0<evil>"),
        "lies": (SIX["hv1"], "ff02::1", 58, neighbour(136, evil, b"<lies>")),
    }
    for source, target, kind, data in sent.values():
        door = f"33:33:{IPv6Address(target).packed[-4:].hex(':')}"  # RFC 2464, 7
        door = door if IPv6Address(target).is_multicast else MAC["hv2"]
        one.send(frame(door, MAC["hv1"], 0x86DD, ipv6(source, target, kind, data)))
    assert two.hears("asks", "mine") == {"asks", "mine"}
    assert one.count("bridge", "other_address") == 1
    assert one.count("bridge", "false_neighbour") == 1
    answer = neighbour(136, SIX["hv2"], b"<answers>")
    two.send(frame(MAC["hv1"], MAC["hv2"], 0x86DD, ipv6(SIX["hv2"], SIX["hv1"], 58, answer)))
    assert one.hears("answers") == {"answers"}


def test_nobody_else_gets_into_a_network(nodes: tuple[Node, Node]) -> None:
    """Not from beside the nodes, nor under a MAC of no card of the network, nor a node's users."""
    one, two = nodes
    two.call(lambda: run(["ip", "address", "add", f"{ELSEWHERE}/32", "dev", "cable"], deadline=5))
    inject(two, ELSEWHERE, forged())
    inject(two, ADDRESS["hv2"], forged(EVIL))
    inject(two, ADDRESS["hv2"], forged(MAC["hv1"]))
    assert one.hears() == set()
    assert one.count("inet", "no_node") == 1
    assert one.count("bridge", "stranger") == 2
    program = (
        "import socket,sys; s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        f"s.sendto(sys.stdin.buffer.read(), ('{ADDRESS['hv1']}', {PORT}))"
    )
    user: dict[str, Any] = {"user": NOBODY.pw_uid, "group": NOBODY.pw_gid, "extra_groups": []}
    argv = ["/usr/bin/python3", "-c", program]
    ended = two.call(
        lambda: subprocess.run(argv, input=forged(), capture_output=True, check=False, **user)
    )
    assert b"PermissionError" in ended.stderr
    assert two.count("inet", "users") == 1
    assert one.hears() == set()
    # All of these but for their sender: it would have come.
    inject(two, ADDRESS["hv2"], forged())
    assert one.hears("forged") == {"forged"}


def test_a_guest_sends_nothing_to_the_nodes_tunnels(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    data = udp(GUEST["hv1"], ADDRESS["hv2"], (9, PORT), b"<into>")
    one.send(frame(MAC["hv2"], MAC["hv1"], 0x0800, data))
    assert two.hears() == set()
    assert one.count("bridge", "into_tunnel") == 1


@pytest.mark.parametrize(
    "harm",
    [
        "nft flush ruleset",
        "ip link delete DEVICE",
        "ip link set DEVICE nomaster",
        "ip link set DEVICE mtu 1300",
        f"bridge fdb del {MAC['hv2']} dev DEVICE dst {ADDRESS['hv2']} self",
        f"bridge fdb del {MAC['hv2']} dev DEVICE master",
        f"bridge fdb replace {MAC['hv2']} dev TAP master static",
        f"bridge fdb append 00:00:00:00:00:00 dev DEVICE dst {ELSEWHERE} self permanent",
    ],
)
def test_what_somebody_has_changed_is_made_again(nodes: tuple[Node, Node], harm: str) -> None:
    one, two = nodes

    def tables() -> list[Any]:
        lines = shown(["bridge", "-json", "fdb", "show", "dev", one.device])
        return sorted(json.dumps(line) for line in lines if line["mac"] != own(one.device))

    def own(device: str) -> str:
        (link,) = shown(["ip", "-json", "link", "show", "dev", device])
        return str(link["address"])

    before = one.call(tables)
    words = harm.replace("DEVICE", one.device).replace("TAP", one.tap).split()
    one.call(lambda: run(words, deadline=5))
    one.call(one.tunnels.keep)
    assert one.call(tables) == before
    (link,) = one.call(lambda: shown(["ip", "-json", "link", "show", "dev", one.device]))
    assert (link["mtu"], link["master"]) == (1450, bridge_of("hv1", NET))
    one.send(to("hv2", "again", "hv1"))
    two.call(lambda: run(["ip", "address", "add", f"{ELSEWHERE}/32", "dev", "cable"], deadline=5))
    inject(two, ELSEWHERE, forged())
    assert two.hears("again") == {"again"}
    assert one.hears() == set()


def test_the_next_bait_keeps_what_the_last_was_told(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    one.begin_again()
    one.call(one.tunnels.keep)
    assert one.tunnels.held() == tunnel("hv2")
    two.send(to("hv1", "still", "hv2"))
    assert one.hears("still") == {"still"}


def test_what_another_version_wrote_down_is_asked_for_again(
    nodes: tuple[Node, Node], caplog: pytest.LogCaptureFixture
) -> None:
    """Until the bridge has answered, what is up stays."""
    one, two = nodes
    one.ledger.set_note("tunnels", '{"u-1": {"vni": 1, "peers": []}}')
    one.begin_again()
    for _ in range(2):
        one.call(one.tunnels.keep)
    assert [record.message for record in caplog.records] == [
        "private networks may not reach other nodes: what the bridge said of them can't be read, as"
        " after another version: they stay as they are until it says something new"
    ]
    assert one.device_there()
    assert one.tunnels.held() == {}
    one.call(lambda: one.tunnels.put(tunnel("hv2")))
    assert one.tunnels.held() == tunnel("hv2")
    two.send(to("hv1", "again", "hv2"))
    assert one.hears("again") == {"again"}
    one.ledger.set_note("tunnels", "[]")
    one.call(lambda: one.tunnels.put({}))
    assert not one.device_there()


def test_one_line_that_is_refused_keeps_no_other_out(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when somebody has removed an entry just after it was looked for."""
    one, _two = nodes
    look = one.tunnels._found

    def found() -> Devices:
        gone = {Entry(EVIL, end("hv2"))}
        return {device: lines | gone for device, lines in look().items()}

    monkeypatch.setattr(one.tunnels, "_found", found)
    new = "52:54:00:00:00:77"
    with pytest.raises(WnodesError, match="bridge: "):
        one.call(lambda: one.tunnels.put(tunnel("hv2", MAC["hv2"], new)))
    lines = one.call(lambda: shown(["bridge", "-json", "fdb", "show", "dev", one.device]))
    there = [line for line in lines if line["mac"] == new]
    assert [line.get("dst") for line in there if "dst" in line] == [ADDRESS["hv2"]]
    assert [line["state"] for line in there if "dst" not in line] == ["static"]


def test_what_a_node_forwards_does_not_get_into_a_tunnel(nodes: tuple[Node, Node]) -> None:
    """As from a container of the node's, under the node's own address."""
    one, two = nodes
    two.call(lambda: run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"], deadline=5))
    door = two.call(lambda: shown(["ip", "-json", "link", "show", "dev", "cable"]))[0]["address"]
    data = udp("192.0.2.7", ADDRESS["hv1"], (9, PORT), forged())

    def send() -> None:
        # From one's side of the cable: two is to send it back, as a router does.
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
            link.bind(("cable", 0))
            link.send(frame(door, EVIL, 0x0800, data))

    one.call(send)
    assert one.hears() == set()
    assert two.count("inet", "users") == 1


def test_who_leaves_a_network_is_out(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    one.call(lambda: one.tunnels.put(tunnel("hv2", EVIL)))  # another card there, the first has gone
    two.send(to("hv1", "gone", "hv2"))
    assert one.hears() == set()
    assert one.count("bridge", "stranger") == 1
    one.call(lambda: one.tunnels.put({}))
    assert not one.device_there()
    one.call(lambda: one.tunnels.put(tunnel("hv2")))
    two.send(to("hv1", "back", "hv2"))
    assert one.hears("back") == {"back"}
    # The network's last VM has left the node, and its bridge has gone.
    one.call(lambda: run(["ip", "link", "delete", bridge_of("hv1", NET)], deadline=5))
    one.call(one.tunnels.keep)
    assert not one.device_there()


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({NET: Tunnel(vni=VNI, ends={"192.0.2.7:4789": ()})}, "192.0.2.7:4789 is not another"),
        *(
            ({NET: Tunnel(vni=VNI, ends={each: ()})}, f"{each} is not another")
            for each in (
                end("hv1"),
                "10.50.0.1:9999",  # a service of the node's own
                "10.50.0.2:514",  # of another's
                "10.50.0.0:4789",
                "10.50.0.255:4789",
            )
        ),
        (
            {NET: Tunnel(vni=VNI, ends={end("hv2"): (EVIL,), "10.50.0.3:4789": (EVIL,)})},
            "one MAC is there twice",
        ),
        (
            {NET: Tunnel(vni=VNI, ends={}), "u-2": Tunnel(vni=VNI, ends={})},
            "two networks have the same VNI",
        ),
    ],
)
def test_what_a_bridge_may_not_ask(
    nodes: tuple[Node, Node], wanted: dict[str, Tunnel], why: str
) -> None:
    one, _two = nodes
    with pytest.raises(RejectedError, match=why):
        one.call(lambda: one.tunnels.put(wanted))
    assert one.tunnels.held() == tunnel("hv2")


def test_a_node_without_tunnels_says_so(nodes: tuple[Node, Node]) -> None:
    one, _two = nodes
    assert one.tunnels.end == end("hv1")
    network = Network(tunnels=IPv4Network("10.51.0.0/24"))
    one.tunnels.config = one.tunnels.config.model_copy(update={"network": network})
    one.call(one.tunnels.keep)
    assert one.tunnels.end == ""
    with pytest.raises(RejectedError, match="this node has no tunnels"):
        one.call(lambda: one.tunnels.put(tunnel("hv2")))


def test_without_the_firewall_there_are_no_tunnels(
    nodes: tuple[Node, Node], caplog: pytest.LogCaptureFixture
) -> None:
    """Lost while they were up, and not to be made again, as when /run is full."""
    one, two = nodes
    file = one.tunnels.firewall.file
    one.call(lambda: run(["nft", "flush", "ruleset"], deadline=5))
    file.unlink()
    file.mkdir()
    one.call(one.tunnels.keep)
    assert not one.tunnels.firewall.holds
    assert one.tunnels.end == end("hv1")
    assert not one.device_there()
    assert "nftables does not hold the guests, so there are no tunnels" in caplog.text
    one.call(one.tunnels.keep)
    with pytest.raises(WnodesError):
        one.call(one.tunnels.admit)  # no guest starts
    with pytest.raises(WnodesError, match="no tunnels"):
        one.call(lambda: one.tunnels.put(tunnel("hv2", EVIL)))
    assert not one.device_there()
    file.rmdir()
    one.call(lambda: one.tunnels.put(tunnel("hv2")))
    one.call(lambda: run(["nft", FAR_END], deadline=5))
    two.send(to("hv1", "back", "hv2"))
    assert one.hears("back") == {"back"}


def test_a_card_that_comes_finds_the_firewall_lost(nodes: tuple[Node, Node]) -> None:
    """Nobody has looked since: what was up goes, with the card that is refused."""
    one, _two = nodes
    file = one.tunnels.firewall.file
    one.call(lambda: run(["nft", "flush", "ruleset"], deadline=5))
    file.unlink()
    file.mkdir()
    with pytest.raises(WnodesError):
        one.call(lambda: one.tunnels.put(tunnel("hv2", EVIL)))
    assert not one.device_there()
