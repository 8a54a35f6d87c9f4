"""A domain's serial console, to type into: a stream of libvirt's.

Each has a thread, and a connection to libvirt of its own. What the guest writes is taken at once,
whatever becomes of it: libvirt's library would keep all that nobody takes. What is typed may have
to wait for a guest that does not read: libvirt then hears nothing more of this connection, and the
library gives it up within half a minute.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Protocol

import libvirt

from wnodes_lrms.console import PIECE
from wnodes_lrms.errors import ConflictError, UnknownError, WnodesError

_EVENTS = libvirt.VIR_STREAM_EVENT_READABLE | libvirt.VIR_STREAM_EVENT_ERROR
_EVENTS |= libvirt.VIR_STREAM_EVENT_HANGUP
_STOPPING = 3.0  # seconds for libvirt to see that a domain has stopped whose console has ended
_AGAIN = 0.1  # seconds

log = logging.getLogger(__name__)


class Listener(Protocol):
    """Who has a console open; called from threads of the console's."""

    def opened(self) -> None:
        """It is open."""

    def heard(self, data: bytes) -> None:
        """The guest wrote this. It must not block."""

    def took(self) -> None:
        """What was typed last has gone to libvirt."""

    def ended(self, error: WnodesError | None) -> None:
        """It is closed, and nothing is left of it. None: its VM has stopped, or close() was called.

        UnknownError: libvirt closed it; others: it could not be opened.
        """


class ConsoleThread(threading.Thread):
    """A console, from when it is opened until it is closed."""

    def __init__(
        self,
        acting: AbstractContextManager[libvirt.virDomain],
        runs: Callable[[], bool],
        listener: Listener,
    ) -> None:
        """`acting` gives the domain, on a connection of its own; `runs` tells whether it still
        does."""
        super().__init__(name="console", daemon=True)
        self._acting = acting
        self._runs = runs
        self._listener = listener
        self._typed: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._closed = False

    def write(self, data: bytes) -> None:
        """Type this."""
        self._typed.put(data)

    def close(self) -> None:
        """Close it; its listener is told when that is done."""
        self._closed = True
        self._typed.put(None)

    def run(self) -> None:
        """Until close(), or until the VM or libvirt ends it."""
        fault: WnodesError | None = None
        try:
            with self._acting as domain:
                self._carry(domain)
            if not self._closed and self._still_runs():
                fault = UnknownError("libvirt has closed the VM's console")
        except WnodesError as error:
            fault = error
        except Exception as error:  # whoever waits for it must hear of its end
            log.exception("a console")
            fault = UnknownError(str(error), told="a fault of the bait's")
        self._listener.ended(fault)

    def _carry(self, domain: libvirt.virDomain) -> None:
        stream = domain.connect().newStream(libvirt.VIR_STREAM_NONBLOCK)
        try:
            domain.openConsole(None, stream, 0)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_OPERATION_FAILED:
                said = "somebody else has the VM's console open: an administrator of the node"
                raise ConflictError(said) from error
            raise
        stream.eventAddCallback(_EVENTS, self._ready, None)
        self._listener.opened()
        try:
            while (data := self._typed.get()) is not None:
                self._send(stream, data)
                self._listener.took()
        except libvirt.libvirtError as error:
            log.info("a console has ended: %s", error)
        finally:
            with suppress(libvirt.libvirtError):
                stream.eventRemoveCallback()
            with suppress(libvirt.libvirtError):
                stream.abort()

    def _ready(self, stream: libvirt.virStream, _events: int, _opaque: object) -> None:
        """In the thread of libvirt's events: take what there is."""
        try:
            data = stream.recv(PIECE)
        except libvirt.libvirtError:
            data = b""
        if isinstance(data, bytes) and data:
            self._listener.heard(data)
        elif data != -2:  # which says: nothing now
            with suppress(libvirt.libvirtError):
                stream.eventRemoveCallback()
            self._typed.put(None)

    def _send(self, stream: libvirt.virStream, data: bytes) -> None:
        while data and not self._closed:
            sent = stream.send(data)
            if sent < 0:
                time.sleep(_AGAIN)
            else:
                data = data[sent:]

    def _still_runs(self) -> bool:
        until = time.monotonic() + _STOPPING
        while self._runs():
            if time.monotonic() > until:
                return True
            time.sleep(_AGAIN)
        return False
