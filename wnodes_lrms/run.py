"""The one way to call a program: an argument list, a deadline, and an error that says why."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence

from wnodes_lrms.errors import UnknownError, WnodesError


def run(argv: Sequence[str], *, deadline: float, unknown: bool = False) -> str:
    """Run a program to its end and return its standard output.

    `deadline` is in seconds; past it the program and its children are killed. The program gets
    no standard input and speaks the C locale. Raises WnodesError with what the program said on
    standard error if it failed, is missing or took too long; UnknownError instead where
    `unknown` says that a failure is no answer.
    """
    fault = UnknownError if unknown else WnodesError
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
            errors="surrogateescape",
            env=os.environ | {"LC_ALL": "C.UTF-8"},
        )
    except OSError as error:
        raise fault(f"{argv[0]}: {error.strerror}") from error
    try:
        output, errors = process.communicate(timeout=deadline)
    except subprocess.TimeoutExpired as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=1)  # a daemon of its own may hold the pipes open
        raise fault(f"{argv[0]}: no answer within {deadline:g} s") from error
    if process.returncode != 0:
        said = errors.strip() or f"exit status {process.returncode}"
        raise fault(f"{argv[0]}: {said.splitlines()[-1]}")
    return output
