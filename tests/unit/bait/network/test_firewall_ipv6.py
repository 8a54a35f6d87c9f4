"""IPv6 and the firewall: what a guest may send where its network has it, and where it has not."""

import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from bait.network.addresses import mac_of
from tests.frames import BROADCAST, frame, ipv6, neighbour, udp6
from tests.unit.bait.network.firewallworld import (
    ALICE,
    HOST_MAC,
    LAN_MAC,
    ROAMER_MAC,
    SERVICE,
    TAPS,
    WORLD,
    World,
    cloud,
    names_in,
)
from tests.unit.conftest import needs_root
from wnodes_lrms.addresses import address6_of
from wnodes_lrms.order import Nic
from wnodes_lrms.run import run

pytestmark = [needs_root, pytest.mark.integration]


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
        "leaves": ipv6(link, "ff02::2", 58, neighbour(132, "ff02::1:3", b"<leaves>"), alert),
        "other": ipv6(other, there, 17, b"\0\x09\0\x09\0\x20\0\0<other>"),
        "unknown": ipv6("2001:db8:1::7", there, 17, b"\0\x09\0\x09\0\x20\0\0<unknown>"),
        "router's": ipv6(router, there, 17, b"\0\x09\0\x09\0\x20\0\0<router's>"),
        "ra": ipv6(link, everybody, 58, b"\x86\0\0\0\0\0\0\0<ra>"),
        "redirect": ipv6(link, everybody, 58, neighbour(137, own, b"<redirect>")),
        "querier": ipv6(link, everybody, 58, neighbour(130, "::", b"<querier>"), alert),
        "dhcp": ipv6(own, there, 17, b"\x02\x23\x02\x22\0\x20\0\0<dhcp>"),
        "replies": ipv6(own, there, 17, b"\x1a\x2c\x02\x22\0\x20\0\0<replies>"),
        "greedy": ipv6(link, "ff02::6a", 58, b"\x97\0\0\0\0\0\0\0<greedy>"),
        "lies": ipv6(own, everybody, 58, neighbour(136, other, b"<lies>")),
        "for router": ipv6(link, everybody, 58, neighbour(136, router, b"<for router>")),
        "squats": ipv6("::", everybody, 58, neighbour(135, other, b"<squats>")),
        "hidden": ipv6(link, everybody, 58, b"\x86\0\0\0\0\0\0\0<hidden>", alert),
        "nobody": ipv6("::", there, 17, b"\0\x09\0\x09\0\x20\0\0<nobody>"),
        "closed": ipv6(own, "2001:db8:2::1", 17, b"\0\x09\0\x09\0\x20\0\0<closed>"),
        "metadata": ipv6(link, "fe80::a9fe:a9fe", 17, b"\0\x09\0\x09\0\x20\0\0<metadata>"),
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
    good = {"good", "link", "asks", "answers", "of link", "probes", "solicits"}
    assert heard == good | {"member", "joins", "leaves"}
    assert node == set()


def test_a_guest_does_not_reach_its_node_by_ipv6(
    tmp_path: Path, apart: Callable[..., Any], bridged: int
) -> None:
    """Though the node has an address on that network: by that, by the link's, nor with all."""
    here, node = "2001:db8:1::/64", "2001:db8:1::2"

    def attack() -> set[str]:
        with ExitStack() as stack:
            run(["sysctl", "-q", "-w", "net.ipv6.conf.default.accept_dad=0"], deadline=5)
            world = World(tmp_path, stack, {"subnet6": IPv6Network(here)})
            run(
                ["sysctl", "-q", "-w", f"net.bridge.bridge-nf-call-ip6tables={bridged}"], deadline=5
            )
            run(["ip", "address", "add", f"{node}/64", "dev", "br0", "nodad"], deadline=5)
            world.firewall.keep()
            door = world.door("br0")
            service = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            service.bind(("::", SERVICE + 1))
            service.settimeout(0.1)
            shown = run(["ip", "-6", "-o", "address", "show", "br0", "scope", "link"], deadline=5)
            targets = {"node": node, "link": shown.split()[3].partition("/")[0], "all": "ff02::1"}
            for who, mac in (("guest", LAN_MAC), ("host", HOST_MAC)):
                for name, target in targets.items():
                    source = str(address6_of(mac, "fe80::/64"))
                    body = udp6(source, target, (4000, SERVICE + 1), f"<{who} to {name}>".encode())
                    to = "33:33:00:00:00:01" if name == "all" else door
                    world.send(who, frame(to, mac, 0x86DD, body))
            return names_in(lambda: service.recv(2000))

    assert apart(attack) == {"host to node", "host to link", "host to all"}


def test_a_closed_network_is_so_under_all_addresses_of_its_hosts(
    tmp_path: Path, apart: Callable[..., Any]
) -> None:
    """Those of the link alone, and those of several hosts at once."""
    here, everybody = "2001:db8:1::/64", "255.255.255.255"
    own, link = str(address6_of(LAN_MAC, here)), str(address6_of(LAN_MAC, "fe80::/64"))
    report = struct.pack("!BBHHHI", 143, 0, 0, 0, 1, 0)
    alert = bytes([58, 0, 5, 2, 0, 0, 1, 0])
    sent = {
        "host": ipv6(own, "2001:db8:1::50", 17, b"\0\x09\0\x09\0\x20\0\0<host>"),
        "by link": ipv6(link, "fe80::50", 17, b"\0\x09\0\x09\0\x20\0\0<by link>"),
        "to all": ipv6(link, "ff02::1", 17, b"\0\x09\0\x09\0\x20\0\0<to all>"),
        "as dhcp": ipv6(own, "2001:db8:1::50", 17, b"\x02\x22\x02\x23\0\x20\0\0<as dhcp>"),
        "ping": ipv6(link, "ff02::1", 58, b"\x80\0\0\0\0\0\0\0<ping>"),
        "world": ipv6(own, "2001:db8:9::1", 17, b"\0\x09\0\x09\0\x20\0\0<world>"),
        "asks": ipv6(link, "ff02::1:ff00:1", 58, neighbour(135, "fe80::1", b"<asks>")),
        "answers": ipv6(link, "fe80::1", 58, neighbour(136, link, b"<answers>")),
        "solicits": ipv6(link, "ff02::2", 58, b"\x85\0\0\0\0\0\0\0<solicits>"),
        "member": ipv6(link, "ff02::16", 58, report + b"<member>", alert),
        "dhcp": ipv6(link, "ff02::1:2", 17, b"\x02\x22\x02\x23\0\x20\0\0<dhcp>"),
    }

    def attack() -> set[str]:
        with ExitStack() as stack:
            closed = (IPv4Network("10.9.0.0/16"), IPv6Network("2001:db8:1::/48"))
            world = World(tmp_path, stack, {"subnet6": IPv6Network(here), "closed": closed})
            world.firewall.keep()
            for data in sent.values():
                world.send("guest", frame(HOST_MAC, LAN_MAC, 0x86DD, data))
            world.packet("guest", BROADCAST, everybody, "broadcast")
            world.packet("guest", BROADCAST, "224.0.0.251", "multicast")
            world.packet("guest", HOST_MAC, WORLD, "by ipv4")
            world.packet("guest", BROADCAST, everybody, "renewal", ports=(68, 67))
            return world.heard("host")

    good = {"world", "asks", "answers", "solicits", "member", "dhcp", "by ipv4", "renewal"}
    assert apart(attack) == good


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
