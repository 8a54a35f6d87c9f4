"""Takes the control socket's connections, reads a line of each, and has it answered.

One thread takes all connections and reads each one's line; only then has a connection a thread of
its own. So whoever says nothing costs a descriptor for a while, and keeps nobody waiting.
"""

import json
import logging
import math
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from bait.frontend.limits import ConnectionLimits, Owners
from bait.frontend.place import SocketPlace

LONGEST = 131072  # bytes of a request: the longest one bears an order with its user's data
PATIENCE = 10.0  # seconds for a caller to have said all it wants, and to take each answer
_AT_ONCE = 64  # connections taken before those that are there are read
_PAUSE = 0.1  # seconds, after a fault of the loop
_GLANCE = 1.0  # seconds between two looks whether the socket is still in its place
_BUSY = {"ok": False, "error": "too many connections", "busy": True, "retry": True, "end": True}

log = logging.getLogger(__name__)

Answers = Callable[[int, int, bytes], Iterator[dict[str, Any]]]


@dataclass(eq=False)
class _Caller:
    connection: socket.socket
    pid: int  # 0: of a process that this one can't see
    uid: int
    owner: int  # whose connection it counts as
    until: float  # on the monotonic clock
    said: bytearray = field(default_factory=bytearray)


class LineServer:
    """Answers a line on each connection: `answers` gives what pid, uid and line get."""

    def __init__(self, place: SocketPlace, limits: ConnectionLimits, answers: Answers) -> None:
        """Take the place. Raises OSError."""
        self.limits = limits
        self._place = place
        self._listener = place.take()
        self._looked = time.monotonic()
        self._answers = answers
        self._owners = Owners()
        self._callers: dict[socket.socket, _Caller] = {}  # in the order in which they came
        self._ending = False
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        for each in (self._listener, self._woken):
            self._selector.register(each, selectors.EVENT_READ)

    def serve(self) -> None:
        """Take callers until `close`. Nothing else ends it."""
        fault = ""
        while not self._ending:
            try:
                self._turn()
            except Exception as error:  # most likely no descriptor or no memory is left
                if str(error) != fault:
                    fault = str(error)
                    log.exception("can't take callers")
                time.sleep(_PAUSE)
            else:
                fault = ""

    def close(self) -> None:
        """Take no more callers; those that are being answered go on."""
        self._ending = True
        self._wake.send(b".")
        self._listener.close()

    def _turn(self) -> None:
        """What makes room comes first: where no descriptor is left, taking a caller is a fault."""
        now = time.monotonic()
        for caller in list(takewhile(lambda each: each.until <= now, self._callers.values())):
            self._forget(caller)
            self._end(caller)
        if now >= self._looked + _GLANCE:
            self._looked = now
            self._stay()
        first = next(iter(self._callers.values()), None)
        until = min(self._looked + _GLANCE, first.until if first else math.inf)
        events = self._selector.select(max(0.0, until - now))
        for key, _events in events:
            if key.data:
                self._read(key.data)
        if any(key.fileobj is self._listener for key, _events in events):
            self._take(self._listener)

    def _stay(self) -> None:
        """Listen in the place still; who has come to the socket that was there is taken first."""
        listener = None if self._ending else self._place.taken_again()
        if listener:
            before, self._listener = self._listener, listener
            self._selector.register(listener, selectors.EVENT_READ)
            with before:
                self._selector.unregister(before)
                self._take(before)

    def _take(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _address = listener.accept()
            except BlockingIOError:
                return
            connection.setblocking(False)
            pid, uid = _peer(connection)
            until = time.monotonic() + PATIENCE
            caller = _Caller(connection, pid, uid, self._owners.of(uid), until)
            if not self.limits.take(caller.owner):
                with connection, suppress(OSError):
                    connection.send(_line(_BUSY))
                continue
            try:
                self._selector.register(connection, selectors.EVENT_READ, caller)
            except OSError:
                self._end(caller)
                raise
            self._callers[connection] = caller

    def _read(self, caller: _Caller) -> None:
        try:
            more = caller.connection.recv(LONGEST)
        except BlockingIOError:
            return
        except OSError:
            more, caller.said = b"", bytearray()
        caller.said += more
        if more and b"\n" not in more and len(caller.said) < LONGEST:
            return
        self._forget(caller)
        if not caller.said:
            self._end(caller)
            return
        try:
            threading.Thread(target=self._answer, args=(caller,), daemon=True).start()
        except RuntimeError:  # there are as many threads as there can be
            with suppress(OSError):
                caller.connection.send(_line(_BUSY))
            self._end(caller)

    def _answer(self, caller: _Caller) -> None:
        try:
            caller.connection.settimeout(PATIENCE)
            line = bytes(caller.said[:LONGEST]).partition(b"\n")[0]
            for answer in self._answers(caller.pid, caller.uid, line):
                caller.connection.sendall(_line(answer))
        except OSError:  # a caller that goes away in the middle is nothing to report
            log.debug("a caller went away", exc_info=True)
        finally:
            self._end(caller)

    def _forget(self, caller: _Caller) -> None:
        """It is not waited for any more."""
        del self._callers[caller.connection]
        self._selector.unregister(caller.connection)

    def _end(self, caller: _Caller) -> None:
        caller.connection.close()
        self.limits.leave(caller.owner)


def _line(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"


def _peer(connection: socket.socket) -> tuple[int, int]:
    """The numbers of the process that has connected, and of its user."""
    size = struct.calcsize("3i")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid, uid, _gid = struct.unpack("3i", credentials)
    return int(pid), int(uid)
