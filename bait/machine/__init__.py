"""Making one VM: its files, disk, seed and domain."""
