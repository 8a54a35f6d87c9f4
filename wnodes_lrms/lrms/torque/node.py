"""The Torque of one node, through its commands: qstat(1B), qrerun(8B), pbsnodes(8B) of 6.1.3."""

import grp
import os
import pwd
import re
from collections.abc import Container, Sequence
from contextlib import suppress
from pathlib import Path

from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.lrms import pbs
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.lrms.torque.allocation import (
    NodeState,
    parse_allocation,
    parse_node,
    parse_once,
    parse_place,
)
from wnodes_lrms.lrms.torque.room import parse_room
from wnodes_lrms.model import Allocation, Room
from wnodes_lrms.policy import DefaultRule
from wnodes_lrms.users import check_owner

_NO_COMMENT = re.compile(r"[^A-Za-z0-9 .:;/()_-]+")


def read_ids(user: str, group: str) -> tuple[int, int]:
    """The numbers of a user and a group. Raises RejectedError if this node has no such name, or
    does not have the user in that group."""
    try:
        uid, gid = pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise RejectedError(f"the job's owner is not known on this node: {error}") from error
    check_owner(uid, gid, user)
    return uid, gid


def comment(reason: str) -> str:
    """A reason as the value of `qalter -W comment=…`, which takes what follows a comma for another
    attribute: the reason may end with what a guest has printed."""
    return "wnodes: " + " ".join(_NO_COMMENT.sub(" ", reason).split())


class Torque(pbs.PbsNode):
    """See Lrms, and Reruns."""

    def __init__(self, node: str, rules: Sequence[DefaultRule], home: Path, marks: Path) -> None:
        super().__init__(node)
        self.rules = rules  # the site's [[default]]
        self.home = home  # Torque's, where the file server_name is
        self.marks = marks  # the folder with a file for each job that has a VM here

    def allocation(self, job: JobId) -> Allocation:
        """See Lrms."""
        return parse_allocation(job, self._listing(job), self.rules, self.node, read_ids)

    def live_jobs(self) -> dict[str, bool]:
        """See Lrms.

        Torque takes a suspended job off its node's list (post_signal_req() in its req_signal.c),
        and qselect can't ask for such jobs. So each that has a VM here and is not on that list is
        asked for.
        """
        found = dict.fromkeys(self._state().jobs, False)
        return found | {job: True for job in self._marked() if self._is_suspended(job, found)}

    def room(self) -> Room:
        """See Lrms."""
        return parse_room(self.node, self._described())

    def runs_once(self, job: JobId) -> str:
        """Why Torque refuses to run the job again; empty if it does not. Raises UnknownError."""
        once = parse_once(job, self._listing(job))
        return "it was submitted with `qsub -r n`" if once else ""

    def requeue(self, job: JobId) -> None:
        """End this run of the job, and have it run again. Raises UnknownError if Torque refuses:
        the bait's root must be one of its operators."""
        self._about(job, "qrerun")

    def hold(self, job: JobId, reason: str) -> None:
        """End this run of the job, and have it wait for an operator. Raises UnknownError."""
        self._about(job, "qhold", "-h", "o")
        self._about(job, "qalter", "-W", f"comment={comment(reason)}")
        self.requeue(job)

    def _marked(self) -> list[JobId]:
        jobs = []
        for file in sorted(self.marks.glob("*")):
            with suppress(RejectedError):  # somebody else's file
                jobs.append(pbs.job_id(file.name))
        return jobs

    def _is_suspended(self, job: JobId, listed: Container[str]) -> bool:
        if job in listed:
            return False
        try:
            return parse_place(job, self._listing(job), ("S",)) == self.node
        except UnknownError as error:
            if pbs.is_gone(error):
                return False
            raise

    def _listing(self, job: JobId) -> str:
        return self._about(job, "qstat", "-f", "-x")

    def _place(self, job: JobId, listing: str) -> str | None:
        return parse_place(job, listing)

    def _server(self) -> str:
        """As Torque's commands find it: pbs_get_server_list() in its pbsD_connect.c."""
        for variable in ("PBS_DEFAULT", "PBS_SERVER"):
            if named := os.environ.get(variable):
                return pbs.server_in(named, variable)
        file = self.home / "server_name"
        try:
            first = file.read_text().partition("\n")[0]
        except (OSError, ValueError) as error:
            raise UnknownError(f"{file}: {error}: see torque_home in [hooks]") from error
        return pbs.server_in(first, str(file))

    def _state(self) -> NodeState:
        return parse_node(self.node, self._described())

    def _described(self) -> str:
        return pbs.ask("pbsnodes", "-x", self.node)

    def _drained(self) -> str | None:
        found = self._state()
        return found.note if "offline" in found.state else None

    def _begin_drain(self, reason: str) -> None:
        pbs.ask("pbsnodes", "-o", "-N", reason, self.node)

    def _end_drain(self) -> None:
        pbs.ask("pbsnodes", "-c", "-N", "n", self.node)
