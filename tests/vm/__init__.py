"""What only a machine of its own shows: AppArmor, control groups v2, reboots, how VMs end.

`site` sets a whole site up in the container and makes a disk of it; `stages` are what is looked at
in the VM that boots from it, their order is in `__main__`.
"""
