"""The control socket's place in the file system, taken again when somebody has removed it.

Cleaners of /run and administrators remove a socket, or its folder, whose file tells nobody that it
is in use. The socket itself then goes on, and no caller finds it any more.
"""

import logging
import socket
from pathlib import Path

from wnodes_lrms.folders import PASSED, have

_BACKLOG = 1024  # a caller with a timeout gets EAGAIN when it is full, and no wait

log = logging.getLogger(__name__)


class SocketPlace:
    """A path at which there is to be a listening socket, for all users. Not for many threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bound: tuple[int, int] | None = None  # device and inode of the file
        self._fault = ""  # why it could not be taken again, as it was said

    def take(self) -> socket.socket:
        """A new listening socket there, in the place of whatever there is. Raises OSError."""
        have(self._path.parent, PASSED)
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(str(self._path))
            self._path.chmod(0o666)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
            self._bound = _file_at(self._path)
        except OSError:
            listener.close()
            raise
        return listener

    def taken_again(self) -> socket.socket | None:
        """A new socket, if the file of the last one is not there any more. None: it is, or a new
        one can't be made now."""
        there = _file_at(self._path)
        if there is not None and there == self._bound:
            return None
        try:
            listener = self.take()
        except OSError as error:
            if str(error) != self._fault:
                log.error("the control socket was removed, and can't be made again: %s", error)
            self._fault = str(error)
            return None
        self._fault = ""
        log.warning("the control socket %s was removed, and is there again", self._path)
        return listener


def _file_at(path: Path) -> tuple[int, int] | None:
    """Device and inode of what is there. None if it can't be told."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
