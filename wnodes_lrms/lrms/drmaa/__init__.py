"""Leases through a site's DRMAA library."""
