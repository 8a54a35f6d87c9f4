"""Grid Engine as the tests use it."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self
from xml.etree import ElementTree

from contrib.site.box.gridengine import QUEUES
from contrib.site.box.layout import NODES
from tests.e2e.box import call, wait_until
from tests.e2e.lrms import interface
from tests.e2e.lrms.listing import Listed


@dataclass
class Job(interface.Job):
    """A job, or a task of one."""

    commands: ClassVar[Mapping[str, str]] = {
        "cancel": "qdel",
        "release": "qrls",
        "again": "qmod -cj",
        "requeue": "qmod -rj",
        "suspend": "qmod -sj",
        "resume": "qmod -usj",
    }
    earlier: int = 0  # records of runs that were over before it was tried again

    @property
    def state(self) -> str:
        """Grid Engine's letters for it; empty once it has ended."""
        listed = listing().get(self.id)
        return listed.state if listed else ""

    def wait(self, *, seconds: float = 120) -> Self:
        """Its record is written, too."""
        wait_until(lambda: not self.state, seconds, f"ended: {listing()} {self.error}")
        wait_until(lambda: len(self._record()) > self.earlier, 20, "its record")
        return self

    @property
    def end(self) -> str:
        status = int(self._record()[-1]["exit_status"].split()[0])
        return f"exit {status}" if status <= 128 else f"signal {status - 128}"

    @property
    def requeued(self) -> bool:
        return "R" in self.state or len(self._record()) > 1

    @property
    def held(self) -> tuple[int, str] | None:
        if "E" not in self.state:
            return None
        found = re.search(r"wnodes_tries=(\d+)", call("qstat", "-j", self.number))
        return int(found[1]) + 1 if found else 1, self.error

    def do(self, command: str, user: str | None = None, check: bool = True) -> None:
        if command == "again":
            self.earlier = len(self._record())
        says_1 = command in ("cancel", "again")  # of what is over, and of what it has done
        super().do(command, user, check and not says_1)

    def _record(self) -> list[dict[str, str]]:
        """Its accounting records, one a run: key to value."""
        task = ("-t", self.task) if self.task else ()
        said = call("qacct", "-j", self.number, *task, check=False)
        runs = [part for part in said.split("=" * 62) if part.strip()]
        pairs = ([line.split(None, 1) for line in run.strip().splitlines()] for run in runs)
        records = [{pair[0]: pair[1] for pair in run if len(pair) == 2} for run in pairs]
        return [record for record in records if "exit_status" in record]  # it says other things too


def listing() -> Mapping[str, Listed]:
    """Each job and task that Grid Engine has, and the letters of its state."""
    tree = ElementTree.fromstring(call("qstat", "-xml", "-u", "*", "-g", "d"))  # noqa: S314
    found = {}
    for row in tree.iter("job_list"):
        number, task = row.findtext("JB_job_number", ""), row.findtext("tasks", "")
        name, state = row.findtext("JB_name", ""), row.findtext("state", "")
        key = f"{number}.{task}" if task else number
        found[key] = Listed(key, name, state, runs="r" in state)
    return found


def queues() -> dict[str, str]:
    """Each queue instance, and the letters of its state."""
    tree = ElementTree.fromstring(call("qstat", "-f", "-xml"))  # noqa: S314
    return {q.findtext("name", ""): q.findtext("state", "") for q in tree.iter("Queue-List")}


class GridEngine(interface.System):
    """Its commands."""

    job = Job
    controller = "qmaster"
    variable = "JOB_ID"
    task_variable = "SGE_TASK_ID"
    script = "job_scripts/{}"
    waiting = "qw"
    at_rest: ClassVar[Mapping[str, str]] = {
        f"{queue}@{node}": "" for queue in QUEUES for node in NODES
    }
    words: ClassVar[Mapping[str, str]] = {
        "node": "-q main@{}",
        "queue": "-q {}",
        "nodes": "-pe wide {}",
        "cores": "-pe smp {}",
        "memory": "-l mem_free={}M",
        "resource": "-l vm={}",
        "tasks": "-t {}",
        "joined": "-j y",
        "held": "-h",
        "once": "-r n",
        "appended": "",  # it does so by itself
        "short": "-l h_rt=20",
    }
    wrap = ("-b", "y", "{}")
    batch, interactive = "qsub", "qrsh"
    twin = ("-N", "twin", "-S", "/bin/bash")
    group = "654[0-9]{2}"  # of gid_range
    asked_by = "resource"
    counts_runs = False
    held = "error state"
    farewell = ""
    cancelled = "signal 9"
    timeout = "signal 9"
    exit_code = 37
    cores = (f"0-{(os.cpu_count() or 1) - 1}",) * 2

    def command(self, text: str) -> list[str]:
        # It would be named as the line, which may be no name.
        named = [] if text.isalnum() else ["-N", "line"]
        return [*named, *super().command(text)]

    def options(self, **asked: object) -> list[str]:
        if "cores" in asked and "memory" in asked:  # which is said for each core
            asked["memory"] = int(str(asked["memory"])) // int(str(asked["cores"]))
        return super().options(**asked)

    def submission(
        self, what: Sequence[str], options: Sequence[str], env: Mapping[str, str], folder: Path
    ) -> list[str]:
        words = [word for pair in env.items() for word in ("-v", "=".join(pair))]
        named = f"{folder}/$JOB_ID" + (".$TASK_ID" if "-t" in options else "")
        files = ("-o", f"{named}.out", "-e", f"{named}.err")
        return [
            "env",
            f"--chdir={folder}",
            "qsub",
            "-terse",
            "-cwd",
            *files,
            *words,
            *options,
            *what,
        ]

    def listing(self) -> Mapping[str, Listed]:
        return listing()

    def states(self) -> Mapping[str, str]:
        return queues()

    def open(self, starts: bool) -> None:
        call("qmod", "-e" if starts else "-d", "*")

    def widen(self, cores: int) -> None:
        for node in NODES:
            call("qconf", "-mattr", "exechost", "complex_values", f"slots={cores}", node)
        call("qconf", "-mattr", "queue", "slots", str(cores), *QUEUES)


Submit = Callable[..., Job]
