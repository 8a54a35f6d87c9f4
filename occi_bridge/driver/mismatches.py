"""What all nodes should have in common and do not, for the administrator: said once in the log."""

import logging

from occi_bridge.driver.reports import Reports

log = logging.getLogger(__name__)


class Mismatches:
    """Compares what baits say of their nodes."""

    def __init__(self) -> None:
        self._said = ""

    def compare(self, reports: Reports) -> None:
        """Say how the nodes that answer differ, if it is in another way than was said before."""
        if reports.baits:
            apart = difference(reports)
            if apart and apart != self._said:
                log.warning("%s", apart)
            self._said = apart


def difference(reports: Reports) -> str:
    """How they do, in words; "" if they do not. Pure."""
    own = sorted(report.node for report in reports.baits.values() if report.local_volumes)
    shared = sorted(report.node for report in reports.baits.values() if not report.local_volumes)
    if not (own and shared):
        return ""
    return (
        f"[cloud.pool] is not the same everywhere: {' '.join(own)} keep volumes for themselves,"
        f" {' '.join(shared)} share them: VMs may not find theirs"
    )
