"""What Slurm's accounting has of jobs. The pure half reads the text; `runs` asks for it.

Source: sacct(1) of Slurm 22.05 and 24.11. Nothing that a user can write is among the columns; the
comment, which only the administrator and job_submit.lua write, stands last. `--duplicates` gives a
job that was requeued once for each time it ran.
"""

import re
import time
from collections.abc import Sequence

from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.lrms.interface import Run
from wnodes_lrms.lrms.slurm.allocation import parse_memory
from wnodes_lrms.run import run

_COLUMNS = ("JobIDRaw", "State", "Start", "End", "AllocCPUS", "AllocTRES", "AdminComment")
_FORMAT = ",".join(_COLUMNS)
_NO_TIME = ("Unknown", "None")
_LEASE = re.compile(r"(?:^|\s)wnodes_lease=(\S+)")  # job_submit.lua's mark
_DEADLINE = 60.0  # seconds: slurmdbd may have to look through many jobs


def parse(text: str) -> list[Run]:
    """The runs in the output of `command`.

    Jobs that never started are left out. Raises UnknownError if the text has other columns.
    """
    return [found for line in text.splitlines() if (found := _run(line))]


def _run(line: str) -> Run | None:
    values = line.split("|", len(_COLUMNS) - 1)
    try:
        row = dict(zip(_COLUMNS, values, strict=True))
        if row["Start"] in _NO_TIME:
            return None
        return Run(
            job=str(int(row["JobIDRaw"])),
            state=row["State"],
            start=float(row["Start"]),
            end=None if row["End"] in _NO_TIME else float(row["End"]),
            cores=int(row["AllocCPUS"]),
            memory=_memory(row["AllocTRES"]),
            # Slurm tells the comment only of jobs that have ended.
            lease=found[1] if (found := _LEASE.search(row["AdminComment"])) else "",
        )
    except ValueError as error:
        raise UnknownError(f"sacct does not answer in the columns asked for: «{line}»") from error


def _memory(tres: str) -> int:
    try:
        return parse_memory(tres)
    except RejectedError:
        return 0


def command(node: str, seconds: int) -> list[str]:
    """What asks for the runs on a node that had not ended so many seconds ago.

    Times are relative, and in seconds: no time zone is in them.
    """
    argv = ["env", "SLURM_TIME_FORMAT=%s", "sacct", "--noheader", "--parsable2", "--allusers"]
    argv += ["--allocations", "--duplicates", f"--nodelist={node}", f"--format={_FORMAT}"]
    return [*argv, f"--starttime=now-{seconds}seconds"]


def runs(node: str, since: float) -> Sequence[Run]:
    """The runs on a node that had not ended before `since` (seconds since the epoch).

    Raises UnknownError if Slurm's accounting does not answer, or there is none.
    """
    seconds = max(1, round(time.time() - since))
    return parse(run(command(node, seconds), deadline=_DEADLINE, unknown=True))
