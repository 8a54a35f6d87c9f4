"""What `wnodes-bait --check` looks at on a node, and what it concludes."""
