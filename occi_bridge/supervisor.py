"""The parent process: it starts the others, starts again what dies, and ends all together."""

import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_PARENT_DIED = 1  # PR_SET_PDEATHSIG of prctl(2)
_STEADY = 10.0  # seconds after which a process counts as well started
_PAUSE = 30.0  # seconds before a process is started again at most
_UNABLE = 5.0  # seconds, where there can be no process
_PARTING = 20.0  # seconds for all to end, before they are killed
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}

log = logging.getLogger(__name__)


@dataclass
class Child:
    """A process that always runs: `work` until SIGTERM, or until it wants to be started anew."""

    name: str
    work: Callable[[], None]
    pid: int = 0
    begun: float = 0.0  # on the monotonic clock, as `due`
    due: float = 0.0  # to be started then, if it does not run
    pause: float = 0.0


def supervise(children: Sequence[Child]) -> None:
    """Run them until SIGTERM or SIGINT. No thread may run in this process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    while True:
        for child in children:
            if not child.pid and time.monotonic() >= child.due:
                _start(child)
        waiting = [child.due for child in children if not child.pid]
        patience = max(0.0, min(waiting, default=float("inf")) - time.monotonic())
        caught = signal.sigtimedwait(_SIGNALS, min(patience, 3600.0))
        if caught and caught.si_signo != signal.SIGCHLD:
            _end(children)
            return
        _reap(children)


def _start(child: Child) -> None:
    parent = os.getpid()
    child.begun = time.monotonic()
    sys.stderr.flush()
    try:
        child.pid = os.fork()
    except OSError as error:
        child.due = child.begun + _UNABLE
        log.error("%s can't be started: %s; again in %g s", child.name, error.strerror, _UNABLE)
        return
    if child.pid:
        return
    status = 1
    try:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        ctypes.CDLL(None).prctl(_PARENT_DIED, signal.SIGTERM)
        if os.getppid() == parent:
            child.work()
        status = 0
    except BaseException:
        log.exception("%s: internal fault", child.name)
    finally:
        os._exit(status)


def _reap(children: Sequence[Child]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        for child in children:
            if child.pid == pid:
                _ended(child, os.waitstatus_to_exitcode(status))


def _ended(child: Child, code: int) -> None:
    now = time.monotonic()
    steady = now - child.begun > _STEADY or code == 0
    child.pause = 0.0 if steady else min(2 * child.pause + 1, _PAUSE)
    child.pid, child.due = 0, now + child.pause
    how = f"exit status {code}" if code >= 0 else signal.Signals(-code).name
    level = logging.INFO if code == 0 else logging.ERROR
    log.log(level, "%s ended (%s); started again in %g s", child.name, how, child.pause)


def _end(children: Sequence[Child]) -> None:
    for child in children:
        if child.pid:
            os.kill(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + _PARTING
    for child in children:
        while child.pid and os.waitpid(child.pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                log.error("%s does not end; killed", child.name)
                os.kill(child.pid, signal.SIGKILL)
            time.sleep(0.02)
