"""How large a run is, and where everything of it is."""

import os
from dataclasses import dataclass
from pathlib import Path

from contrib.site.box.layout import REPOSITORY, Layout

USERS = 500
FIRST_UID = 20001
ACCOUNT = "scalecloud"  # that leases run as
BRIDGE = "wnodes-bridge"
IMAGE = "guest_linux_x86_64"
BASE = "/C=IT/O=Scale"
PROGRAMS = REPOSITORY / ".venv" / "bin"
BRIDGES = ("bridge-1", "bridge-2")

# All of it is in a network of its own (contrib/site/apart): any port is free.
CONTROLLER_PORT = 16817
NODE_PORTS = 17000
API_PORTS = 18000
BRIDGE_PORTS = {name: 11443 + number for number, name in enumerate(BRIDGES)}


@dataclass(frozen=True)
class Size:
    """So many nodes, and VMs on all of them together."""

    nodes: int
    vms: int

    @property
    def names(self) -> list[str]:
        """The nodes, as Slurm calls them."""
        return [f"n{number:03}" for number in range(1, self.nodes + 1)]

    @property
    def slots(self) -> int:
        """VMs that a node has room for: a fifth more than it gets, for those that come and go."""
        return max(2, -(-self.vms * 6 // (5 * self.nodes)))


def user(number: int) -> str:
    """The name of a user, of batch jobs and of VMs, counted from 0."""
    return f"u{number % USERS + 1:03}"


def dn(name: str) -> str:
    """Their DN."""
    return f"{BASE}/OU=People/CN={name}"


def host_dn(name: str) -> str:
    """The DN of a node or a bridge."""
    return f"{BASE}/OU=Hosts/CN={name}"


def layout() -> Layout:
    """Where it is: $WNODES_SITE, or /var/lib/wnodes-scale."""
    return Layout(Path(os.environ.get("WNODES_SITE") or "/var/lib/wnodes-scale"))
