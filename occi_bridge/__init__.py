"""The OCCI service for cloud users, who get VMs out of the same pool as batch jobs."""
