"""A part of the site that is a process: how to start it and how to know that it is ready."""

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import SiteError
from .process import Processes, wait_until
from .report import step


@dataclass(frozen=True)
class Part:
    """A daemon in the foreground; `ready` asks it something that only a working one answers."""

    name: str
    argv: Sequence[str]
    ready: Callable[[], bool]
    remedy: str = "see what its log says; then `site up` again, which keeps what is up"
    env: Mapping[str, str] = field(default_factory=dict)
    patience: float = 20  # seconds from start to ready


def launch(part: Part, processes: Processes, prefix: Sequence[str] = ()) -> None:
    """Start the part unless it lives; `prefix` goes before its command."""
    if processes.pid(part.name) is None:
        processes.start(part.name, [*prefix, *part.argv], part.env)


def bring_up(part: Part, processes: Processes, prefix: Sequence[str] = ()) -> None:
    """Start the part unless it lives, and wait until it is ready.

    Raises SiteError, with its log, if it ends or is not ready in time.
    """
    with step(part.name):
        launch(part, processes, prefix)
        settled = wait_until(
            lambda: part.ready() or processes.pid(part.name) is None, part.patience
        )
        require_alive(part, processes)
        if not settled:
            raise SiteError(
                f"{part.name} was not ready after {part.patience:.0f} s",
                part.remedy,
                processes.log(part.name),
            )


def require_alive(part: Part, processes: Processes) -> None:
    """Raises SiteError, with its log, if the part has ended."""
    if processes.pid(part.name) is None:
        raise SiteError(f"{part.name} ended by itself", part.remedy, processes.log(part.name))


def listens(path: Path) -> bool:
    """Whether someone takes connections on a UNIX socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True
