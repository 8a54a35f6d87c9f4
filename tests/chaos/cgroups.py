"""The control groups of jobs and machines, of which a run may leave none."""

from collections.abc import Collection, Iterator
from pathlib import Path

_TOP = Path("/sys/fs/cgroup")


def left(jobs: Collection[str], top: Path = _TOP) -> Iterator[Path]:
    """Those that there are but of these jobs, which go on.

    A job is known by its number, not by the folders that it had once: Slurm says that it runs
    before it has made all of them.
    """
    known = {f"job_{job}" for job in jobs}
    for word in ("job_*", "*qemu*"):
        yield from (p for p in sorted(top.rglob(word)) if p.is_dir() and p.name not in known)
