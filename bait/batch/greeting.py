"""Whether a guest's SSH server greets yet.

It is called often and briefly: what is sent to a guest that is not up yet is lost, and the kernel
sends it again after a second at the earliest. But a guest that boots slowly answers slowly too (one
that is emulated on a node that is emulated itself takes seconds). So the longer its boot has taken,
the longer it is waited for an answer.
"""

import errno
import select
import socket
import time
from collections.abc import Callable

_ANSWER, _GREETING = 0.1, 5.0  # seconds for a connection, for the greeting: at least
_ANSWER_SHARE, _GREETING_SHARE = 0.01, 0.1  # and at least so much of the time that has passed
_BEGIN = b"SSH-"


class Greeting:
    """The SSH server at an address. Nothing waits longer than it is told to."""

    def __init__(
        self, address: str, port: int = 22, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._place = (address, port)
        self._clock = clock
        self._began = self._called = clock()
        self._link: socket.socket | None = None

    @property
    def waits(self) -> bool:
        """Whether there is a connection that an answer may come on."""
        return self._link is not None

    def heard(self, seconds: float) -> bool:
        """Whether it greets, within so many seconds."""
        link = self._link or self._call()
        if link is None:
            return False
        poll = select.poll()
        poll.register(link, select.POLLIN)
        poll.poll(seconds * 1000)
        try:
            said = link.recv(len(_BEGIN))
        except BlockingIOError:
            if self._clock() - self._called > self._patience(link):
                self.close()
            return False
        except OSError:
            said = b""
        self.close()
        return said == _BEGIN

    def close(self) -> None:
        """Hang up."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _call(self) -> socket.socket | None:
        link = socket.socket()
        link.setblocking(False)
        if link.connect_ex(self._place) not in (0, errno.EINPROGRESS):
            link.close()
            return None
        self._link, self._called = link, self._clock()
        return link

    def _patience(self, link: socket.socket) -> float:
        """Seconds for what it is waited for now."""
        passed = self._clock() - self._began
        try:
            link.getpeername()
        except OSError:  # it is not connected
            return max(_ANSWER, _ANSWER_SHARE * passed)
        return max(_GREETING, _GREETING_SHARE * passed)
