"""Where others speak to the bait: the control socket and the HTTPS service."""
