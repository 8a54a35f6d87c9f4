"""Slurm as the tests use it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from contrib.site.box.layout import NODES
from tests.e2e.box import USER, call, wait_until
from tests.e2e.lrms import interface
from tests.e2e.lrms.listing import Listed
from wnodes_lrms.order import LEASE_NAME

FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}


@dataclass
class Job(interface.Job):
    """A job, or a task of one."""

    commands: ClassVar[Mapping[str, str]] = {
        "cancel": "scancel",
        "release": "scontrol release",
        "again": "scontrol release",
        "requeue": "scontrol requeue",
        "suspend": "scontrol suspend",
        "resume": "scontrol resume",
    }

    @property
    def id(self) -> str:
        return f"{self.number}_{self.task}" if self.task else self.number

    def show(self) -> str:
        """What Slurm says of it."""
        return call("scontrol", "-d", "show", "job", self.id)

    def field(self, name: str) -> str:
        """One of the fields of `scontrol show job`, up to the line's end for a comment."""
        pattern = rf"\b{name}=(.*)" if name == "Comment" else rf"\b{name}=(\S*)"
        found = re.search(pattern, self.show())
        return found.group(1).strip() if found else ""

    @property
    def state(self) -> str:
        return self.field("JobState")

    @property
    def exit_code(self) -> str:
        """Slurm's "exit code:signal"."""
        return self.field("ExitCode")

    @property
    def end(self) -> str:
        state, (code, signal) = self.state, self.exit_code.split(":")
        said = f"exit {code}" if signal == "0" else f"signal {signal}"
        agreed = "COMPLETED" if said == "exit 0" else "FAILED"
        return said if state == agreed else state

    def wait(self, *states: str, seconds: float = 120) -> Self:
        """Wait until it is in one of these states, or has ended."""
        wanted = set(states) or FINAL
        wait_until(lambda: self.state in wanted, seconds, f"{wanted}: {self.show()}{self.error}")
        return self

    @property
    def requeued(self) -> bool:
        return self.field("Restarts") != "0"

    @property
    def held(self) -> tuple[int, str] | None:
        if self.field("Reason") != "job_requeued_in_held_state":
            return None
        return int(self.field("Restarts")), self.field("Comment")

    def signal(self, *options: str) -> None:
        """scancel with these, as its owner."""
        call("scancel", *options, self.number, user=USER)


class Slurm(interface.System):
    """Its commands."""

    job = Job
    controller = "slurmctld"
    variable = "SLURM_JOB_ID"
    task_variable = "SLURM_ARRAY_TASK_ID"
    script = "job{:0>5}/slurm_script"
    waiting = "PENDING"
    at_rest: ClassVar[Mapping[str, str]] = dict.fromkeys(NODES, "idle")
    words: ClassVar[Mapping[str, str]] = {
        "node": "--nodelist={}",
        "queue": "--partition={}",
        "nodes": "--nodes={}",
        "cores": "--cpus-per-task={}",
        "memory": "--mem={}",
        "resource": "--constraint=vm_{}",
        "tasks": "--array={} --output=%A_%a.out --error=%A_%a.err",
        "joined": "--error=%A_%a.out",
        "held": "--hold",
        "once": "--no-requeue",
        "appended": "--open-mode=append",
        "short": "--time=1",
    }
    wrap = ("--wrap={}",)
    batch, interactive = "sbatch", "srun"
    twin = ("--job-name=twin",)
    group = ""
    asked_by = "constraint"
    counts_runs = True
    held = "held"
    farewell = "TERM"
    cancelled = "CANCELLED"
    timeout = "TIMEOUT"
    exit_code = 137
    cores = ("0", "1")

    def submission(
        self, what: Sequence[str], options: Sequence[str], env: Mapping[str, str], folder: Path
    ) -> list[str]:
        words = [f"{name}={value}" for name, value in env.items()]
        files = ("--output=%j.out", "--error=%j.err")
        # As from a daemon, a CE: bash has the shell from the account where nobody says it.
        caller = ("env", f"--chdir={folder}", "--unset=SHELL")
        return [*caller, *words, "sbatch", "--parsable", *files, *options, *what]

    def listing(self) -> Mapping[str, Listed]:
        asked = ("squeue", "--noheader", "--states=all", "--format=%i|%j|%T|%r")
        rows = (line.split("|") for line in call(*asked).splitlines())
        return {
            number: Listed(number, name, state, reason, state == "RUNNING", state in FINAL)
            for number, name, state, reason in rows
        }

    def states(self) -> Mapping[str, str]:
        lines = call("sinfo", "--noheader", "--Node", "--format=%N %t").splitlines()
        return dict(line.split() for line in lines)

    def widen(self, cores: int) -> None:
        """The file says it."""

    def open(self, starts: bool) -> None:
        for name in ("main", "grid"):
            word = "UP" if starts else "DOWN"
            call("scontrol", "update", f"PartitionName={name}", f"State={word}")


def leases() -> list[str]:
    """The numbers of the lease jobs that Slurm has."""
    lines = call("squeue", "--noheader", "--format=%i %j").splitlines()
    return [line.split()[0] for line in lines if line.split()[1].startswith(LEASE_NAME)]


def the_lease() -> Job:
    """The only lease job that there is."""
    wait_until(lambda: len(leases()) == 1, 30, f"one lease, but: {leases()}")
    return Job(leases()[0], Path("/"))


Submit = Callable[..., Job]
