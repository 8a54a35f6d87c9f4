"""The batch systems that a site in a box can have, as the harness uses them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol
from xml.etree import ElementTree

from contrib.site.box.gridengine import QUEUES
from contrib.site.box.layout import NODES
from tests.chaos.jobs import Listed, Lister
from tests.chaos.patience import retried
from tests.e2e.conftest import FINAL, USER, call

_CORES = 4  # of each node: walks wait more than they compute, and a plain job has one


class Lrms(Lister, Protocol):
    """One of them. Commands that fail raise AssertionError."""

    controller: str  # its central daemon, among the site's parts
    variable: str  # in which a job finds its number

    def cancel(self, *jobs: str) -> None:
        """End jobs; those that are over are success."""

    def plain_job(self, node: str) -> str:
        """Submit one of an ordinary user's that does nothing for hours; its number."""

    def widened(self, conf: str) -> str:
        """Its configuration file, with more cores for each node."""

    def widen(self) -> None:
        """Say the same to the running controller, where it has no such file."""

    def open(self, starts: bool) -> None:
        """Whether waiting jobs may start."""


@contextmanager
def closed(lrms: Lrms) -> Iterator[None]:
    """No job starts while this lasts; those that run go on."""
    try:
        retried(lambda: lrms.open(False))
        yield
    finally:
        retried(lambda: lrms.open(True))


class Slurm:
    """Its commands."""

    controller = "slurmctld"
    variable = "SLURM_JOB_ID"

    def listing(self) -> Mapping[str, Listed]:
        asked = ("squeue", "--noheader", "--states=all", "--format=%i|%j|%T|%r")
        rows = (line.split("|") for line in call(*asked).splitlines())
        return {
            number: Listed(number, name, state, reason, state == "RUNNING", state in FINAL)
            for number, name, state, reason in rows
        }

    def cancel(self, *jobs: str) -> None:
        call("scancel", *jobs)

    def plain_job(self, node: str) -> str:
        return call(
            *("sbatch", "--parsable", "--chdir=/", "--output=/dev/null", f"--nodelist={node}"),
            *("--mem=64", "--time=120", "--no-requeue", "--wrap=sleep 7200"),
            user=USER,
        ).strip()

    def widened(self, conf: str) -> str:
        return conf.replace("CPUs=2 ", f"CPUs={_CORES} ")

    def widen(self) -> None:
        """The file says it."""

    def open(self, starts: bool) -> None:
        for name in ("main", "grid"):
            word = "UP" if starts else "DOWN"
            call("scontrol", "update", f"PartitionName={name}", f"State={word}")


class GridEngine:
    """Its commands."""

    controller = "qmaster"
    variable = "JOB_ID"

    def listing(self) -> Mapping[str, Listed]:
        tree = ElementTree.fromstring(call("qstat", "-xml", "-u", "*"))  # noqa: S314
        found = {}
        for row in tree.iter("job_list"):
            number, state = row.findtext("JB_job_number", ""), row.findtext("state", "")
            name = row.findtext("JB_name", "")
            found[number] = Listed(number, name, state, runs="r" in state)
        return found

    def cancel(self, *jobs: str) -> None:
        call("qdel", *jobs, check=False)  # 1 where one is over

    def plain_job(self, node: str) -> str:
        return call(
            *("qsub", "-terse", "-wd", "/", "-o", "/dev/null", "-j", "y", "-b", "y", "-r", "n"),
            *("-q", f"{QUEUES[0]}@{node}", "-l", "mem_free=64M", "/bin/sleep", "7200"),
            user=USER,
        ).strip()

    def widened(self, conf: str) -> str:
        return conf

    def widen(self) -> None:
        for node in NODES:
            call("qconf", "-mattr", "exechost", "complex_values", f"slots={_CORES}", node)
        call("qconf", "-mattr", "queue", "slots", str(_CORES), *QUEUES)

    def open(self, starts: bool) -> None:
        call("qmod", "-e" if starts else "-d", "*")


SYSTEMS: Mapping[str, Lrms] = {"slurm": Slurm(), "gridengine": GridEngine()}
