"""Patience with a site that is being broken: what is asked again, for how long, and what is not."""

import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

import httpx

# What a part of the site that is away looks like from outside.
AWAY = (
    *(AssertionError, KeyError, OSError),
    *(httpx.HTTPError, subprocess.SubprocessError),
)
Answer = TypeVar("Answer")
_PATIENCE = 180  # seconds


class ForgivenError(Exception):
    """What was asked is refused, and may be."""


class Violation(AssertionError):  # noqa: N818 - a verdict, not an error of the program
    """Something that must hold does not."""


def tolerant(true: Callable[[], object]) -> object:
    """The answer; None while a part of the site is away."""
    try:
        return true()
    except Violation:
        raise
    except AWAY:
        return None


def retried(ask: Callable[[], Answer], forgiven: Callable[[], bool] = lambda: False) -> Answer:
    """Ask until it is taken, for three minutes; the answer. Faults meant for it take half of that.

    Raises ForgivenError if it is refused for half a minute, and `forgiven` says that it may be.
    """
    begun, end = time.monotonic(), time.monotonic() + _PATIENCE
    while True:
        try:
            return ask()
        except AWAY as error:
            if time.monotonic() > begun + 30 and forgiven():
                raise ForgivenError from error
            if time.monotonic() > end:
                raise Violation(f"not taken within {_PATIENCE} s: {error!r}") from error
            time.sleep(1)
