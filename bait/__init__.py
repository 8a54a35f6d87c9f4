"""The bait: the daemon on each node that turns allocations into virtual machines."""
