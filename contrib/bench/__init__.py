"""Measurements on the site in a box."""
