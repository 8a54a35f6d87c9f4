"""The C library's memory: one heap for all threads.

A bait has a thread for each job that waits, and another for each thing that it does. glibc gives
threads heaps of their own, so that they need not wait for each other, and each keeps what it has
had: with 20 VMs that was 13 MiB of 110. Python's threads take turns anyway.
"""

import ctypes

_ARENA_MAX, _TRIM_THRESHOLD = -8, -1  # parameters of mallopt(3), as <malloc.h> has them
_KEPT = 64 << 10  # bytes free at the heap's end that are not given back


def have_one() -> None:
    """Have one heap from now on; to be called before there are threads. Without glibc, nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_ARENA_MAX, 1)
        mallopt(_TRIM_THRESHOLD, _KEPT)
