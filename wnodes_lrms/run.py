"""The one way to call a program: an argument list, a deadline, and an error that says why."""

import contextlib
import os
import pwd
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from wnodes_lrms.errors import UnknownError, WnodesError

# Seconds for a program that asks nobody but the kernel or a disk. It takes milliseconds; a node at
# its limits, or one that is booting, may need a thousand times that, and is not at fault.
LOCAL = 60.0


@dataclass(frozen=True)
class Ended:
    """How a program ended by itself, and what it said."""

    status: int
    output: str
    errors: str


def run(argv: Sequence[str], *, deadline: float, unknown: bool = False) -> str:
    """Run a program to its end and return its standard output.

    `deadline` is in seconds; past it the program and its children are killed. The program gets
    no standard input and speaks the C locale. Raises WnodesError with what the program said on
    standard error if it failed, is missing or took too long; UnknownError instead where
    `unknown` says that a failure is no answer.
    """
    fault = UnknownError if unknown else WnodesError
    ended = _ended(argv, deadline, fault, os.environ)
    if ended.status != 0:
        said = told(argv[0], _reason(ended.errors) or f"exit status {ended.status}")
        full = "No space left" in ended.errors  # strerror(3) of ENOSPC
        why = (
            "the node's disk has no space left"
            if full
            else f"{_name(argv[0])} has failed on the node"
        )
        raise fault(said, told=why)
    return ended.output


def call(argv: Sequence[str], *, deadline: float) -> Ended:
    """Run a program to its end; otherwise as `run`, but a failure is for the caller to read. Raises
    UnknownError if the program is missing or takes too long."""
    return _ended(argv, deadline, UnknownError, os.environ)


def told(program: str, why: str) -> str:
    """A program's complaint, after the program's name, which most programs put there themselves."""
    name = _name(program)
    return f"{name}: {why.removeprefix(f'{name}: ')}"


def _name(program: str) -> str:
    return program.rpartition("/")[2]


def _reason(errors: str) -> str:
    """The line of a program's complaint that says why: one that calls itself an error, or the last
    one before its usage.
    """
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    named = [line for line in lines if "Error: " in line]  # nft draws a line under what is wrong
    if named:
        return named[0]
    complaint = takewhile(lambda line: not line.lower().startswith("usage"), lines)
    return [*lines[:1], *complaint][-1] if lines else ""


def run_as(
    user: pwd.struct_passwd,
    argv: Sequence[str],
    *,
    deadline: float,
    environment: Mapping[str, str],
) -> Ended:
    """Run a program to its end as another user, with that user's groups and only this environment.

    Otherwise as `run`, but a failure is for the caller to read. Raises UnknownError if the
    program is missing or takes too long.
    """
    return _ended(argv, deadline, UnknownError, environment, user)


def identity(user: pwd.struct_passwd) -> dict[str, object]:
    """What makes subprocess.Popen start a program as this user, in that user's groups only."""
    if user.pw_uid == os.geteuid():
        return {}
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": groups}


def _ended(
    argv: Sequence[str],
    deadline: float,
    fault: type[WnodesError],
    environment: Mapping[str, str],
    user: pwd.struct_passwd | None = None,
) -> Ended:
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
            errors="surrogateescape",
            env={**environment, "LC_ALL": "C.UTF-8"},
            **(identity(user) if user else {}),  # type: ignore[call-overload]
        )
    except OSError as error:
        said = f"{argv[0]}: {error.strerror}"
        raise fault(said, told=f"{_name(argv[0])} can't be run on the node") from error
    try:
        output, errors = process.communicate(timeout=deadline)
    except subprocess.TimeoutExpired as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=1)  # a daemon of its own may hold the pipes open
        said = f"{argv[0]}: no answer within {deadline:g} s"
        raise fault(said, told=f"{_name(argv[0])} does not answer on the node") from error
    return Ended(process.returncode, output, errors)
