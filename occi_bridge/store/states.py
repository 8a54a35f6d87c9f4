"""The states of a VM's row, and what follows from them."""

# The states in which something of a VM runs, or is about to.
LIVE = frozenset({"requested", "building", "running", "crashed", "stopping"})


# The states in which a VM's disk is on its node.
ON_DISK = frozenset({"running", "crashed", "suspended", "stopping", "stopped", "failed"})


def asked_to_end(act: str) -> bool:
    """Whether what was asked of a bait last ends a VM's run: a request to start came after it."""
    return act.partition(" ")[0] in ("stop", "suspend", "cancel")
