"""A service for guests to reach, on the node or in a network namespace beside it."""

import ctypes
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


@contextmanager
def listening(namespace: str = "") -> Iterator[int]:
    """A service on all addresses of the node, or of a namespace; its port."""
    with closing(_socket(namespace)) as server:
        threading.Thread(target=_greet, args=(server,), daemon=True).start()
        yield int(server.getsockname()[1])


def _socket(namespace: str) -> socket.socket:
    made: list[socket.socket] = []

    def make() -> None:  # a namespace is a thread's
        if namespace:
            with Path("/run/netns", namespace).open() as file:
                assert ctypes.CDLL(None).setns(file.fileno(), 0) == 0
        made.append(socket.create_server(("", 0), family=socket.AF_INET, backlog=64))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


def _greet(server: socket.socket) -> None:
    while True:
        try:
            link, _peer = server.accept()
        except OSError:
            return
        link.close()
