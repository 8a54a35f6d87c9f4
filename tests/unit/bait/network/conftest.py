"""Networks of the tests' own, in which they may do what they like: a thread's can be its own."""

import ctypes
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

_NEW_NETWORK = 0x40000000  # unshare(2), CLONE_NEWNET


def enter_new_network() -> None:
    """Have this thread be in a network that nobody else is in. Needs root."""
    assert ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK) == 0


@pytest.fixture
def apart() -> Iterator[Callable[..., Any]]:
    """Runs a function in a network of its own."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(enter_new_network).result()
        yield lambda function, *arguments: thread.submit(function, *arguments).result()


@pytest.fixture(params=[0, 1], ids=["", "bridged packets meet the tables of IP"])
def bridged(request: pytest.FixtureRequest) -> int:
    """What Docker switches on: frames that stay on a bridge go through the rules for packets."""
    return int(request.param)
