"""Batch VMs: from a job's allocation to its end."""
