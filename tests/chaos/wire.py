"""What a bait that is watched says to the harness, and how: one line of JSON over a UNIX socket.

The bait's thread waits for the answer. It goes on at once where no harness listens.
"""

import json
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass

from wnodes_lrms.model import Kind, State

VARIABLE = "CHAOS_SOCKET"  # where the harness listens
PATIENCE = 60.0  # seconds that a bait waits for its harness


@dataclass(frozen=True)
class Seen:
    """A machine's state changes on a node, or has changed: `done` says whether it is on disk."""

    node: str
    done: bool
    kind: Kind
    old: State | None
    new: State | None
    machine: str
    job: str
    message: str = ""  # no move, but that of a message to APEL: how far it has come
    device: str = ""  # no move, but a device of a VM that runs: "plug" or "unplug"; done by libvirt

    @property
    def step(self) -> str:
        """The move in words."""
        if self.message:
            return f"message {self.message}"
        if self.device:
            return f"{self.device}, {'done' if self.done else 'not yet done'} by libvirt"
        return f"{self.kind} {self.old or 'nothing'} → {self.new or 'nothing'}"


@dataclass(frozen=True)
class At:
    """A move, and when the harness heard of it (monotonic)."""

    seen: Seen
    time: float


def tell(seen: Seen) -> None:
    """Tell the harness, and wait until it says to go on."""
    path = os.environ.get(VARIABLE, "")
    with suppress(OSError), socket.socket(socket.AF_UNIX) as link:
        link.settimeout(PATIENCE)
        link.connect(path)
        link.sendall(json.dumps(asdict(seen)).encode() + b"\n")
        link.recv(16)


def heard(line: str) -> Seen:
    """The other end of `tell`."""
    values = json.loads(line)
    for name in ("old", "new"):
        values[name] = values[name] and State(values[name])
    return Seen(**values | {"kind": Kind(values["kind"])})
