"""The control socket: a line of JSON in, lines of JSON out. The kernel says who is calling.

Who may connect, and how often, is in frontend/connections.py.
What may be asked for, and by whom, is the table in frontend/operations.py.
"""

import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bait.batch.controller import BatchController
from bait.cloud.controller import CloudController
from bait.frontend.connections import LineServer
from bait.frontend.limits import limits_for
from bait.frontend.operations import OPERATIONS, Caller, Parts, Who
from bait.frontend.place import SocketPlace
from bait.reconcile.reconciler import Reconciler
from wnodes_lrms.descriptors import allow_many
from wnodes_lrms.errors import RejectedError, WnodesError
from wnodes_lrms.log import ids

log = logging.getLogger(__name__)


class Server(LineServer):
    """Listens on the socket and answers every caller in a thread of its own."""

    def __init__(
        self, path: Path, reconciler: Reconciler, batch: BatchController, cloud: CloudController
    ) -> None:
        """Take the socket's place, also after an end without clean-up. Raises WnodesError."""
        self.parts = Parts(reconciler, batch, cloud)
        try:
            super().__init__(SocketPlace(path), limits_for(allow_many()), self._answer_to)
        except OSError as error:
            raise WnodesError(f"control socket {path}: {error}") from error

    def _answer_to(self, pid: int, uid: int, line: bytes) -> Iterator[dict[str, Any]]:
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise ValueError
        except (ValueError, RecursionError):  # the latter: very many brackets
            yield {"ok": False, "error": "a line with a JSON object is needed", "end": True}
            return
        try:
            yield from _serve(self.parts, request, Caller(pid, uid))
        except WnodesError as error:
            yield {
                "ok": False,
                "error": _told(request, error, uid),
                "retry": error.retry,
                "end": True,
            }
        except Exception:
            log.exception("internal fault, asked for %s", request.get("op"))
            yield {"ok": False, "error": "internal fault of the bait, see its log", "end": True}


def _told(request: dict[str, Any], error: WnodesError, uid: int) -> str:
    """An error for its reader: for users in words, and then the log has the whole."""
    if uid == 0 or not error.told:
        return str(error)
    about = str(request.get("job"))
    log.error("%s: %s", request.get("op"), error, extra=ids(about))
    return error.words(about)


def _serve(parts: Parts, request: dict[str, Any], by: Caller) -> Iterator[dict[str, Any]]:
    name = request.get("op")
    operation = OPERATIONS.get(name) if isinstance(name, str) else None
    if by.uid != 0 and (operation is None or operation.who is Who.ROOT):
        raise RejectedError(f"only root may ask for «{name}»")
    if operation is None:
        raise RejectedError(f"unknown request «{name}»")
    yield from operation.answers(parts, request, by)


def notify(state: str) -> None:
    """Tell the service manager, if there is one: the protocol of sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
        link.connect("\0" + address[1:] if address.startswith("@") else address)
        link.sendall(state.encode())
