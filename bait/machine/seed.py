"""The seed: the small disk that tells a VM who it is, in the layout of cloud-init's NoCloud.

Source of the layout: cloud-init's documentation, "NoCloud" (volume label cidata; meta-data,
user-data, network-config) and "Networking config Version 2".
"""

import io
import ipaddress
import json
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bait.machine.hardware import SCRATCH_SERIAL
from wnodes_lrms.model import Owner
from wnodes_lrms.resources import render

SCRATCH = "/run/wnodes/scratch"  # where a guest has its scratch disk
_METRIC = 1000  # of the way by the node, where the guest may learn of another
_SMALLEST = 1 << 17  # bytes; on a smaller disk busybox finds no label, for it reads further first


@dataclass(frozen=True)
class KeyPair:
    """An Ed25519 key in OpenSSH's text forms."""

    private: str
    public: str


def key_pair() -> KeyPair:
    """A new key."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return KeyPair(private.decode(), public.decode())


@dataclass(frozen=True)
class Interface:
    """A network card as its guest is told of it."""

    mac: str
    address: str | None = None  # by IPv4, with the prefix's length
    gateway: str | None = None
    address6: str | None = None  # beside it, with the prefix's length
    gateway6: str | None = None  # without it, a router's advertisements tell
    dhcp: bool = False  # the guest asks for its address by IPv4
    mtu: int | None = None  # bytes of a packet, where it has to be told


@dataclass(frozen=True)
class Guest:
    """What a VM has to know of itself."""

    id: str
    hostname: str
    mac: str
    address: ipaddress.IPv4Address
    subnet: ipaddress.IPv4Network
    host_key: KeyPair
    owner: Owner
    public_key: str
    workdir: str
    shares: tuple[str, ...]
    scratch: bool = False  # it has a scratch disk
    others: tuple[Interface, ...] = ()  # its other cards


def files(guest: Guest, context: str) -> dict[str, str]:
    """The texts on the seed, by name. `context` is the image's: script or cloud-init."""
    cloud_init = context == "cloud-init"
    script = render(
        "context.sh.j2",
        network=not cloud_init,
        hostname=guest.hostname,
        address=guest.address,
        prefix=guest.subnet.prefixlen,
        gateway=guest.subnet[1],
        host_key=guest.host_key.private,
        public_key=guest.public_key,
        owner=guest.owner,
        shares=guest.shares,
        others=guest.others,
        metric=_METRIC,
        scratch=SCRATCH if guest.scratch else None,
        scratch_serial=SCRATCH_SERIAL,
        make_home=not _within(guest.owner.home, guest.shares),
        make_top=_top(guest.workdir, guest.shares),
    )
    return {
        "meta-data": json.dumps({"instance-id": guest.id, "local-hostname": guest.hostname}),
        "user-data": _cloud_config(guest, script) if cloud_init else script,
        "network-config": json.dumps(_network(guest)),
    }


def _top(workdir: str, shares: tuple[str, ...]) -> str:
    """The folder in / that a working directory is below; empty where a shared folder has it."""
    if not workdir.startswith("/"):
        return ""
    path = "/" + os.path.normpath(workdir).lstrip("/")
    return "" if path == "/" or _within(path, shares) else "/".join(path.split("/")[:2])


def _within(path: str, shares: tuple[str, ...]) -> bool:
    return any(Path(path).is_relative_to(share) for share in shares)


def _cloud_config(guest: Guest, script: str) -> str:
    # JSON is YAML. bootcmd runs before cloud-init's own user and SSH modules, and before sshd.
    config = {
        "users": [],
        "disable_root": True,
        "ssh_pwauth": False,
        "ssh_keys": {
            "ed25519_private": guest.host_key.private,
            "ed25519_public": guest.host_key.public,
        },
        "bootcmd": [["sh", "-c", script]],
    }
    return "#cloud-config\n" + json.dumps(config)


def ethernet(name: str, interface: Interface) -> dict[str, object]:
    """A card as cloud-init has it."""
    found: dict[str, object] = {
        "match": {"macaddress": interface.mac},
        "set-name": name,
    }
    if interface.mtu:
        found["mtu"] = interface.mtu
    if interface.dhcp:
        found["dhcp4"] = True
    addresses = [each for each in (interface.address, interface.address6) if each]
    if addresses:
        found["addresses"] = addresses
    ways = (("0.0.0.0/0", interface.gateway), ("::/0", interface.gateway6))
    routes = [{"to": target, "via": router} for target, router in ways if router]
    if routes:
        found["routes"] = routes
    return found


def _network(guest: Guest) -> dict[str, object]:
    by_the_node: dict[str, object] = {"to": "0.0.0.0/0", "via": str(guest.subnet[1])}
    if guest.others:
        by_the_node["metric"] = _METRIC
    others = {
        f"eth{number}": ethernet(f"eth{number}", other)
        for number, other in enumerate(guest.others, start=1)
    }
    return {
        "version": 2,
        "ethernets": {
            "eth0": {
                "match": {"macaddress": guest.mac},
                "set-name": "eth0",
                "addresses": [f"{guest.address}/{guest.subnet.prefixlen}"],
                "routes": [by_the_node],
                "nameservers": {"addresses": [str(guest.subnet[1])]},
            },
            **others,
        },
    }


def write(path: Path, texts: dict[str, str]) -> None:
    """Write the texts as an ISO 9660 image with the volume label cidata."""
    import pycdlib  # 2 MiB, which a node that never has a VM does without

    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, vol_ident="cidata", rock_ridge="1.09")
    for number, (name, text) in enumerate(texts.items()):
        data = os.fsencode(text)  # names of folders need not be UTF-8
        iso.add_fp(io.BytesIO(data), len(data), f"/FILE{number}.;1", rr_name=name)
    path.touch(mode=0o600)
    iso.write(str(path))
    iso.close()
    if path.stat().st_size < _SMALLEST:
        os.truncate(path, _SMALLEST)
