"""What the guests' firewall and the limits of throughput cost a transfer that neither slows down: a
guest's TCP, by way of its node.

Three networks of the kernel stand for guest, node and world. The node's end of the guest's card has
the name that the firewall knows, and the packets meet all rules as a VM's do.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bait.network import ruleset, shaping
from bait.network.cards import Taps
from bait.network.surroundings import Surroundings
from contrib.bench.site import sh
from wnodes_lrms.config.load import Network
from wnodes_lrms.rates import MOST, UNLIMITED, Flow, Flows, Rates

_RUNS = 7
_MIB = 1024
_NETWORK = Network(name="bench")
_GUEST, _NODE, _WORLD = "wnodes-bench-guest", "wnodes-bench-node", "wnodes-bench-world"
_ADDRESS, _PORT = "198.51.100.7", "5001"
_VARIANTS = {  # whether there is a filter, and what the card may carry
    "no filter": (False, UNLIMITED),
    "our tables": (True, UNLIMITED),
    "our tables, and limits that it does not reach": (True, Rates(MOST, MOST)),
}
_TAKE = """
import socket, sys
server = socket.create_server(("", int(sys.argv[1])))
print("ready", flush=True)
link, _ = server.accept()
store = bytearray(1 << 20)
while link.recv_into(store):
    pass
link.send(b"all")
"""
_SEND = """
import socket, sys, time
link = socket.create_connection((sys.argv[1], int(sys.argv[2])))
begun, data = time.perf_counter(), bytes(1 << 20)
for _ in range(int(sys.argv[3])):
    link.sendall(data)
link.shutdown(socket.SHUT_WR)
link.recv(3)
print(time.perf_counter() - begun)
"""


def large() -> dict[str, list[float]]:
    """Seconds for a GiB in segments of 64 KiB, as virtio hands them over."""
    return _measured(_MIB, whole=True)


def small() -> dict[str, list[float]]:
    """Seconds for 64 MiB packet by packet."""
    return _measured(_MIB // 16, whole=False)


def _measured(size: int, *, whole: bool) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {name: [] for name in _VARIANTS}
    with _networks(whole=whole), tempfile.TemporaryDirectory() as folder:
        tables, none = Path(folder, "tables"), Path(folder, "none")
        card = Taps.of("bench", "node").own_card(str(_NETWORK.subnet[2]))
        held = ruleset.elements([card], (), None)
        taps = Taps.of("bench", "node")
        text = ruleset.whole("node", taps, _NETWORK, (), Surroundings(), held)
        tables.write_text(text)
        none.write_text("flush ruleset\n")
        for _ in range(_RUNS):
            for name, (filtered, rates) in _VARIANTS.items():
                _in(_NODE, "nft", "-f", str(tables if filtered else none))
                _limit(card.tap, rates, Path(folder, "lines"))
                samples[name].append(_transfer(size))
    return samples


def _limit(tap: str, rates: Rates, file: Path) -> None:
    """Limit the card, or take its limits away."""
    devices = json.loads(_in(_NODE, "ip", "-json", "link", "show", "type", "ifb") or "[]")
    there = [each["ifname"] for each in devices if each]
    limited = {tap: Flows(Flow(1), Flow(1)) if there else Flows()}
    for program, lines in (
        ("ip", shaping.links_needed({tap: rates}, there)),
        ("tc", shaping.buckets({tap: rates}, limited)),
        ("ip", [f"link delete {each}" for each in there if not rates]),
    ):
        file.write_text("\n".join(lines) + "\n")
        _in(_NODE, program, "-batch", str(file))


def _transfer(size: int) -> float:
    take = ["ip", "netns", "exec", _WORLD, sys.executable, "-c", _TAKE, _PORT]
    with subprocess.Popen(take, stdout=subprocess.PIPE, text=True) as taker:
        assert taker.stdout
        taker.stdout.readline()
        return float(_in(_GUEST, sys.executable, "-c", _SEND, _ADDRESS, _PORT, str(size)))


@contextmanager
def _networks(*, whole: bool) -> Iterator[None]:
    card = Taps.of("bench", "node").own_card(str(_NETWORK.subnet[2]))
    gateway, bridge = _NETWORK.subnet[1], f"wn-{_NETWORK.name}"
    try:
        for name in (_GUEST, _NODE, _WORLD):
            sh("ip", "netns", "add", name)
        for where, line in (
            (_NODE, f"link add {bridge} type bridge"),
            (_NODE, f"link add {card.tap} type veth peer name eth0 netns {_GUEST}"),
            (_NODE, f"link add out type veth peer name eth0 netns {_WORLD}"),
            (_GUEST, f"link set eth0 address {card.mac}"),
            (_GUEST, f"address add {card.address}/24 dev eth0"),
            (_NODE, f"address add {gateway}/24 dev {bridge}"),
            (_NODE, "address add 203.0.113.1/30 dev out"),
            (_WORLD, "address add 203.0.113.2/30 dev eth0"),
            (_WORLD, f"address add {_ADDRESS}/32 dev eth0"),
            (_NODE, f"link set {card.tap} master {bridge} up"),
            *((_NODE, f"link set {each} up") for each in (bridge, "out")),
            *((each, "link set eth0 up") for each in (_GUEST, _WORLD)),
            (_GUEST, f"route add default via {gateway}"),
            (_WORLD, "route add default via 203.0.113.1"),
            (_NODE, f"route add {_ADDRESS}/32 via 203.0.113.2"),
            *(() if whole else ((_GUEST, "link set eth0 gso_max_segs 1"),)),
        ):
            sh("ip", "-n", where, *line.split())
        _in(_NODE, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        yield
    finally:
        for name in (_GUEST, _NODE, _WORLD):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def _in(network: str, *argv: str) -> str:
    return sh("ip", "netns", "exec", network, *argv)
