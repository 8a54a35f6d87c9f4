"""TCP ports of the site: free ones, chosen once, the same until `down`."""

import socket

from .layout import NODES, Memory

TUNNELS = 47891  # UDP, of the first node's tunnels to the others; the next ones follow
NAMES = (
    *("slurmctld", "slurmdbd", "qmaster", "bridge", "page", "issuer", "arex"),
    *(f"slurmd-{node}" for node in NODES),
    *(f"execd-{node}" for node in NODES),
    *(f"api-{node}" for node in NODES),
)


def choose(memory: Memory) -> None:
    """Choose a port for each name, unless that is done."""
    if memory.get("ports") is None:
        memory.set("ports", dict(zip(NAMES, free(len(NAMES)), strict=True)))


def port(memory: Memory, name: str) -> int | None:
    """The port of that name; None before `up` has chosen."""
    number: int | None = memory.get("ports", {}).get(name)
    return number


def free(count: int) -> list[int]:
    """So many TCP ports that nobody listens on now, below those that clients get."""
    found: list[int] = []
    for number in range(16817, 32768):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", number))
            except OSError:
                continue
            found.append(number)
        if len(found) == count:
            break
    return found
