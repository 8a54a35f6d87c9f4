"""One bait to a node: a second one would take its socket, and both would work on one ledger.

The kernel forgets a lock with the process that has it, however that ends.
"""

import fcntl
import os
import time
from pathlib import Path

from wnodes_lrms.errors import WnodesError
from wnodes_lrms.folders import PASSED, have

_PATIENCE = 5.0  # seconds for one that is just ending
_PAUSE = 0.1


def hold(state: Path) -> int:
    """Take the node's state folder for as long as this process lives; the lock's descriptor.

    Raises WnodesError if another process has it.
    """
    path = state / "bait.lock"
    until = time.monotonic() + _PATIENCE
    try:
        have(state, PASSED)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    owner = os.read(lock, 20).decode("ascii", "replace").strip()
                    os.close(lock)
                    raise WnodesError(
                        f"another bait works with {state}, process {owner}: a node has one"
                    ) from None
                time.sleep(_PAUSE)
            else:
                break
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
    except OSError as error:
        raise WnodesError(f"{path}: {error.strerror}") from error
    return lock
