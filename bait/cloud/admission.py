"""Whether an order may be obeyed here: a pure decision."""

from bait.ledger.records import Row
from bait.ledger.states import AT_REST
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.model import Allocation, Kind, State
from wnodes_lrms.order import Order


def check(
    order: Order,
    allocation: Allocation,
    user: str,
    node: str,
    overhead: int,
    old: Row | None,
    carries: bool,
) -> None:
    """Raises RejectedError, with the reason, unless the order fits this very allocation.

    `user` is the local account that the lease job runs as, `overhead` the MiB that QEMU itself
    takes, `old` the ledger's row for the VM, if there is one. `carries` tells that the job
    has a VM already.
    """

    def refuse(why: str) -> None:
        raise RejectedError(f"order refused: {why}")

    needed = order.memory + overhead
    if order.account != user:
        refuse(f"it is for the account {order.account}, the lease is {user}'s")
    if order.lrms_account and allocation.account != order.lrms_account:
        refuse(f"it charges {order.lrms_account}, the lease {allocation.account or 'nobody'}")
    if allocation.cores < order.cores or allocation.memory < needed:
        refuse(
            f"it needs {order.cores} cores and {needed} MiB, "
            f"the lease has {allocation.cores} and {allocation.memory}"
        )
    if carries or allocation.tag:
        refuse("the lease carries another VM")
    if (order.job, order.node) != (allocation.job, node):
        refuse(
            f"it is for job {order.job or 'none'} on node {order.node or 'none'}, "
            f"the lease is job {allocation.job} on {node}"
        )
    if sum(nic.kind == "nat" for nic in order.nics) > 1:
        refuse("it has several cards on the node's own network")
    if old is None:
        return
    if old.kind is not Kind.CLOUD or Order.model_validate_json(old.spec).dn != order.dn:
        refuse("the VM of that id is somebody else's")
    if old.state not in AT_REST:
        refuse(f"the VM is {old.state} already")
    if old.tag != order.image:
        refuse(f"the VM's disk was made from image {old.tag}")
    if old.state is State.HIBERNATED and (old.cores, old.memory) != (order.cores, order.memory):
        refuse(f"the VM hibernates with {old.cores} cores and {old.memory} MiB")
