"""Takes out of a saved disk what its VM was known by: none that is made from it is taken for it.

By libguestfs, as inject.py does; what goes is much of what virt-sysprep(1) takes out.

`python -m bait.cloud.strip`, with a JSON object of `disk`, `ssh_keys` and `kvm` on its standard
input. It says STRIPPED; anything else, with exit status 0, is what stays, and why.
"""

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from bait.cloud.inject import HOST_KEYS, USER_DATA, launched, mount

STRIPPED = "stripped"
MACHINE_ID = "/etc/machine-id"  # empty, systemd makes a new one: machine-id(5)
KEYS = ("/root/.ssh/authorized_keys", "/home/*/.ssh/authorized_keys")
GONE = (
    HOST_KEYS,
    "/var/lib/dbus/machine-id",
    "/var/lib/systemd/random-seed",
    "/var/lib/urandom/random-seed",
    "/etc/udev/rules.d/70-persistent-net.rules",
    "/var/lib/dhcp/*.lease*",
    "/var/lib/dhclient/*.lease*",
    "/var/lib/NetworkManager/*.lease*",
    # What made the VM its user's: cloud-init, and this project's own.
    "/var/lib/cloud",
    "/var/lib/wnodes-cloud",
    "/var/lib/wnodes-user",
    USER_DATA,
)


def without_keys(text: bytes, keys: list[str]) -> bytes:
    """An authorized_keys (sshd(8)) without these keys, whatever options stand before them."""
    material = {words[1].encode() for key in keys if len(words := key.split()) > 1}
    lines = text.splitlines(keepends=True)
    return b"".join(line for line in lines if not material.intersection(line.split()))


def strip(disk: str, ssh_keys: list[str], kvm: bool) -> str:
    """Do it; what stays, and why, if anything does. Raises RuntimeError if the disk may be damaged.

    What its user has made of the file system, such as a folder in the place of a file, or one that
    can't be written to, leaves the disk as good as it was.
    """
    try:
        guest = launched(disk, kvm)
    except RuntimeError as error:
        return f"all of it: {error}"
    try:
        try:
            mount(guest)
        except RuntimeError as error:
            return f"all of it: {error}"
        faults = [fault for fault in _taken_out(guest, ssh_keys) if fault]
        guest.umount_all()  # an appliance that has ended on the way is told by this
        return faults[0] if faults else ""
    finally:
        guest.shutdown()
        guest.close()


def _taken_out(guest: Any, ssh_keys: list[str]) -> Iterator[str]:
    """Take out one after the other; for each that can't be, why."""
    for pattern in GONE:
        for path in guest.glob_expand(pattern):
            yield _tried(path, guest.rm_rf, path)
    if guest.is_file(MACHINE_ID):
        yield _tried(MACHINE_ID, guest.write, MACHINE_ID, b"")
    for pattern in KEYS:
        for path in guest.glob_expand(pattern):
            if guest.is_file(path, followsymlinks=True):
                yield _tried(path, _take_keys, guest, path, ssh_keys)


def _take_keys(guest: Any, path: str, keys: list[str]) -> None:
    had = guest.read_file(path)
    if (has := without_keys(had, keys)) != had:
        guest.write(path, has)  # in place: its owner and mode stay


def _tried(path: str, act: Callable[..., None], *arguments: object) -> str:
    try:
        act(*arguments)
    except RuntimeError as error:
        return f"{path}: {error}"
    return ""


def main() -> int:
    """Strip what standard input says; a fault is the last line on standard error."""
    values = json.load(sys.stdin)
    try:
        print(" ".join(strip(**values).split()) or STRIPPED)
    except RuntimeError as error:
        print(f"libguestfs: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
