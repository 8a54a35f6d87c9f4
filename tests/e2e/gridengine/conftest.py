"""The site in a box with Grid Engine, as an ordinary user and as its administrator.

`make e2e-gridengine` brings the site up, runs these tests in its environment and takes it down.
"""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.e2e.conftest import (
    IMAGE,
    NODES,
    USER,
    Traces,
    call,
    remains,
    script_in,
    wait_until,
)


@dataclass
class Job(Traces):
    """A submitted job, or a task of one, and its files."""

    task: str = ""

    @property
    def id(self) -> str:
        """As Grid Engine and the bait name it."""
        return f"{self.number}.{self.task}" if self.task else self.number

    @property
    def state(self) -> str:
        """Grid Engine's letters for its state; empty once it has ended."""
        return next((state for job, state in states() if job == self.id), "")

    def wait(self, seconds: float = 120) -> "Job":
        """Wait until it has wholly ended, and its record is written."""
        wait_until(lambda: not self.state, seconds, f"ended: {states()} {self.error}")
        wait_until(self._record, 20, "its record")
        return self

    def in_error(self, seconds: float = 60) -> "Job":
        """Wait until it is in error state."""
        wait_until(lambda: "E" in self.state, seconds, f"error state: {states()} {self.error}")
        return self

    @property
    def exit_code(self) -> int:
        """Its exit code; 128 and the signal if it died of one."""
        return int(self._record()[-1]["exit_status"].split()[0])

    def says(self, word: str, seconds: float = 60) -> "Job":
        """Wait until its output has the word."""
        wait_until(lambda: word in self.output, seconds, f"{word}: {self.output} {self.error}")
        return self

    def cancel(self) -> None:
        """qdel, as its owner."""
        call("qdel", self.number, user=USER, check=False)

    def _record(self) -> list[dict[str, str]]:
        """Its accounting records, one a run: key to value."""
        task = ("-t", self.task) if self.task else ()
        said = call("qacct", "-j", self.number, *task, check=False)
        runs = [part for part in said.split("=" * 62) if part.strip()]
        pairs = ([line.split(None, 1) for line in run.strip().splitlines()] for run in runs)
        records = [{pair[0]: pair[1] for pair in run if len(pair) == 2} for run in pairs]
        return [record for record in records if "exit_status" in record]  # it says other things too


def states() -> list[tuple[str, str]]:
    """Each job and task that Grid Engine has, and the letters of its state."""
    tree = ElementTree.fromstring(call("qstat", "-xml", "-u", "*", "-g", "d"))  # noqa: S314
    rows = []
    for row in tree.iter("job_list"):
        number, task = row.findtext("JB_job_number", ""), row.findtext("tasks", "")
        rows.append((f"{number}.{task}" if task else number, row.findtext("state", "")))
    return rows


def queues() -> dict[str, str]:
    """Each queue instance, and the letters of its state."""
    tree = ElementTree.fromstring(call("qstat", "-f", "-xml"))  # noqa: S314
    return {q.findtext("name", ""): q.findtext("state", "") for q in tree.iter("Queue-List")}


Submit = Callable[..., Job]


@pytest.fixture
def submit(home: Path) -> Iterator[Submit]:
    """Submit a script as the ordinary user; what still runs at the end is deleted."""
    jobs: list[Job] = []

    def _submit(
        script: str,
        *options: str,
        image: str | None = IMAGE,
        env: Mapping[str, str] | None = None,
        folder: Path = home,
        args: tuple[str, ...] = (),
        interpreter: str = "/bin/bash",
    ) -> Job:
        path = script_in(home, script, interpreter)
        wish = {"WNODES_IMAGE": image} if image else {}
        words = [("-v", f"{key}={value}") for key, value in {**wish, **(env or {})}.items()]
        named = "$JOB_ID.$TASK_ID" if "-t" in options else "$JOB_ID"
        files = ("-o", f"{folder}/{named}.out", "-e", f"{folder}/{named}.err")
        command = options[-1:] if "-b" in options else (str(path),)
        options = options[:-1] if "-b" in options else options
        number = call(
            *("env", f"--chdir={folder}", "qsub", "-terse", "-cwd", *files),
            *(word for pair in words for word in pair),
            *(*options, *command, *args),
            user=USER,
        )
        jobs.append(Job(number.split(".")[0].strip(), folder))
        return jobs[-1]

    yield _submit
    for job in jobs:
        call("qdel", job.number, check=False)


def refused(*options: str, env: Mapping[str, str] | None = None, client: str = "qsub") -> str:
    """What Grid Engine says of a job that it must not take."""
    words = [word for key, value in (env or {}).items() for word in ("-v", f"{key}={value}")]
    command = ("-b", "y", "/bin/true") if client == "qsub" else ("/bin/true",)
    done = subprocess.run(
        ["runuser", "-u", USER, "--", "env", "--chdir=/", client, *words, *options, *command],
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode != 0, done.stdout
    return done.stdout + done.stderr


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """After each test: no job, domain, file, tap or ledger row, and every queue takes jobs."""
    yield
    wait_until(lambda: not (states() or remains()), 60, f"nothing left: {states()} {remains()}")
    assert set(queues()) == {f"{queue}@{node}" for queue in ("main", "grid") for node in NODES}
    assert not any(queues().values()), queues()
