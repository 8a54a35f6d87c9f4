"""The guests' network cards, and what may pass through them."""
