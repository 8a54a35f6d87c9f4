"""How long the end-to-end tests wait."""

import time

BUSY = 3  # times as long as on a machine that has nothing else to do


def deadline(seconds: float) -> float:
    """When that must have come, monotonic, which takes so many seconds at most on such a machine.

    A test that fails does so later by it; none takes longer that passes."""
    return time.monotonic() + BUSY * seconds
