"""wnodes-lrms: what a script in a machine says, on its way into the job's own output.

On the node the script's own writing would fail where a disk is full, a quota or a limit of the job
is reached. Here it has long been taken from it, so this end must notice. Standard library only.
"""

import os
import select
import threading
from typing import IO

_AT_ONCE = 65536  # bytes
_PATIENCE = 5.0  # seconds for the rest, once nobody writes any more


class Stream:
    """One of the script's streams; whatever can't be written is counted, the rest goes on."""

    def __init__(self, source: IO[bytes], target: int) -> None:
        """`target` is a descriptor of this process."""
        self._source = source
        self._target = target
        self._lost = 0  # bytes
        self._reason = ""
        self._copier = threading.Thread(target=self._copy, daemon=True)
        self._copier.start()

    def trouble(self) -> str:
        """Once the script has ended: what has not been written, in words; empty if all was."""
        self._copier.join(_PATIENCE)
        return f"{self._lost} bytes could not be written: {self._reason}" if self._lost else ""

    def _copy(self) -> None:
        while data := os.read(self._source.fileno(), _AT_ONCE):
            try:
                while data:
                    data = data[self._write(data) :]
            except OSError as error:
                self._lost += len(data)
                self._reason = error.strerror or str(error)

    def _write(self, data: bytes) -> int:
        try:
            return os.write(self._target, data)
        except BlockingIOError:  # others have the same open file, and may have set it so
            select.select([], [self._target], [])
            return 0
