"""Attacks by guests on the networks of their node: on the node itself, on what is beside it, and
on other guests.
"""

import base64
import contextlib
import json
import re
import shlex
import socket
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from tests import frames
from tests.e2e.box import USER, call, wait_until
from tests.e2e.listening import listening
from tests.e2e.lrms.slurm import Submit
from tests.e2e.occi import INFRA, Cloud, Key, Machine
from tests.frames import BROADCAST, frame, udp

NODE_OF = {"wn-box-hv1": "hv1", "wn-box-hv2": "hv2"}
OUTSIDE, BESIDE = "198.51.100.7", "203.0.113.2"  # of a host behind a router, and of that router
EVERYWHERE = ("0.0.0.0", "*", "[::]")  # noqa: S104
Ends = list[tuple[str, int]]


@pytest.fixture
def outside() -> Iterator[None]:
    """A network beside the node, with a router on it, and behind that a host of the world's."""
    for line in (
        "ip netns add outside",
        "ip link add out type veth peer name in netns outside",
        "ip address add 203.0.113.1/30 dev out",
        "ip link set out up",
        f"ip -n outside address add {BESIDE}/30 dev in",
        f"ip -n outside address add {OUTSIDE}/32 dev in",
        "ip -n outside link set in up",
        f"ip route add {OUTSIDE}/32 via {BESIDE}",
    ):
        call(*line.split())
    # The nodes see at their next round that they are on one more network.
    wait_until(
        lambda: all("203.0.113.0/30" in closed(node) for node in NODE_OF.values()),
        30,
        "the network beside the nodes is closed",
    )
    yield
    call("ip", "netns", "delete", "outside")
    call("ip", "link", "delete", "out", check=False)


def closed(node: str) -> str:
    """What a node closes to its guests, as the kernel has it."""
    return call("nft", "list", "set", "inet", f"wnodes-{node}", "closed")


def tries(closed: Iterable[tuple[str, int]], opened: Iterable[tuple[str, int]] = ()) -> str:
    """A bash script that says which of these it can connect to. All at once: most are waited for.

    Those that must be open are asked until they answer, however busy the machine is.
    """
    once = "(: </dev/tcp/{0}/{1} && echo reached {0} {1}) 2>/dev/null &"
    until = "until (: </dev/tcp/{0}/{1}) 2>/dev/null; do sleep 0.2; done; echo reached {0} {1}"
    lines = [once.format(*end) for end in closed] + [until.format(*end) for end in opened]
    return "\n".join([*lines, "sleep 5", "kill $(jobs -p) 2>/dev/null", "true"])


def bash(script: str) -> str:
    """A command for whatever shell there is."""
    return f"bash -c {shlex.quote(script)}"


def reached(said: str) -> Ends:
    """What such a script has said."""
    words = [line.split() for line in said.splitlines() if line.startswith("reached ")]
    return sorted((address, int(port)) for _, address, port in words)


def addresses() -> dict[str, list[str]]:
    """The IPv4 addresses of the node, by interface."""
    found = json.loads(call("ip", "-json", "-4", "address"))
    return {link["ifname"]: [a["local"] for a in link["addr_info"]] for link in found}


def where(machine: Machine) -> tuple[str, str]:
    """The bridge that the machine is on, and the node's address there."""
    for bridge in NODE_OF:
        (gateway,) = addresses()[bridge]
        if _net(gateway) == _net(machine.address()):
            return bridge, gateway
    raise AssertionError(f"{machine.address()} is on neither node: {addresses()}")


def _net(address: str) -> str:
    """The /24 that it is in: the site gives each node one."""
    return address.rpartition(".")[0]


def services() -> list[int]:
    """Every TCP port that is open on all addresses of the node: Slurm's daemons', mostly."""
    ends = [line.split()[3] for line in call("ss", "-Htln").splitlines()]
    return sorted(
        {int(port) for end in ends for host, _, port in [end.rpartition(":")] if host in EVERYWHERE}
    )


@pytest.mark.usefixtures("outside")
def test_guests_reach_the_world_and_nothing_of_the_node_or_of_each_other(
    alice: Cloud, key: Key, submit: Submit
) -> None:
    """Guests want: the node's services on any of its addresses, its networks, other guests."""
    machine = alice.machine(key=key).wait("active")
    _bridge, gateway = where(machine)
    with listening() as port, listening("outside") as beyond:
        own = [a for found in addresses().values() for a in found if not a.startswith("127.")]
        assert len(own) >= 4, own
        assert len(services()) >= 4, services()  # slurmctld, each slurmd, and the one of this test
        ends = [(address, number) for address in own for number in services()]
        ends += [(BESIDE, beyond), ("169.254.169.254", port)]
        # The jobs wait until all guests are there, and then try them all.
        script = "while ! [ -e go ]; do sleep 0.2; done; . ./go; touch $SLURM_JOB_ID.done; sleep 60"
        jobs = [submit(script, f"--nodelist={n}", "--mem=256") for n in NODE_OF.values()]
        guests = [str(job.in_state("ready")["address"]) for job in jobs]
        ends += [(guest, 22) for guest in (*guests, machine.address())]
        go = jobs[0].folder / "go"
        fresh = go.with_suffix(".new")  # a job that sees it has all of it
        fresh.write_text(tries(ends, [(OUTSIDE, beyond)]))
        fresh.rename(go)
        said = machine.ssh(bash(tries(ends, [(OUTSIDE, beyond)])))
        # By way of the node: the frame is for it, the packet for the neighbour.
        neighbours = [guest for guest in guests if _net(guest) == _net(gateway)]
        routes = [f"ip route replace {guest}/32 via {gateway}" for guest in neighbours]
        hairpin = machine.ssh(bash("\n".join([*routes, tries((g, 22) for g in neighbours)])))
        for job in jobs:
            wait_until((job.folder / f"{job.number}.done").exists, 60, f"{job.output}{job.error}")
        wait_until(lambda: all((OUTSIDE, beyond) in reached(job.output) for job in jobs), 30, "")
        go.unlink()
        for job in jobs:
            job.cancel()
    own_door = (machine.address(), 22)
    assert reached(said) == sorted([(OUTSIDE, beyond), own_door])
    assert reached(hairpin) == []
    for job, guest in zip(jobs, guests, strict=True):
        assert reached(job.output) == sorted([(OUTSIDE, beyond), (guest, 22)])
    assert "1 packets received" in machine.ssh(f"ping -c 1 -w 5 {gateway}")
    assert "127.0.0.1" in machine.ssh(f"nslookup localhost {gateway} || true")


def test_what_a_guest_sends_under_another_name_or_in_the_nodes_place_is_dropped(
    alice: Cloud, key: Key
) -> None:
    """A guest's root wants: others' traffic, by answering for their router and DHCP server."""
    machine = alice.machine(key=key).wait("active")
    bridge, gateway = where(machine)
    address = machine.address()
    mac = machine.ssh("cat /sys/class/net/eth0/address").strip()
    door = Path(f"/sys/class/net/{bridge}/address").read_text().strip()
    other = f"{_net(address)}.200"
    evil = "52:54:00:66:66:66"
    sent = {
        "good": frame(door, mac, 0x0800, udp(address, gateway, (9, 53), b"<good>")),
        "asks": frame(BROADCAST, mac, 0x0806, frames.arp(1, mac, address, other, b"<asks>")),
        "dhcp": frame(BROADCAST, mac, 0x0800, udp(address, BROADCAST_IP, (67, 68), b"<dhcp>")),
        "mac": frame(door, evil, 0x0800, udp(address, gateway, (9, 53), b"<mac>")),
        "address": frame(door, mac, 0x0800, udp(other, gateway, (9, 53), b"<address>")),
        "router": frame(door, mac, 0x0800, udp(gateway, gateway, (9, 53), b"<router>")),
        "lie": frame(BROADCAST, mac, 0x0806, frames.arp(2, mac, gateway, other, b"<lie>")),
        "liar": frame(BROADCAST, mac, 0x0806, frames.arp(2, evil, address, other, b"<liar>")),
        "ra": frame("33:33:00:00:00:01", mac, 0x86DD, frames.advertisement(b"<ra>")),
        "stp": frame("01:80:c2:00:00:00", mac, 38, b"\x42\x42\x03" + bytes(30) + b"<stp>"),
        "lldp": frame("01:80:c2:00:00:0e", mac, 0x88CC, b"<lldp>"),
        "else": frame(BROADCAST, mac, 0x88B5, b"<else>"),
        "vlan": frame(
            door,
            mac,
            0x8100,
            b"\0\x05\x08\0" + udp(address, gateway, (9, 53), b"<vlan>"),
        ),
    }
    index = int(machine.ssh("cat /sys/class/net/eth0/ifindex"))
    seen = arrivals(bridge, machine, frames.sender(index, list(sent.values())), sent)
    assert seen == ["asks", "good"]
    # Nor do others find it by a name that it says as it asks for its address.
    machine.ssh("udhcpc -i eth0 -x hostname:fileserver -n -q -s /bin/true")
    assert address not in machine.ssh(f"nslookup fileserver {gateway} || true")


BROADCAST_IP = "255.255.255.255"


def arrivals(
    bridge: str, machine: Machine, program: bytes, names: Sequence[str] | dict[str, bytes]
) -> list[str]:
    """Which of the frames that the program sends come to the node, by what they bear."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as tap:
        tap.bind((bridge, 0))
        tap.settimeout(1)
        text = base64.b64encode(program).decode()
        machine.ssh(f"echo {text} | base64 -d >/tmp/send; chmod 700 /tmp/send; /tmp/send")
        found = set()
        try:
            while True:
                data = tap.recv(65536)
                found |= {name for name in names if f"<{name}>".encode() in data}
        except TimeoutError:
            return sorted(found)


USER_SENDS = (
    "import socket, sys; link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
    " link.sendto(bytes.fromhex(sys.argv[1]), ('127.0.0.1', int(sys.argv[2])))"
)


def test_only_nodes_get_into_a_private_network_that_spans_them(alice: Cloud, key: Key) -> None:
    """A host beside the nodes, or a user of one, wants: to speak in others' private networks."""
    own = {
        "mixins": [f"{INFRA}/network#ipnetwork"],
        "attributes": {"occi.network.address": "10.124.0.0/24"},
    }
    link = {
        "kind": f"{INFRA}#networkinterface",
        "target": {"location": alice.create("network", own), "kind": f"{INFRA}#network"},
    }
    # The first takes all cores of its node: the second is on the other one.
    pair = [alice.machine(template=size, key=key, links=[link]) for size in ("medium", "small")]
    for machine in pair:
        machine.wait("active")
    wait_until(lambda: sorted(map(len, far_cards().values())) == [1, 1], 30, "tunnels both ways")
    for device, (mac,) in far_cards().items():
        (shown,) = json.loads(call("ip", "-json", "-details", "link", "show", "dev", device))
        data, port = shown["linkinfo"]["info_data"], shown["linkinfo"]["info_data"]["port"]
        ports = Path(f"/sys/class/net/{shown['master']}/brif").iterdir()
        (tap,) = {each.name for each in ports} - {device}

        def packet(name: str, source: str, vni: int = data["id"]) -> bytes:
            inner = frame(BROADCAST, source, 0x88B5, f"<{name}>".encode())
            return b"\x08\0\0\0" + vni.to_bytes(3, "big") + b"\0" + inner  # RFC 7348, 5

        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as heard:
            heard.bind((tap, 0))
            heard.settimeout(1)
            argv = ["python3", "-c", USER_SENDS, packet("user", mac).hex(), str(port)]
            user = ["runuser", "-u", USER, "--", *argv]
            tried = subprocess.run(user, capture_output=True, text=True, check=False)
            assert "PermissionError" in tried.stderr
            for address, name, source in (
                ("127.0.0.9", "beside", mac),
                ("127.0.0.1", "stranger", "52:54:00:66:66:66"),
                ("127.0.0.1", "node", mac),
            ):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                    sender.bind((address, 0))
                    sender.sendto(packet(name, source), ("127.0.0.1", port))
            assert names_in(heard) == {"node"}


def far_cards() -> dict[str, set[str]]:
    """The MACs that each VXLAN device of the site knows the place of."""
    found = {}
    for device in Path("/sys/class/net").glob("wx*"):
        lines = json.loads(call("bridge", "-json", "fdb", "show", "dev", device.name))
        macs = {line["mac"] for line in lines if "dst" in line}
        found[device.name] = macs - {"00:00:00:00:00:00"}  # which is for all
    return found


def names_in(heard: socket.socket) -> set[str]:
    """What comes there, by the names that it bears, until nothing does for a while."""
    found: set[str] = set()
    with contextlib.suppress(TimeoutError):
        while True:
            found |= {name.decode() for name in re.findall(rb"<([a-z]+)>", heard.recv(4000))}
    return found
