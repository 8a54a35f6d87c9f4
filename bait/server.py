"""The control socket: a line of JSON in, lines of JSON out. The kernel says who is calling.

Requests: attach, again (starters), lease, lease-ending (lease jobs), and what root may ask for, the
LRMS's hooks and administrators: bait/operations.py. The last line of an answer has "end": true.
"""

import json
import logging
import os
import socket
import socketserver
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from bait.again import again
from bait.cloud import Cloud
from bait.engine import Engine
from bait.node import Node
from bait.operations import OPERATIONS, text
from wnodes_lrms.errors import RejectedError, WnodesError
from wnodes_lrms.order import lease_named_in

_LONGEST = 131072  # bytes of a request: a lease program of 0.4 sends an order with its user's data
_PATIENCE = 10.0  # seconds for a caller to say what it wants, or to take an answer
_PER_USER = 512  # connections of one ordinary user at once

log = logging.getLogger(__name__)


class Server(socketserver.ThreadingUnixStreamServer):
    """Listens on the socket and answers every caller in a thread of its own."""

    daemon_threads = True
    request_queue_size = 1024  # a caller with a timeout gets EAGAIN when it is full, and no wait

    def __init__(self, path: Path, node: Node, engine: Engine, cloud: Cloud) -> None:
        """Take the socket's place, also after an end without clean-up. Raises WnodesError."""
        self.node = node
        self.engine = engine
        self.cloud = cloud
        self.callers: Counter[int] = Counter()
        self.guard = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            path.unlink(missing_ok=True)
            super().__init__(str(path), _Handler)
            path.chmod(0o666)
        except OSError as error:
            raise WnodesError(f"control socket {path}: {error}") from error

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A caller that goes away in the middle is nothing to report."""
        log.debug("a caller went away", exc_info=True)


class _Handler(socketserver.StreamRequestHandler):
    server: Server
    connection: socket.socket

    def handle(self) -> None:
        uid = _peer_uid(self.connection)
        with self.server.guard:
            self.server.callers[uid] += 1
            many = self.server.callers[uid] > _PER_USER
        try:
            self.connection.settimeout(_PATIENCE)
            if many and uid != 0:
                self._say({"ok": False, "error": "too many connections", "end": True})
                return
            for answer in self._answers(uid):
                self._say(answer)
        finally:
            with self.server.guard:
                self.server.callers[uid] -= 1

    def _answers(self, uid: int) -> Iterator[dict[str, Any]]:
        try:
            request = json.loads(self.rfile.readline(_LONGEST))
            if not isinstance(request, dict):
                raise ValueError
        except (ValueError, RecursionError):  # the latter: very many brackets
            yield {"ok": False, "error": "a line with a JSON object is needed", "end": True}
            return
        try:
            yield from _serve(self.server, request, uid)
        except WnodesError as error:
            yield {"ok": False, "error": str(error), "retry": error.retry, "end": True}
        except Exception:
            log.exception("internal fault, asked for %s", request.get("op"))
            yield {"ok": False, "error": "internal fault of the bait, see its log", "end": True}

    def _say(self, answer: dict[str, Any]) -> None:
        self.wfile.write(json.dumps(answer).encode() + b"\n")


def _serve(server: Server, request: dict[str, Any], uid: int) -> Iterator[dict[str, Any]]:
    done = {"ok": True, "end": True}
    op = request.get("op")
    if op == "attach":
        yield from server.engine.attach(text(request, "job"), uid)
        yield done
        return
    if op == "again":
        yield from again(server.engine, text(request, "job"), uid)
        yield done
        return
    if op == "lease":
        yield from server.cloud.jobs.attend(_lease(request), text(request, "job"), uid)
        return
    if op == "lease-ending":
        server.cloud.jobs.ending(text(request, "job"), uid)
        yield done
        return
    if uid != 0:
        raise RejectedError(f"only root may ask for «{op}»")
    operation = OPERATIONS.get(op) if isinstance(op, str) else None
    if operation is None:
        raise RejectedError(f"unknown request «{op}»")
    yield operation(server.node, server.engine, request) | done


def _lease(request: dict[str, Any]) -> str:
    """The lease that a lease program says it is. Raises RejectedError if that can't be one."""
    token = request.get("token")
    if isinstance(token, str):  # of 0.4: it runs for as long as its lease
        return lease_named_in(token)
    try:
        return str(UUID(text(request, "lease")))
    except ValueError:
        raise RejectedError("lease: a UUID is needed") from None


def _peer_uid(connection: socket.socket) -> int:
    size = struct.calcsize("3i")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _pid, uid, _gid = struct.unpack("3i", credentials)
    return int(uid)


def notify(state: str) -> None:
    """Tell the service manager, if there is one: the protocol of sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
        link.connect("\0" + address[1:] if address.startswith("@") else address)
        link.sendall(state.encode())
