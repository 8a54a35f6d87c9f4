"""Cloud VMs: from a signed order in a lease job's hands to their end."""
