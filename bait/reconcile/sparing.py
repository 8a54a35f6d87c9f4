"""When the batch system's last listing is as good as a new one. Pure.

A new one costs the batch system more the larger it is: one may send all its jobs to each node that
asks for its own. And nothing follows from it for a VM whose job was listed, and of which a process
has just been heard on this node: only a suspension, and of that the stopped process tells first.
"""

from collections.abc import Collection, Iterable, Mapping

from bait.ledger.records import Row
from bait.ledger.states import AT_REST

LONGEST = 30.0  # seconds that a listing is gone by


def suffices(
    listed: Mapping[str, bool] | None,
    age: float,
    rows: Iterable[Row],
    strangers: Collection[str],
    heard: Collection[str],
) -> bool:
    """Whether nothing more can follow from a new listing than from this one of `age` seconds.

    `listed` is as Lrms.live_jobs() has it, None if the batch system did not answer; `strangers` are
    VMs that have a domain or files here, and no row; `heard` are jobs of which a process was heard.
    """
    if listed is None or age > LONGEST or strangers:
        return False
    working = (row.job for row in rows if row.state not in AT_REST)
    return all(listed.get(job) is False and job in heard for job in working)
