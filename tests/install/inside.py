"""Runs commands in the container, as root or as a user, and says what they said if they fail."""

import io
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

LONG = 900.0  # seconds for a block that installs packages, for a state on a busy machine


_FIRST, _GROWS = 0.5, 1.3  # seconds between two looks, and how that grows


class FailedError(Exception):
    """A command that did not do what the documentation says. `code`: its exit code, if it was that
    which told."""

    def __init__(self, said: str, code: int | None = None) -> None:
        super().__init__(said)
        self.code = code


class Host(Protocol):
    """A container, or a VM."""

    def command(self, argv: Sequence[str]) -> list[str]:
        """What runs a command there as root, in the sources, with our streams."""

    def unpack(self, packed: bytes, folder: str) -> None:
        """Unpack a tar file in a folder there, all of it root's."""

    def reboot(self) -> None:
        """As an administrator does it; comes back when it is up again."""


class Inside:
    """A machine, as those see it who type commands there."""

    def __init__(self, machine: Host, patience: float = 1, pause: float = _FIRST) -> None:
        """What it is waited for takes `patience` times as long as in a container. Between two looks
        there are `pause` seconds at most: where a look is dear, what is waited for comes late."""
        self.machine = machine
        self.patience = patience
        self.pause = pause

    def shell(self, script: str, user: str = "root", deadline: float = LONG) -> str:
        """What a script says, on both streams; it ends with the first command that fails.

        Raises FailedError, with all of it, if one does or if it takes longer (seconds).
        """
        argv = ["bash", "-euo", "pipefail", "-c", script]
        if user != "root":
            home = f"/home/{user}"
            argv[-1] = f"cd\n{script}"  # the shell notes it in PWD, which sbatch believes
            argv = ["runuser", "-u", user, "--", "env", f"HOME={home}", *argv]
        argv = ["timeout", "--kill-after=10", f"{deadline * self.patience:g}", *argv]
        done = subprocess.run(
            self.machine.command(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            said = f"exit code {done.returncode} of\n{script}\n{done.stdout}"
            raise FailedError(said, done.returncode)
        return done.stdout

    def until(self, what: str, true: Callable[[], bool], seconds: float = LONG) -> None:
        """Wait for something. Raises FailedError if it is not so in time; a look may raise it too,
        if it sees that it never will be."""
        seconds *= self.patience
        deadline, pause = time.monotonic() + seconds, _FIRST
        while not true():
            if time.monotonic() > deadline:
                raise FailedError(f"after {seconds:g} s not yet: {what}")
            time.sleep(pause)
            pause = min(pause * _GROWS, self.pause)

    def put(self, files: Mapping[str, tuple[bytes, int]]) -> None:
        """Write files, root's, of this content and mode; folders are made."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name, (content, mode) in files.items():
                for folder in reversed(Path(name).parents[:-1]):
                    entry = tarfile.TarInfo(str(folder))
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    archive.addfile(entry)
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), mode
                archive.addfile(entry, io.BytesIO(content))
        self.machine.unpack(packed.getvalue(), "/")
