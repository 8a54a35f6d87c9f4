"""The container's Debian as a VM: with a kernel of its own, for what that alone can show.

`disk` makes the disk out of the container's files, `guest` boots it and runs commands there.
"""
