"""The side of a DRMAA worker process that asks: starts it, gives it time, starts it again."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import IO, Any

from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.lrms import refusals

_PROGRAM = (sys.executable, "-m", "wnodes_lrms.lrms.drmaa.worker")
# One of the libraries can't be loaded late without it, and it harms no other.
_TUNABLES = "glibc.rtld.optional_static_tls=4096"


class Worker:
    """The DRMAA session of one user. Safe to use from many threads, one request at a time."""

    def __init__(self, library: str, user: str, kept: Collection[str]) -> None:
        """`kept`: patterns of the environment variables that the library reads."""
        self.library = library
        self.user = user
        self.kept = ("PATH", *kept)
        self.lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, deadline: float, **request: object) -> dict[str, Any]:
        """The worker's answer, within `deadline` seconds.

        Raises RejectedError if the LRMS refuses; UnknownError if it does not answer, or if the
        library has crashed or hangs, which ends the worker: the next request gets a new one.
        """
        with self.lock:
            fresh = self._process is None or self._process.poll() is not None
            process = self._start() if fresh else self._process
            assert process  # noqa: S101 (for the type's sake)
            line = self._exchange(process, request, deadline)
            if not line and process.poll() == 0 and not fresh:
                process = self._start()  # it had just ended for want of work
                line = self._exchange(process, request, deadline)
            if not line:
                raise UnknownError(self._end(process))
        reply: dict[str, Any] = json.loads(line)
        if not reply["ok"]:
            said = f"DRMAA: {reply['error']}"
            if reply["refused"]:
                raise RejectedError(said, told=refusals.told(said))
            raise UnknownError(said, told="the batch system does not answer")
        return reply

    def close(self) -> None:
        """End the worker."""
        with self.lock:
            if self._process is not None:
                self._end(self._process)

    def _start(self) -> subprocess.Popen[bytes]:
        self.close()
        kept = {
            name: value
            for name, value in os.environ.items()
            if any(fnmatchcase(name, pattern) for pattern in self.kept)
        }
        self._process = subprocess.Popen(
            [*_PROGRAM, self.user],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            env={**kept, "DRMAA_LIBRARY_PATH": self.library, "GLIBC_TUNABLES": _TUNABLES},
        )
        return self._process

    def _exchange(
        self, process: subprocess.Popen[bytes], request: object, deadline: float
    ) -> bytes:
        """Its answer, or nothing if it has ended or the time is over."""
        assert process.stdin  # noqa: S101 (pipes were asked for)
        assert process.stdout  # noqa: S101
        end = time.monotonic() + deadline
        question, answer = memoryview(json.dumps(request).encode() + b"\n"), b""
        os.set_blocking(process.stdin.fileno(), False)  # never wait for it to read
        with contextlib.suppress(BrokenPipeError):
            while question and _ready(process.stdin, select.POLLOUT, end):
                question = question[os.write(process.stdin.fileno(), question) :]
        while not answer.endswith(b"\n") and _ready(process.stdout, select.POLLIN, end):
            piece = os.read(process.stdout.fileno(), 65536)
            if not piece:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1)
                return b""
            answer += piece
        return answer if answer.endswith(b"\n") else b""

    def _end(self, process: subprocess.Popen[bytes]) -> str:
        """End the process; what was wrong with it."""
        code = process.poll()
        if code is None:
            process.kill()
            process.wait()
            said = "does not answer"
        elif code < 0:
            said = f"has crashed ({signal.Signals(-code).name})"
        else:
            said = f"has ended with code {code}; its log is the bait's"
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe:
                    pipe.close()
        self._process = None
        return f"DRMAA: the session of {self.user} ({self.library}) {said}"


def _ready(pipe: IO[bytes], event: int, end: float) -> bool:
    """Whether the pipe can be read or written before the time is over."""
    poll = select.poll()
    poll.register(pipe, event)
    return bool(poll.poll(max(0.0, end - time.monotonic()) * 1000))
