"""Puts messages into the directory queue that APEL's SSM sends from, each exactly once.

The queue is dirq's QueueSimple: folders named by the time, and in them a file for each message.
dirq adds a file by a link and an unlink: who is killed in between, or just after, can't tell later
whether SSM has had it. So dirq makes the element in a hidden folder inside the queue, which SSM
does not look into, and one rename moves it to its place, with its folder. What is still in the
hidden folder has not been handed over; what is not there any more has.

The queue is another user's, who may put anything in any place in it: all is done with that user's
rights.
"""

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_IMODE

from dirq.QueueSimple import QueueSimple

from bait.privileges.as_user import with_rights_of
from wnodes_lrms.errors import WnodesError


class Outbox:
    """One node's way into the queue. Every method raises WnodesError."""

    def __init__(self, queue: Path, node: str) -> None:
        """`queue` is SSM's folder; it must be there, with the owner and the mode that SSM needs."""
        self.queue = queue
        self.stage = queue / f".wnodes-{node}"
        try:
            self._like = queue.stat()
        except OSError as error:
            raise self._fault(error.strerror or str(error)) from error
        if self._like.st_uid == 0 and self._like.st_mode & 0o022:
            raise self._fault("it is root's and others may write there: give it to SSM's user")
        with self._faults_told():
            _folders(queue)

    def prepare(self, number: int, text: str) -> None:
        """Make an element of that number, safe on disk; one that is there is replaced."""
        with self._faults_told():
            self.stage.mkdir(mode=0o700, exist_ok=True)
            place = self._place(number)
            if place.exists():
                shutil.rmtree(place)
            file = self.stage / f"{number}.new"
            with file.open("w", encoding="ascii") as writer:
                writer.write(text)
                writer.flush()
                os.fsync(writer.fileno())
            element = place / QueueSimple(str(place)).add_path(str(file))
            for path, most in ((element, 0o666), (element.parent, 0o777)):
                path.chmod(S_IMODE(self._like.st_mode) & most)
            for folder in (element.parent, place, self.stage, self.queue):
                _sync(folder)

    def holds(self, number: int) -> bool:
        """Whether a prepared element is still here; if not, it has been handed over."""
        with self._faults_told():
            if not self.stage.is_dir():
                raise WnodesError(
                    f"{self.stage} is gone, where message {number} was when this node stopped:"
                    " mount its file system, or set the [accounting] queue of then again; if that"
                    " is lost, make the folder, and the message counts as sent"
                )
            place = self._place(number)
            return place.exists() and bool(_folders(place))

    def hand_over(self, number: int) -> str:
        """Move a prepared element to where SSM finds it, behind all others; its name there."""
        with self._faults_told():
            place = self._place(number)
            folder = place / _folders(place)[0]
            (element,) = folder.iterdir()
            target = self._move(folder)
            _sync(self.queue)
            _sync(place)
            return f"{target.name}/{element.name}"

    def clear(self) -> None:
        """Remove the hidden folder; nothing must be on its way."""
        with self._faults_told():
            shutil.rmtree(self.stage, ignore_errors=True)

    def _move(self, folder: Path) -> Path:
        while True:
            # SSM sends in the order of the names: that of a clock set back would come too early.
            newest = max((int(name, 16) for name in _folders(self.queue)), default=0)
            target = self.queue / f"{max(int(time.time()), newest + 1):08x}"
            try:
                return folder.rename(target)
            except OSError as error:  # somebody else's message is there in this very second
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise

    def _place(self, number: int) -> Path:
        return self.stage / str(number)

    @contextmanager
    def _faults_told(self) -> Iterator[None]:
        try:
            with with_rights_of(self._like.st_uid, self._like.st_gid):
                yield
        except OSError as error:
            raise self._fault(error.strerror or str(error)) from error

    def _fault(self, what: str) -> WnodesError:
        return WnodesError(
            f"queue {self.queue}: {what}; nothing is lost: mend it, or set [accounting] queue to"
            " the folder that SSM sends from, and publish again"
        )


def _folders(path: Path) -> list[str]:
    """The queue's folders there, oldest first; dirq knows them by their 8 hexadecimal digits."""
    names = (entry.name for entry in path.iterdir())
    return sorted(n for n in names if len(n) == 8 and set(n) <= set("0123456789abcdef"))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
