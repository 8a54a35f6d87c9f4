"""The bridge: the OCCI service for cloud users, who get VMs from the batch system's pool."""
