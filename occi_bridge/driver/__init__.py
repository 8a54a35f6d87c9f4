"""Makes the baits do what users have asked for: observe, plan, act."""
