"""Questions that may hang."""

import queue
import threading
from collections.abc import Callable
from typing import TypeVar, cast

from wnodes_lrms.errors import UnknownError

LIBVIRT = 60.0  # seconds for one question; libvirt's first answer waits for QEMU to be looked at

_Answer = TypeVar("_Answer")


def bounded(seconds: float, question: Callable[[], _Answer]) -> _Answer:
    """The answer to a question that may hang. Raises UnknownError if it does, and what it raises.

    A thread that hangs in a C library can't be ended; as a daemon it ends with the process.
    """
    said: queue.SimpleQueue[tuple[_Answer | None, BaseException | None]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            said.put((question(), None))
        except BaseException as error:
            said.put((None, error))

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer, error = said.get(timeout=seconds)
    except queue.Empty:
        raise UnknownError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise error
    return cast(_Answer, answer)
