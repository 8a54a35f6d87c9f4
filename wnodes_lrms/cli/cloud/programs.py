"""Calls of programs that may ask the user something at their terminal, such as a pass phrase.

They stay in the terminal's session (unlike those of wnodes_lrms/run.py), and may take as long as
the user does.
"""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from wnodes_lrms.errors import RejectedError


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it said."""

    status: int
    output: str
    errors: str


def ask(argv: Sequence[str], package: str, *, show: bool = False) -> Ended:
    """Run a program to its end. With `show`, what it says goes to the user.

    `package` is what has the program. Raises RejectedError where it is missing.
    """
    try:
        done = subprocess.run(
            argv,
            stdout=None if show else subprocess.PIPE,
            stderr=None if show else subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            check=False,
        )
    except FileNotFoundError as fault:
        raise RejectedError(f"{argv[0]} is not on this host: install {package}") from fault
    return Ended(done.returncode, done.stdout or "", done.stderr or "")
