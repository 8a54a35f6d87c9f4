"""Connections to libvirt: one for all questions, one of its own for each operation.

libvirt answers five requests of a connection at a time, and an operation on a guest whose QEMU
hangs may take for ever: on a connection of its own it keeps nobody else waiting. Destroying and
listing are answered by threads of libvirt's own, even while all others hang.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import libvirt

from wnodes_lrms.errors import UnknownError

_KEEPALIVE = (5, 3)  # seconds between probes, probes without answer before the link is given up
_PATIENCE = 10.0  # seconds for a connection to be made
_BREATH = 1.0  # seconds, after a fault of the loop of events

log = logging.getLogger(__name__)


class Connections:
    """The connections to one libvirt."""

    def __init__(self, uri: str, opened: Callable[[libvirt.virConnect], None]) -> None:
        """`opened` is called with each new connection for questions, before it is used."""
        self.uri = uri
        self._opened = opened
        self._lock = threading.Lock()
        self._shared: libvirt.virConnect | None = None
        self._opening: _Opening | None = None
        _start_event_loop()

    def shared(self) -> libvirt.virConnect:
        """The connection for questions. Raises UnknownError if libvirt does not answer."""
        with self._lock:
            if self._shared is None or not self._shared.isAlive():
                self._shared = None
                link = self._open()
                self._opened(link)
                self._shared = link
            return self._shared

    @contextmanager
    def own(self) -> Iterator[libvirt.virConnect]:
        """A connection for one operation. Raises UnknownError if libvirt does not answer."""
        self.shared()  # has the network there; and tells at once that nobody answers
        link = self._open_now()
        try:
            yield link
        finally:
            with suppress(libvirt.libvirtError):
                link.close()

    def _open(self) -> libvirt.virConnect:
        """A libvirt that hangs takes a connection and says nothing: nobody waits for it long."""
        if self._opening is None:
            self._opening = _Opening(self._open_now)
            self._opening.start()
        self._opening.join(_PATIENCE)
        if self._opening.is_alive():
            raise UnknownError(f"libvirt at {self.uri} hangs")
        done, self._opening = self._opening, None
        if done.link is None:
            raise done.error or UnknownError(f"libvirt at {self.uri} does not answer")
        return done.link

    def _open_now(self) -> libvirt.virConnect:
        try:
            link = libvirt.open(self.uri)
            if link.getType() != "TEST":
                link.setKeepAlive(*_KEEPALIVE)
        except libvirt.libvirtError as error:
            said = f"libvirt does not answer at {self.uri}: {error}"
            raise UnknownError(said, told="the node's libvirt does not answer") from error
        return link


class _Opening(threading.Thread):
    """A connection on its way."""

    def __init__(self, opener: Callable[[], libvirt.virConnect]) -> None:
        super().__init__(name="libvirt-open", daemon=True)
        self.opener = opener
        self.link: libvirt.virConnect | None = None
        self.error: UnknownError | None = None

    def run(self) -> None:
        try:
            self.link = self.opener()
        except UnknownError as error:
            self.error = error


def be_quiet() -> None:
    """Keep libvirt from printing its errors: they are raised."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)


def _start_event_loop() -> None:
    """libvirt's events and keep-alives need a loop that somebody runs, once in a process."""
    if any(thread.name == "libvirt-events" for thread in threading.enumerate()):
        return
    be_quiet()
    libvirt.virEventRegisterDefaultImpl()

    def loop() -> None:
        while True:
            try:
                libvirt.virEventRunDefaultImpl()
            except (libvirt.libvirtError, OSError):  # without it no link is found dead
                log.exception("libvirt's events")
                time.sleep(_BREATH)

    threading.Thread(target=loop, name="libvirt-events", daemon=True).start()


def dotted(number: int) -> str:
    """A version of libvirt or QEMU, as a person writes it."""
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"
