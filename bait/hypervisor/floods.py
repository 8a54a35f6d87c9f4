"""When a guest tells so often of a crash that it can only mean harm. Pure."""

import time
from collections.abc import Callable

MOST = 5  # times within WITHIN: a kernel that panics tells once that its crash kernel takes over
WITHIN = 1.0  # seconds


class Floods:
    """Counts what each VM tells. QEMU passes on every word of a guest's, 25,000 a second, and
    libvirt does so to whoever listens to it, until it answers nobody any more."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds, and never goes back."""
        self._clock = clock
        self._counted: dict[str, tuple[float, int]] = {}  # VM's id → since when, how often

    def begins(self, machine: str) -> bool:
        """Whether this word of the VM's is the one too many; told at most once in WITHIN."""
        now = self._clock()
        self._counted = {
            id_: (since, times)
            for id_, (since, times) in self._counted.items()
            if now - since < WITHIN
        }
        since, times = self._counted.get(machine, (now, 0))
        self._counted[machine] = (since, times + 1)
        return times == MOST
