"""The OCCI service for cloud users. It is not in this release: only batch jobs get VMs."""
