"""The ledger: what the bait has promised and done, and how long each VM has run."""
