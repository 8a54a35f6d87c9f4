"""What the kernel tells by itself of changes in its network: that there were some.

While it says nothing, what was found there last is still so, and no program need be run to see it.
Sources: rtnetlink(7); the kernel's <linux/rtnetlink.h> and <linux/netfilter/nfnetlink.h>.
"""

import socket
import time
from collections.abc import Callable
from enum import Enum
from weakref import finalize

_NETFILTER = 12  # NETLINK_NETFILTER
_LINKS, _QUEUES, _ADDRESSES, _ROUTES = 0x1, 0x8, 0x10, 0x40  # RTMGRP_*, the latter two of IPv4
_TABLES = 1 << 6  # NFNLGRP_NFTABLES, as a bit
LONGEST = 300.0  # seconds for which silence is believed: nobody has proved that all is told


class Topic(Enum):
    """What there may be news of: a netlink protocol, and groups of it."""

    # An interface that goes down takes its routes with it, of which nothing is said.
    SURROUNDINGS = socket.NETLINK_ROUTE, _LINKS | _ADDRESSES | _ROUTES
    THROUGHPUT = socket.NETLINK_ROUTE, _LINKS | _QUEUES
    NFTABLES = _NETFILTER, _TABLES


class Notifications:
    """The news of one topic, in the network of the thread that asks. Not for many threads."""

    def __init__(self, topic: Topic, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds, and never goes back."""
        self._topic = topic
        self._clock = clock
        self._link: socket.socket | None = None
        self._until = 0.0  # when silence is not believed any more
        self._let_go: Callable[[], object] = lambda: None

    def came(self) -> bool:
        """Whether anything may have changed since this was asked last; the first time it may.

        To be asked before a look, not after it: what changes meanwhile is told the next time.
        """
        if self._link and self._clock() < self._until and _is_silent(self._link):
            return False
        self._let_go()
        self._link, self._until = _listening(self._topic), self._clock() + LONGEST
        if self._link:
            self._let_go = finalize(self, self._link.close)
        return True


def _is_silent(link: socket.socket) -> bool:
    try:
        link.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:  # ENOBUFS: there was more than it can hold
        return False
    return False


def _listening(topic: Topic) -> socket.socket | None:
    """A socket that hears of the topic; None where there can be none: then there is always news."""
    protocol, groups = topic.value
    try:
        link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    except OSError:
        return None
    try:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # the first word of any is enough
        link.bind((0, groups))
    except OSError:
        link.close()
        return None
    return link
