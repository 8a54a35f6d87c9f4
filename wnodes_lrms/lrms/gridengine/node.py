"""The Grid Engine of one node, through its own commands: qstat(1), qmod(1), qconf(1) of 8.1.9."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wnodes_lrms.errors import UnknownError
from wnodes_lrms.folders import PASSED, have
from wnodes_lrms.lrms.gridengine.allocation import (
    allocation_of,
    job_id,
    parse_held,
    parse_job,
    parse_memory,
    parse_named,
    parse_queued,
    parse_queues,
    place_of,
)
from wnodes_lrms.lrms.gridengine.room import parse_room
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.model import Allocation, Room
from wnodes_lrms.policy import DefaultRule
from wnodes_lrms.run import run
from wnodes_lrms.users import check_owner

_DEADLINE = 10.0


def named(name: str, user: str) -> Sequence[JobId]:
    """The jobs of a user that are queued or run by a name. Raises UnknownError."""
    return parse_named(_ask("qstat", "-xml", "-s", "prs", "-u", user), name)


class GridEngine:
    """See Lrms.

    Queues have no reason for being disabled: which of them it has disabled itself is kept in the
    file `notes`.
    """

    job_id = staticmethod(job_id)

    def __init__(self, node: str, rules: Sequence[DefaultRule], notes: Path) -> None:
        self.node = node
        self.rules = rules
        self.notes = notes

    def allocation(self, job: JobId) -> Allocation:
        """See Lrms."""
        number = job.partition(".")[0]
        found = parse_job(number, _ask("qstat", "-xml", "-j", number))
        # Who submits tells Grid Engine who they are; and the name is about to be an argument.
        user = check_owner(found.uid, found.gid, found.owner)
        running = ("qstat", "-xml", "-s", "rs", "-u", user.pw_name)
        granted = allocation_of(
            job,
            found,
            parse_held(_ask(*running, "-g", "t")),
            parse_held(_ask(*running)),
            parse_memory(_ask("qconf", "-sc")),
            self.rules,
            self.node,
        )
        return replace(granted, workdir=granted.workdir or user.pw_dir)

    def where(self, job: JobId) -> str | None:
        """See Lrms."""
        said = _ask("qstat", "-xml", "-s", "prs", "-u", "*", "-g", "t")
        return place_of(job, parse_held(said), parse_queued(said))

    def live_jobs(self) -> dict[str, bool]:
        """See Lrms."""
        listing = _ask("qstat", "-xml", "-s", "rs", "-u", "*", "-g", "t", "-q", f"*@{self.node}")
        return {row.job: row.suspended for row in parse_held(listing) if row.host == self.node}

    def room(self) -> Room:
        """See Lrms."""
        return parse_room(self._listing())

    def drain(self, reason: str) -> str:  # noqa: ARG002 (Grid Engine keeps none)
        """See Lrms: disable this host's queues."""
        queues, ours = self._queues(), self._ours()
        new = [name for name, state in queues.items() if "d" not in state]
        self._note(ours | set(new))  # before it is done: a bait that dies here knows
        if new:
            _ask("qmod", "-d", *new)
        return _foreign(queues, ours)

    def resume(self) -> str:
        """See Lrms: enable the queues that were disabled here."""
        queues, ours = self._queues(), self._ours()
        back = [name for name, state in queues.items() if "d" in state and name in ours]
        if back:
            _ask("qmod", "-e", *back)
        self._note(set())
        return _foreign(queues, ours)

    def _queues(self) -> dict[str, str]:
        return parse_queues(self._listing())

    def _listing(self) -> str:
        return _ask("qstat", "-f", "-xml", "-q", f"*@{self.node}")

    def _ours(self) -> set[str]:
        try:
            return set(json.loads(self.notes.read_text()))
        except (OSError, ValueError):
            return set()

    def _note(self, names: set[str]) -> None:
        try:
            if names:
                have(self.notes.parent, PASSED)
                self.notes.write_text(json.dumps(sorted(names)))
            else:
                self.notes.unlink(missing_ok=True)
        except OSError as error:
            raise UnknownError(f"{self.notes}: {error}") from error


def _foreign(queues: dict[str, str], ours: set[str]) -> str:
    others = [name for name, state in queues.items() if "d" in state and name not in ours]
    return f"disabled: {', '.join(sorted(others))}" if others else ""


def _ask(*argv: str) -> str:
    return run(argv, deadline=_DEADLINE, unknown=True)
