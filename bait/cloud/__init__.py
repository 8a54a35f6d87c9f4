"""Cloud VMs: from a signed order to their end."""
