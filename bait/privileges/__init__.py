"""Root acting on what users have made: with their rights, or in a sandbox."""
