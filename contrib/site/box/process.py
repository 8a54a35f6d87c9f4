"""Processes of the site: started apart from the terminal, recorded, and known again for certain."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from .errors import SiteError
from .layout import Memory

# What a daemon gets: nothing of the shell that ran `up`, such as another interpreter first in PATH.
CLEAN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}


def run(argv: Sequence[str], env: Mapping[str, str] | None = None, timeout: float = 60) -> str:
    """The standard output of a command. Raises SiteError with what it said if it fails."""
    try:
        done = subprocess.run(
            argv,
            env={**CLEAN, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SiteError(f"«{' '.join(argv)}» took over {timeout:.0f} s", "see why") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise SiteError(f"«{' '.join(argv)}» failed: {said}", "see what it says")
    return done.stdout


def succeeds(argv: Sequence[str], env: Mapping[str, str] | None = None) -> bool:
    """Whether a command ends well within ten seconds."""
    try:
        run(argv, env, timeout=10)
    except SiteError:
        return False
    return True


def wait_until(true: Callable[[], bool], seconds: float, pause: float = 0.05) -> bool:
    """Ask again and again, for at most this long; the last answer. All in seconds."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def started_at(pid: int) -> str | None:
    """When a process began: with its number this names it for ever. None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else f"{this_boot()} {fields[19]}"


def this_boot() -> str:
    """A name for the time since the machine was started."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def pids() -> Iterator[int]:
    """All processes of the machine."""
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def stop(pid: int, seconds: float) -> bool:
    """Ask a process to end, after `seconds` make it. Whether it is gone."""
    born = started_at(pid)
    for asked, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5)):
        if born is None or started_at(pid) != born:
            return True
        os.kill(pid, asked)
        if wait_until(lambda: started_at(pid) != born, patience):
            return True
    return False


class Processes:
    """The daemons that `up` started, by name."""

    def __init__(self, memory: Memory, logs: Path) -> None:
        self._memory = memory
        self._logs = logs

    def log(self, name: str) -> Path:
        """The file that has all the process says."""
        return self._logs / f"{name}.log"

    def names(self) -> list[str]:
        """All that were started and not stopped since."""
        return list(self._memory.get("processes", {}))

    def pid(self, name: str) -> int | None:
        """Its number if it lives; None if not, or if its number is another's by now."""
        record = self._memory.get("processes", {}).get(name)
        born = record and record["started"]  # null where it had ended before it was recorded
        if not born or started_at(record["pid"]) != born:
            return None
        number: int = record["pid"]
        return number

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> int:
        """Start it in a session of its own, its output in its log; its number."""
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                argv,
                env={**CLEAN, **env},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._record(name, {"pid": process.pid, "started": started_at(process.pid)})
        return process.pid

    def stop(self, name: str, seconds: float = 10) -> None:
        """End it, and forget it. Raises SiteError if it can't be ended."""
        pid = self.pid(name)
        if pid is not None and not stop(pid, seconds):
            raise SiteError(f"{name} (process {pid}) does not end", f"look at /proc/{pid}/stack")
        self._record(name, None)

    def _record(self, name: str, record: dict[str, object] | None) -> None:
        records = {**self._memory.get("processes", {}), name: record}
        self._memory.set("processes", {k: v for k, v in records.items() if v is not None})
