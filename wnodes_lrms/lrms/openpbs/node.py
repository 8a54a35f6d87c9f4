"""The OpenPBS of one node, through its commands: qstat(1B), qselect(1B), pbsnodes(8B) of 23.06."""

import os
from pathlib import Path

from wnodes_lrms.lrms import pbs
from wnodes_lrms.lrms.jobid import JobId, listed
from wnodes_lrms.lrms.openpbs.allocation import (
    parse_allocation,
    parse_drain,
    parse_jobs,
    parse_node,
    parse_place,
    parse_suspended,
)
from wnodes_lrms.lrms.openpbs.room import parse_room
from wnodes_lrms.model import Allocation, Room


class OpenPBS(pbs.PbsNode):
    """See Lrms. Root here must be one of its operators or managers."""

    def allocation(self, job: JobId) -> Allocation:
        """See Lrms."""
        return parse_allocation(job, self._listing(job), self.node)

    def live_jobs(self) -> dict[str, bool]:
        """See Lrms."""
        suspended = listed(pbs.job_id, "qselect", pbs.ask("qselect", "-T", "-s", "SU"))
        found = dict.fromkeys(parse_jobs(self._described()), False)
        if suspended:
            server = self._server()
            jobs = [pbs.operand(job, server)[1] for job in suspended]
            here = parse_suspended(pbs.ask("qstat", "-f", "-w", "--", *jobs), self.node)
            found |= dict.fromkeys(here, True)
        return found

    def room(self) -> Room:
        """See Lrms."""
        return parse_room(self.node, self._listed())

    def _listing(self, job: JobId) -> str:
        return self._about(job, "qstat", "-f", "-w")

    def _place(self, job: JobId, listing: str) -> str | None:
        return parse_place(job, listing)

    def _server(self) -> str:
        """As PBS's commands find it: pbs.conf(5), and what overrides it."""
        conf = Path(os.environ.get("PBS_CONF_FILE", "/etc/pbs.conf"))
        named = os.environ.get("PBS_SERVER") or dict(pbs.settings(conf)).get("PBS_SERVER", "")
        return pbs.server_in(named, f"PBS_SERVER in {conf}")

    def _described(self) -> dict[str, list[str]]:
        return parse_node(self.node, self._listed())

    def _listed(self) -> str:
        return pbs.ask("pbsnodes", "-H", self.node)

    def _drained(self) -> str | None:
        return parse_drain(self._described())

    def _begin_drain(self, reason: str) -> None:
        pbs.ask("pbsnodes", "-o", "-C", reason, self.node)

    def _end_drain(self) -> None:
        pbs.ask("pbsnodes", "-r", "-C", "", self.node)
