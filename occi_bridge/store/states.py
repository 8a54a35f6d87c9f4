"""The states of a VM's row, and what follows from them."""

# The states in which something of a VM runs, or is about to.
LIVE = frozenset({"requested", "building", "running", "crashed", "stopping"})


# The states in which a VM's disk is on its node.
ON_DISK = frozenset({"running", "crashed", "suspended", "stopping", "stopped", "failed"})


# What the row of a volume says was asked (Driven.act) while no node is known that will keep it.
AWAITS = "await"


def asked_to_end(act: str) -> bool:
    """Whether what was asked of a bait last ends a VM's run: a request to start came after it."""
    return act.partition(" ")[0] in ("stop", "suspend", "cancel")
