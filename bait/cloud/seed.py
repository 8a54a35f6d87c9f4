"""The seed of a cloud VM: what its user wants to find in it, in the layout of NoCloud.

Source: cloud-init's documentation, "NoCloud" (public keys and host name in meta-data; user-data
as the user gave it; vendor-data for what they may overrule) and "Networking config Version 2".
"""

import base64
import json
from dataclasses import dataclass

from bait.machine.seed import Interface, KeyPair, ethernet
from wnodes_lrms.resources import render


@dataclass(frozen=True)
class CloudGuest:
    """What a cloud VM has to know of itself."""

    id: str
    hostname: str
    ssh_keys: tuple[str, ...]
    user_data: str  # base64
    interfaces: tuple[Interface, ...]
    host_key: KeyPair


def files(guest: CloudGuest, context: str) -> dict[str, str]:
    """The texts on the seed, by name. `context` is the image's: script or cloud-init."""
    user_data = base64.b64decode(guest.user_data).decode("utf-8", "surrogateescape")
    if context == "script":
        interfaces = [(f"eth{n}", i) for n, i in enumerate(guest.interfaces)]
        runs = user_data.startswith("#!")
        user_data = render("cloud.sh.j2", guest=guest, interfaces=interfaces, runs=runs)
    return {
        "meta-data": json.dumps(
            {
                "instance-id": guest.id,
                "local-hostname": guest.hostname,
                "public-keys": list(guest.ssh_keys),
            }
        ),
        "user-data": user_data or "#cloud-config\n{}\n",
        # The guest's own name has an address: see hosts in cloud.sh.j2.
        "vendor-data": "#cloud-config\n" + json.dumps({"manage_etc_hosts": "localhost"}),
        "network-config": json.dumps(_network(guest)),
    }


def _network(guest: CloudGuest) -> dict[str, object]:
    return {
        "version": 2,
        "ethernets": {
            f"eth{number}": _ethernet(f"eth{number}", interface)
            for number, interface in enumerate(guest.interfaces)
        },
    }


def _ethernet(name: str, interface: Interface) -> dict[str, object]:
    router = {"nameservers": {"addresses": [interface.gateway]}} if interface.gateway else {}
    return {**ethernet(name, interface), **router}
