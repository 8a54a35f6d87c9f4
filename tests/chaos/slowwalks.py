"""Cloud machines that run, or wait in the queue, while a bait or the library does not answer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from contrib.site.box.layout import NODES
from tests.chaos.environment import Environment
from tests.chaos.faults import Fault
from tests.chaos.patience import Violation, retried
from tests.chaos.walk import Walk
from tests.e2e.lrms.interface import System


@contextmanager
def closed(lrms: System) -> Iterator[None]:
    """No job starts while this lasts; those that run go on."""
    try:
        retried(lambda: lrms.open(False))
        yield
    finally:
        retried(lambda: lrms.open(True))


def runs_while(fault: Fault, env: Environment) -> None:
    """It runs on, in its lease, while a bait or the library does not answer."""
    mine = env.create().is_("active")
    boot, lease = mine.boot_id(), mine.lease()
    with env.slowed(fault, mine.moves()[-1].seen.node) as is_long:
        while not is_long():
            mine.stays("active")
            time.sleep(1)
    mine.is_("active")
    if not env.case.hurts and (mine.boot_id(), mine.lease()) != (boot, lease):
        raise Violation(f"it was in job {lease}, and is another in {mine.lease()}")
    mine.delete()


def queued_while(fault: Fault, node: str, env: Environment) -> None:
    """Its lease waits in the queue while a bait or the library does not answer, then runs; so
    does one that is asked for in that time."""
    with closed(env.box.lrms):
        first = env.create()
        env.wait(lambda: first.is_queued, lambda: f"queued: {first.describe()}")
        with env.slowed(fault, node) as is_long:
            second = env.create()
            while not is_long():
                first.stays("inactive")
                second.stays("inactive")
                time.sleep(1)
        env.wait(lambda: second.is_queued, lambda: f"queued: {second.describe()}")
        for _ in range(8):
            first.stays("inactive")
            second.stays("inactive")
            time.sleep(1)
    for each in (first, second):
        each.is_("active")
    for each in (first, second):
        each.delete()


WALKS = {
    "cloud: runs while its bait is frozen": Walk(partial(runs_while, Fault.FROZEN)),
    "cloud: runs while another bait is frozen": Walk(partial(runs_while, Fault.OTHER)),
    **{
        f"cloud: queued while the bait of {node} is frozen": Walk(
            partial(queued_while, Fault.FROZEN, node)
        )
        for node in NODES
    },
}
DRMAA = {  # where leases go through it
    "cloud: runs while the library hangs": Walk(partial(runs_while, Fault.LIBRARY)),
    "cloud: queued while the library hangs": Walk(partial(queued_while, Fault.LIBRARY, NODES[0])),
}
