"""What is read of processes and of Slurm, and figures made of that. Most of it is pure."""

import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_PAGE, _TICK = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
_MIB = 1 << 20
_RPC = re.compile(r"^\s+(\w+)\s+\(\s*\d+\) count:(\d+)", re.MULTILINE)
# Of squeue: those by which it lists jobs, whatever else it asks beside that.
LISTINGS = ("REQUEST_JOB_INFO", "REQUEST_JOB_INFO_SINGLE", "REQUEST_JOB_USER_INFO")


@dataclass(frozen=True)
class Use:
    """What a process has used so far, and has now."""

    cpu: float  # seconds, with those of the programs that it has waited for
    rss: float  # MiB


def use(pid: int) -> Use:
    """Of one process; FileNotFoundError if it has ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Use(sum(map(int, fields[11:15])) / _TICK, pages * _PAGE / _MIB)


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in tree(int(child)))]


def rpcs(sdiag: str) -> dict[str, int]:
    """How often slurmctld has answered each kind of request, from sdiag's output."""
    table = sdiag.partition("statistics by message type")[2].partition("statistics by user")[0]
    return {name: int(count) for name, count in _RPC.findall(table)}


def listings(counts: dict[str, int]) -> int:
    """Those of them that list jobs."""
    return sum(counts.get(name, 0) for name in LISTINGS)


def percentile(values: Iterable[float], part: float) -> float:
    """What this part of the values is not above; nan without any."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else math.nan


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The k of cost = a · size^k that fits best (least squares of the logarithms); nan if the
    sizes are all the same."""
    pairs = [(math.log(x), math.log(y)) for x, y in zip(sizes, costs, strict=True) if y > 0]
    if len({x for x, _ in pairs}) < 2:
        return math.nan
    mean_x = sum(x for x, _ in pairs) / len(pairs)
    mean_y = sum(y for _, y in pairs) / len(pairs)
    above = sum((x - mean_x) * (y - mean_y) for x, y in pairs)
    return above / sum((x - mean_x) ** 2 for x, _ in pairs)


def own(pid: int) -> float:
    """MiB that a process has for itself alone: without libraries' files, which others may share."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    private = re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB", rollup, re.MULTILINE)
    return sum(map(int, private)) / 1024
