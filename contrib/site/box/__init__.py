"""The parts of the site in a box.

Standard library only, so that the system's interpreter runs it, but for what makes certificates
(ca.py, certificates.py, identities.py), which `up` runs in the project's own environment.
"""
