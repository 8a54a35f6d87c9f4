"""What a batch system's `recorded.py` gives to the suite, and commands that say what it has."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wnodes_lrms.config.load import Config
from wnodes_lrms.lrms.interface import Lrms
from wnodes_lrms.lrms.lease import Request
from wnodes_lrms.lrms.systems import SYSTEMS

DATA = Path(__file__).parents[2] / "data"
AGAIN = (
    "its job's starter asks the batch system to run the job again: try 2 of 3; where the starter is"
    " gone, as after a reboot, and the batch system does not do so by itself, `{} 12` does"
)
HELD = (
    "its job's starter asks the batch system to hold the job: once that is mended, `{} 12` lets it"
    " try again; one that may run but once ends"
)
REQUEST = Request(
    lease="00000000-0000-0000-0000-000000000001",
    user="nobody",
    account="",
    partition="",
    walltime=3600,
    cores=2,
    memory=1124,
    node="",
    program="/usr/local/libexec/wnodes/wnodes-lease",
    environment={"WNODES_LEASE": "a-lease"},
)

# A command line, with * as in sh's case → what it prints, or sh that does something else. What is
# not named prints nothing.
Answers = Mapping[str, "str | Does"]


@dataclass(frozen=True)
class Does:
    """The text of a shell."""

    script: str


@dataclass(frozen=True)
class Job:
    id: str
    answers: Answers


@dataclass(frozen=True)
class Recorded:
    """What a batch system was seen to say, and what follows from it."""

    version: str  # the folder in tests/unit/data: name and version of what was recorded
    node: str
    owner: tuple[str, int, int]  # user, uid, gid
    granted: tuple[tuple[Job, dict[str, object]], ...]  # attributes of the allocation
    refused: tuple[tuple[Job, str], ...]  # what the user is told
    waiting: Job  # there is no allocation: refused or unknown, but no allocation
    places: tuple[tuple[Job, str | None], ...]  # the node; None: the job is over
    live: tuple[tuple[Answers, dict[str, bool]], ...]  # job → suspended
    # what of the node is free: cores, MiB
    rooms: tuple[tuple[Answers, tuple[int, int | None]], ...]
    # drain or resume; the node as it is; whose drain stands; the commands that change something
    drains: tuple[tuple[str, Answers, str, tuple[str, ...]], ...]
    failure: tuple[str, str]  # what `why` says of job 12: it is tried again, it is not
    drms: str  # what the DRMAA library calls the batch system
    commands: tuple[str, ...]
    asks: tuple[str, ...]  # how those begin that only look
    drmaa_job: str = "{}"  # how that library writes a job's number
    markers: tuple[str, ...] = field(default=())  # jobs that have a VM on the node
    # Where leases go by its own commands: what is said when job 41, of the lease, is in that state.
    leases: Mapping[str, Answers] = field(default_factory=dict)


def read(version: str, name: str) -> str:
    """A recording, as wnodes_lrms.run.run decodes a program's output."""
    return (DATA / version / name).read_bytes().decode("utf-8", "surrogateescape")


class Site:
    """A node whose commands say what was recorded."""

    def __init__(self, folder: Path, name: str, recorded: Recorded) -> None:
        self.folder = folder
        self.recorded = recorded
        folder.mkdir(exist_ok=True)
        (folder / "server_name").write_text("server\n")
        (folder / "pbs.conf").write_text("PBS_SERVER=server\n")
        marks = folder / "run" / "jobs"
        marks.mkdir(parents=True)
        for job in recorded.markers:
            (marks / job).touch()
        self.config = Config(
            cluster="box",
            lrms=name,
            bait={"state_dir": str(folder / "state"), "run_dir": str(folder / "run")},
            hooks={"torque_home": str(folder)},
        )

    def node(self, name: str = "") -> Lrms:
        """The adapter, as the table makes it."""
        return SYSTEMS[self.config.lrms].node(self.config, name or self.recorded.node)

    def say(self, answers: Answers) -> None:
        for command in self.recorded.commands:
            cases = []
            for number, (pattern, answer) in enumerate(answers.items()):
                words = "*".join(shlex.quote(part) if part else "" for part in pattern.split("*"))
                file = self.folder / f"{command}.{number}"
                if isinstance(answer, str):
                    file.write_bytes(answer.encode("utf-8", "surrogateescape"))
                    cases.append(f"{words}) exec cat {file};;")
                else:
                    cases.append(f"{words}) {answer.script};;")
            script = (
                f'#!/bin/sh\necho "{command} $*" >>{self.folder}/asked\n'
                f'case "{command} $*" in\n' + "\n".join(cases) + "\nesac\n"
            )
            path = self.folder / command
            path.write_text(script)
            path.chmod(0o755)

    def changes(self) -> tuple[str, ...]:
        """The commands that were asked for more than a look."""
        lines = (self.folder / "asked").read_text().splitlines()
        return tuple(line for line in lines if not line.startswith(self.recorded.asks))

    def forget(self) -> None:
        """Take the commands away."""
        for command in self.recorded.commands:
            (self.folder / command).unlink()
