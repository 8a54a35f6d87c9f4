"""Private networks that span nodes: what of VXLAN a node needs for them. Pure; see vxlan.py.

Each network has one device, a port of its bridge. Nothing is learnt from what comes in: where each
MAC is, is written into the device's forwarding table and into the bridge's. What is for all goes to
each node of the network (head-end replication).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wnodes_lrms.tunnel import Tunnel, split

_ALL = "00:00:00:00:00:00"  # in a device's table: where that goes which is for all


@dataclass(frozen=True)
class Device:
    """A VXLAN device."""

    name: str
    vni: int
    local: str
    port: int
    mtu: int
    master: str  # the bridge whose port it is


@dataclass(frozen=True)
class Entry:
    """A line of a forwarding table: the device's own, or (`end` is "") the bridge's."""

    mac: str
    end: str = ""


Devices = Mapping[Device, frozenset[Entry]]


def libvirt_name(node: str, network: str) -> str:
    """What libvirt calls an isolated network of this node."""
    return f"wnodes-{network}@{node}"


def bridge_of(node: str, network: str) -> str:
    """The bridge of an isolated network."""
    return "wi-" + _digest(node, network)[:11]


def device_of(prefix: str, node: str, network: str) -> str:
    """Its VXLAN device; `prefix` is Taps.tunnel."""
    return prefix + _digest(node, network)[:8]


def _digest(node: str, network: str) -> str:
    return hashlib.sha256(libvirt_name(node, network).encode()).hexdigest()


def entries(tunnel: Tunnel) -> frozenset[Entry]:
    """The lines of both tables for a network."""
    found = {Entry(_ALL, end) for end in tunnel.ends}
    for end, macs in tunnel.ends.items():
        found |= {Entry(mac, end) for mac in macs} | {Entry(mac) for mac in macs}
    return frozenset(found)


def device_seen(link: Mapping[str, Any]) -> Device:
    """A device, as `ip -json -details link` shows it."""
    data = link["linkinfo"]["info_data"]
    return Device(
        name=link["ifname"],
        vni=data["id"],
        local=data.get("local", ""),
        port=data["port"] if not data.get("learning") else 0,  # not one of ours, then
        mtu=link["mtu"],
        master=link.get("master", ""),
    )


def entries_seen(lines: list[dict[str, Any]], port: int) -> frozenset[Entry]:
    """The lines that matter of what `bridge -json fdb show` tells of a device with this port."""
    found = set()
    for line in lines:
        if "dst" in line:
            found.add(Entry(line["mac"], f"{line['dst']}:{line.get('port', port)}"))
        elif line.get("state") == "static":
            found.add(Entry(line["mac"]))
    return frozenset(found)


def removals(wanted: Devices, found: Devices) -> list[list[str]]:
    """Arguments of ip(8) that take away the devices that are not as they should be."""
    return [["link", "delete", each.name] for each in found if each not in wanted]


def additions(wanted: Devices, found: Devices) -> list[list[str]]:
    """Arguments of ip(8) and bridge(8), the program first, that make the devices that are missing.

    They come up last: with no address of their own (IPv6), and when they don't learn.
    """
    made: list[list[str]] = []
    for each in wanted:
        if each in found:
            continue
        kind = ["type", "vxlan", "id", str(each.vni), "local", each.local]
        port = ["dstport", str(each.port), "nolearning"]
        made += [
            ["ip", "link", "add", each.name, "mtu", str(each.mtu), *kind, *port],
            ["ip", "link", "set", each.name, "addrgenmode", "none", "master", each.master],
            ["bridge", "link", "set", "dev", each.name, "learning", "off"],
            ["ip", "link", "set", each.name, "up"],
        ]
    return made


def table_changes(wanted: Devices, found: Devices) -> list[str]:
    """Lines for `bridge -batch` that make the forwarding tables as they should be."""
    lines = []
    for each, here in wanted.items():
        there = found.get(each, frozenset())
        for gone in sorted(there - here, key=_order):
            lines.append(f"fdb del {_line(gone, each.name)}")
        for new in sorted(here - there, key=_order):
            verb = "append" if new.mac == _ALL else "replace"  # it may have moved
            lines.append(f"fdb {verb} {_line(new, each.name)}")
    return lines


def _order(entry: Entry) -> tuple[str, str]:
    return entry.mac, entry.end


def _line(entry: Entry, device: str) -> str:
    if not entry.end:
        return f"{entry.mac} dev {device} master static"
    address, port = split(entry.end)
    return f"{entry.mac} dev {device} dst {address} port {port} self permanent"
