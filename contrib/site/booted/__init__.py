"""A Debian in a container with systemd as its first process.

`main` has the commands, `place` what is where, `means` whether this machine can have it, `root`
makes the files once and keeps them, `machine` boots them and runs commands there.
"""
