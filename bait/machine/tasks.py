"""Tasks: threads that each work on one VM, one a VM at most. Each can be told to stop."""

import logging
import threading
import time
from collections.abc import Callable

from bait.machine.calls import Calls
from bait.machine.speakers import Speakers
from wnodes_lrms.errors import CancelledError, UnknownError, WnodesError
from wnodes_lrms.log import ids

_PATIENCE = 8.0  # seconds for a task to stop

log = logging.getLogger(__name__)


class Task:
    """What a thread does with one VM, and the way to tell it to stop."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.began = time.monotonic()
        self.thread: threading.Thread | None = None

    def check(self) -> None:
        """Raises CancelledError if the thread was told to stop."""
        if self.cancelled.is_set():
            raise CancelledError("cancelled")


class Heard:
    """The jobs of which a process has spoken on this node, and when last: these jobs live."""

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


class Tasks:
    """All tasks of a bait, by VM, and the news that something has changed."""

    def __init__(self) -> None:
        self.news = threading.Condition()
        self.heard = Heard()
        self.calls = Calls()
        self._tasks: dict[str, Task] = {}
        self._told = time.time_ns()  # grows with each news, over restarts too

    def machines(self) -> frozenset[str]:
        """The VMs that are worked on."""
        with self.news:
            return frozenset(self._tasks)

    def start(
        self,
        machine: str,
        job: str,
        do: Callable[[Task], None],
        failed: Callable[[WnodesError], None],
    ) -> bool:
        """Do this in a thread; `failed` hears its fault. False: the VM has a task already."""
        task = Task()

        def body() -> None:
            try:
                do(task)
            except CancelledError:
                log.info("stopped: it is no longer wanted", extra=ids(job, machine))
            except WnodesError as error:
                failed(error)
            except OSError as error:  # a full disk, mostly
                where = error.filename or "a file of the VM"
                failed(WnodesError(f"{where}: {error.strerror}"))
            except Exception:
                log.exception("internal fault", extra=ids(job, machine))
                failed(WnodesError("internal fault of the bait, see its log"))
            finally:
                with self.news:
                    del self._tasks[machine]
                    self._announce()

        task.thread = threading.Thread(target=body, name=f"job {job}", daemon=True)
        with self.news:
            if self._tasks.setdefault(machine, task) is not task:
                return False
            try:
                task.thread.start()
            except RuntimeError:  # no thread is left: then it has no task, either
                del self._tasks[machine]
                raise
            return True

    def replace(
        self,
        machine: str,
        job: str,
        do: Callable[[Task], None],
        failed: Callable[[WnodesError], None],
    ) -> None:
        """The same, once the task that the VM has is stopped. Raises UnknownError if that hangs."""
        while not self.start(machine, job, do, failed):
            self.stop(machine)

    def cancel(self, machine: str) -> Task | None:
        """Tell the VM's task to stop, and wait for nothing; that task."""
        with self.news:
            task = self._tasks.get(machine)
        if task and task.thread is not threading.current_thread():
            task.cancelled.set()
        return task

    def stop(self, machine: str) -> None:
        """Stop the VM's task, and wait for that. Raises UnknownError if it hangs."""
        task = self.cancel(machine)
        if task and task.thread and task.thread is not threading.current_thread():
            task.thread.join(_PATIENCE)
            if task.thread.is_alive():
                raise UnknownError(f"VM {machine} is still being made: libvirt hangs?")

    def tell(self) -> None:
        """Wake all who wait for news."""
        with self.news:
            self._announce()

    def changed(self, since: str, seconds: float) -> str:
        """A word for the last news: once it is another than `since`, or after so many seconds."""
        with self.news:
            self.news.wait_for(lambda: str(self._told) != since, seconds)
            return str(self._told)

    def _announce(self) -> None:
        self._told += 1
        self.news.notify_all()
