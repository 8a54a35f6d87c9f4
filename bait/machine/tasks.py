"""The threads that have a machine in hand: one a machine at most, and each can be told to stop."""

import logging
import threading
import time
from collections.abc import Callable

from bait.machine.speakers import Speakers
from wnodes_lrms.errors import CancelledError, UnknownError, WnodesError

_PATIENCE = 8.0  # seconds to wait for a thread to let go of its machine

log = logging.getLogger(__name__)


class Work:
    """A thread that has a machine in hand, and the way to tell it to stop."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.began = time.monotonic()
        self.thread: threading.Thread | None = None

    def check(self) -> None:
        """Raises CancelledError if the thread was told to stop."""
        if self.cancelled.is_set():
            raise CancelledError("cancelled")

    def steps(self, say: Callable[[str], None]) -> Callable[[str], None]:
        """What hears of each next step: it says each once.

        It raises CancelledError if the thread was told to stop.
        """
        last = ""

        def step(what: str) -> None:
            nonlocal last
            self.check()
            if what != last:
                last = what
                say(what)

        return step


class Heard:
    """Of which jobs a process on this node has spoken, and when last: these jobs live."""

    def __init__(self) -> None:
        self.speakers = Speakers()
        self._last: dict[str, float] = {}

    def note(self, job: str, pid: int) -> None:
        """A process of the job speaks to the bait; 0: its number is not known."""
        self._last[job] = time.monotonic()
        self.speakers.note(job, pid)

    def within(self, seconds: float) -> frozenset[str]:
        """The jobs that were heard in this time; the others are forgotten."""
        after = time.monotonic() - seconds
        for job, at in self._last.copy().items():
            if at < after:
                self._last.pop(job)  # in place: another thread may just note one
        return frozenset(self._last)


class Works:
    """All such threads of a bait, by machine, and the news that something has changed."""

    def __init__(self) -> None:
        self.news = threading.Condition()
        self.heard = Heard()
        self._works: dict[str, Work] = {}
        self._told = time.time_ns()  # grows with each news, over restarts too

    def machines(self) -> frozenset[str]:
        """The machines that a thread has in hand."""
        with self.news:
            return frozenset(self._works)

    def start(
        self,
        machine: str,
        job: str,
        task: Callable[[Work], None],
        failed: Callable[[WnodesError], None],
    ) -> bool:
        """Do the task in a thread; `failed` hears its fault. False: one has the machine already."""
        work = Work()
        ids = {"job": job, "machine": machine}

        def body() -> None:
            try:
                task(work)
            except CancelledError:
                log.info("stopped: it is no longer wanted", extra=ids)
            except WnodesError as error:
                failed(error)
            except OSError as error:  # a full disk, mostly
                where = error.filename or "a file of the machine"
                failed(WnodesError(f"{where}: {error.strerror}"))
            except Exception:
                log.exception("internal fault", extra=ids)
                failed(WnodesError("internal fault of the bait, see its log"))
            finally:
                with self.news:
                    del self._works[machine]
                    self._tell()

        work.thread = threading.Thread(target=body, name=f"job {job}", daemon=True)
        with self.news:
            if self._works.setdefault(machine, work) is not work:
                return False
            work.thread.start()
            return True

    def instead(
        self,
        machine: str,
        job: str,
        task: Callable[[Work], None],
        failed: Callable[[WnodesError], None],
    ) -> None:
        """The same, in the place of what is being done with it. UnknownError if that hangs."""
        while not self.start(machine, job, task, failed):
            self.let_go(machine)

    def let_go(self, machine: str) -> None:
        """Have the thread of a machine stop, and wait for that. Raises UnknownError if it hangs."""
        with self.news:
            work = self._works.get(machine)
        if work and work.thread and work.thread is not threading.current_thread():
            work.cancelled.set()
            work.thread.join(_PATIENCE)
            if work.thread.is_alive():
                raise UnknownError(f"machine {machine} is still being made: libvirt hangs?")

    def tell(self) -> None:
        """Wake all who wait for news."""
        with self.news:
            self._tell()

    def changed(self, since: str, seconds: float) -> str:
        """A word for the last news: once it is another than `since`, or after so many seconds."""
        with self.news:
            self.news.wait_for(lambda: str(self._told) != since, seconds)
            return str(self._told)

    def _tell(self) -> None:
        self._told += 1
        self.news.notify_all()
