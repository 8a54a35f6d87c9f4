"""The client's side of a bait's control socket."""

import errno
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import RejectedError, UnknownError

_LONGEST = 16 << 20  # bytes of an answer: listings have all of a node's machines
_NODE = "%n"


def sockets(config: Config) -> dict[str, Path]:
    """The sockets of the baits on this host, by node name; only a site in a box has several."""
    pattern = config.bait.socket
    if _NODE not in pattern:
        return {"localhost": Path(pattern)}
    before, _, after = pattern.partition(_NODE)
    found = Path("/").glob(pattern.replace(_NODE, "*").lstrip("/"))
    names = ((str(path).removeprefix(before), path) for path in sorted(found))
    return {name.split("/")[0].removesuffix(after): path for name, path in names}


def none_here(config: Config, node: str | None = None) -> UnknownError:
    """What to raise where no bait, or not that of a node, has a socket on this host."""
    whose = f" of node {node}" if node else ""
    where = config.bait.socket.replace(_NODE, node or "NODE")
    return UnknownError(
        f"no bait{whose} runs on this host, as there is no {where}: start wnodes-bait"
    )


def ask(path: Path, deadline: float, **request: object) -> dict[str, Any]:
    """The last answer of the bait at `path`; `deadline` is in seconds of silence.

    Raises UnknownError if it does not answer, RejectedError with its reason if it refuses.
    """
    last: dict[str, Any] = {}
    try:
        for last in _answers(path, deadline, request):  # noqa: B007 (only the last one counts)
            pass
    except TimeoutError as error:
        raise UnknownError(f"the bait at {path} does not answer within {deadline:g} s") from error
    except OSError as error:
        raise UnknownError(
            f"the bait at {path} can't be reached: {error.strerror}; is wnodes-bait running?"
        ) from error
    if not last.get("ok"):
        raise RejectedError(str(last.get("error", f"the bait at {path} broke off")))
    return last


def _answers(path: Path, deadline: float, request: object) -> Iterator[dict[str, Any]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(deadline)
        link.connect(str(path))
        link.sendall(json.dumps(request).encode() + b"\n")
        lines = link.makefile("rb")
        while line := lines.readline(_LONGEST):
            if not line.endswith(b"\n"):
                raise OSError(errno.EMSGSIZE, "it broke off, or its answer is too long")
            yield json.loads(line)
