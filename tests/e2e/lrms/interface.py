"""A batch system as the tests use it: they are written once, for whichever the site has."""

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

from tests.e2e.box import USER, call, machines, wait_until
from tests.e2e.lrms.listing import Listed


@dataclass
class Job(ABC):
    """A submitted job, or a task of one, and its files."""

    # What can be done with it: `cancel`, `release` (one that was submitted as held), `again` (one
    # that is held after a fault), `requeue`, `suspend`, `resume`.
    commands: ClassVar[Mapping[str, str]]

    number: str
    folder: Path
    task: str = ""

    @property
    def id(self) -> str:
        """As the batch system names it, and its files."""
        return f"{self.number}.{self.task}" if self.task else self.number

    def of_task(self, task: int) -> Self:
        """A task of it."""
        return replace(self, task=str(task))

    @property
    def output(self) -> str:
        """Its standard output so far."""
        return self._read("out")

    @property
    def error(self) -> str:
        """Its standard error so far."""
        return self._read("err")

    def _read(self, suffix: str) -> str:
        path = self.folder / f"{self.id}.{suffix}"
        return path.read_text() if path.exists() else ""

    def says(self, word: str, seconds: float = 90) -> Self:
        """Wait until its output has the word."""
        wait_until(lambda: word in self.output, seconds, f"{word}: {self.output}{self.error}")
        return self

    def machines(self) -> list[dict[str, object]]:
        """Its machines, as the administrator sees them."""
        return [m for m in machines() if m["job"] == self.id]

    def in_state(self, state: str, seconds: float = 90) -> dict[str, object]:
        """Wait until its machine is in this state."""
        wait_until(
            lambda: any(m["state"] == state for m in self.machines()),
            seconds,
            f"machine of job {self.id} {state}: {self.machines()} {self.error}",
        )
        return self.machines()[0]

    def do(self, command: str, user: str | None = None, check: bool = True) -> None:
        """One of its `commands`, as an administrator or a user."""
        call(*self.commands[command].split(), self.number, user=user, check=check)

    def cancel(self) -> None:
        """End it, as its owner; one that is over is success."""
        self.do("cancel", USER)

    @property
    @abstractmethod
    def state(self) -> str:
        """The batch system's own word for its state."""

    @property
    @abstractmethod
    def end(self) -> str:
        """How it has ended: `exit 7`, `signal 9`, or the batch system's own word."""

    @abstractmethod
    def wait(self, *, seconds: float = 120) -> Self:
        """Wait until it has wholly ended."""

    @property
    @abstractmethod
    def requeued(self) -> bool:
        """Whether it was begun anew."""

    @property
    @abstractmethod
    def held(self) -> tuple[int, str] | None:
        """How often it was tried, and why it now waits until somebody has it tried again; None if
        it doesn't. Why is what the batch system shows, or else what its user reads."""


class System(ABC):
    """A batch system. Commands that fail raise AssertionError."""

    job: type[Job]
    controller: str  # its central daemon, among the site's parts
    variable: str  # in which a job finds its number
    task_variable: str  # in which a task finds its own
    script: str  # the end of the path at which it runs the script of a job of this number
    waiting: str  # the state of a job in the queue
    at_rest: ClassVar[Mapping[str, str]]  # the `states` of an empty site
    words: ClassVar[Mapping[str, str]]  # what can be asked of a submission, and how it is said
    wrap: Sequence[str]  # a line of shell in the place of a script
    batch: str  # the command that submits a script
    interactive: str  # the one that waits for a job, and has no script
    twin: Sequence[str]  # options of both jobs of a twin
    # What it does in its own way:
    group: str  # the number of a group, as a pattern, that marks a job's processes; empty without
    asked_by: str  # what an image's name among the resources is called
    counts_runs: bool  # or knows a job's runs by when they began
    held: str  # what it calls a job that is held after a fault
    farewell: str  # the signal that a job hears some time before it is killed; empty if none
    cancelled: str  # the end of a job that is cancelled
    timeout: str  # the end of one whose walltime is over
    exit_code: int  # one above 128 if it knows that from a signal
    cores: Sequence[str]  # those of the node that two VMs of one core each run on

    def options(self, **asked: object) -> list[str]:
        """What is asked for by the names of `words`; `memory` in MiB, for all cores."""
        said = (self.words[name].format(value).split() for name, value in asked.items())
        return [word for words in said for word in words]

    def command(self, text: str) -> list[str]:
        """A line of shell to submit."""
        return [word.format(text) for word in self.wrap]

    @abstractmethod
    def submission(
        self, what: Sequence[str], options: Sequence[str], env: Mapping[str, str], folder: Path
    ) -> list[str]:
        """The command that submits a script with its arguments, or a line of shell."""

    def submit(
        self, what: Sequence[str], options: Sequence[str], env: Mapping[str, str], folder: Path
    ) -> Job:
        """A job of the ordinary user's."""
        said = call(*self.submission(what, options, env, folder), user=USER)
        return self.job(said.split(".")[0].strip(), folder)

    def refused(self, *options: str, env: Mapping[str, str] | None = None, **asked: object) -> str:
        """What it says of a job that it must not take."""
        said = [*self.options(**asked), *options]
        return refused(self.submission(self.command("true"), said, env or {}, Path("/")))

    @abstractmethod
    def listing(self) -> Mapping[str, Listed]:
        """All jobs that it knows, by number."""

    def unfinished(self) -> list[str]:
        """The jobs that are not over, a line each."""
        return [f"job {j.number} {j.state}" for j in self.listing().values() if not j.over]

    @abstractmethod
    def states(self) -> Mapping[str, str]:
        """Its nodes or queues, and their states."""

    def cancel(self, *jobs: str) -> None:
        """End jobs, as an administrator; those that are over are success."""
        for number in jobs:
            self.job(number, Path("/")).do("cancel")

    @abstractmethod
    def open(self, starts: bool) -> None:
        """Whether waiting jobs may start."""

    @abstractmethod
    def widen(self, cores: int) -> None:
        """Have the running controller give so many cores of each node, if that is in no file."""


def refused(argv: Sequence[str]) -> str:
    """What a submission says that must not be taken."""
    done = subprocess.run(
        ["runuser", "-u", USER, "--", "env", "--chdir=/", *argv],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode != 0, done.stdout
    return done.stdout + done.stderr


Submit = Callable[..., Job]
