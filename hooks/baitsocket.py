"""wnodes-lrms: one line of JSON to this node's bait over its UNIX socket, and those it answers.

What is said: bait/frontend/control_socket.py. Standard library only, and little of it, for hook.py
runs twice for each job with a VM: `_socket` is what CPython's `socket` is made of, without the
imports (`selectors`, `enum`) that would take a third of the hook's time.
"""

import time
from _socket import AF_UNIX, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# The bait speaks every 5 s while it works on a machine, and every 15 s beside a lease's: this is
# "it hangs".
SILENCE = 30.0  # seconds
LONGEST = 131072  # bytes of an answer
SLICE = 1.0  # seconds: at most so much of a time in which the job was suspended counts as waiting
FULL = 0.02  # seconds until the next try where many jobs start at once and the backlog is full


class Patience:
    """Seconds to wait, of which those do not pass in which this process is stopped: the batch
    system may suspend a job for hours."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        """Begin anew, with all of the seconds."""
        self._left = self._seconds
        self._at = time.monotonic()

    def left(self) -> float:
        """Seconds that are left; to be asked at least once in a SLICE."""
        now = time.monotonic()
        self._left -= min(now - self._at, SLICE)
        self._at = now
        return self._left

    def bound(self, link: socket) -> None:
        """Have the link's next call last a SLICE at most. Raises TimeoutError if none is left."""
        left = self.left()
        if left <= 0:
            raise TimeoutError("timed out")
        link.settimeout(min(left, SLICE))


def answers(path: str, request: dict[str, str]) -> "Iterator[dict[str, Any]]":
    """What the bait says to a request. Raises OSError (TimeoutError too), ValueError."""
    import json

    for line in exchange(path, json.dumps(request).encode(), SILENCE):
        answer = json.loads(line)
        if not isinstance(answer, dict):
            raise ValueError("no JSON object")
        yield answer


def exchange(path: str, request: bytes, seconds: float) -> "Iterator[bytes]":
    """Send one line to the socket at `path`, and give the lines of the answer.

    `seconds` bounds all that it takes until the first line is there, and then each further line.
    Raises OSError, TimeoutError; ValueError for a line without end."""
    link = socket(AF_UNIX)
    try:
        patience = Patience(seconds)
        while True:
            patience.bound(link)
            try:
                link.connect(path)
                break
            except BlockingIOError:
                time.sleep(FULL)
        link.sendall(request + b"\n")
        yield from lines(link, patience)
    finally:
        link.close()


def lines(link: socket, patience: Patience) -> "Iterator[bytes]":
    """What comes, line by line; what has no end when the bait hangs up was not said."""
    data = b""
    while True:
        line, end, rest = data.partition(b"\n")
        if end:
            yield line
            data = rest
            patience.renew()
            continue
        if len(data) > LONGEST:
            raise ValueError("a line without end")
        patience.bound(link)
        try:
            piece = link.recv(4096)
        except TimeoutError:
            continue
        if not piece:
            return
        data += piece
