"""Overwriting a deleted volume before its room is free."""

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".wipe"  # of a file that is no volume any more
_ZEROES = bytes(1 << 20)

log = logging.getLogger(__name__)


def wipe(path: Path) -> bool:
    """Overwrite a file, where there is something in it, and remove it; whether it is still there.

    One that another process wipes is left to it, for as long as that lives. What can't be done now
    is logged and stays for the next time.
    """
    try:
        with path.open("r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not path.exists():
                return False
            for at, end in pieces(file.fileno()):
                while at < end:  # which a file system without holes calls all of it
                    piece = os.pread(file.fileno(), min(len(_ZEROES), end - at), at)
                    if piece.strip(b"\0"):
                        at += os.pwrite(file.fileno(), _ZEROES[: len(piece)], at)
                    else:  # to write it would only take room
                        at += len(piece) or end - at
            os.fsync(file.fileno())
            path.unlink()
        log.info("%s is wiped", path.name.partition(".")[0])
    except BlockingIOError:
        log.debug("%s is being wiped", path)
    except FileNotFoundError:
        return False  # somebody else has
    except OSError as error:
        log.error("%s can't be wiped: %s", path, error.strerror)
    else:
        return False
    return True


def pieces(file: int) -> Iterator[tuple[int, int]]:
    """What has been written of an open file, piece by piece: where each begins and ends."""
    end = 0
    while True:
        try:
            begin = os.lseek(file, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(file, begin, os.SEEK_HOLE)
        yield begin, end
