"""Takes out of a saved disk what its VM was known by: none that is made from it is taken for it.

By libguestfs, as inject.py does; what goes is much of what virt-sysprep(1) takes out.

`python -m bait.cloud.strip`, with a JSON object of `disk`, `ssh_keys` and `kvm` on its standard
input. It says STRIPPED; anything else, with exit status 0: it could not, and changed nothing.
"""

import json
import sys

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


def strip(disk: str, ssh_keys: list[str], kvm: bool) -> bool:
    """Do it; False, and no change, where there is no system on the disk. Raises RuntimeError."""
    try:
        guest = launched(disk, kvm)
    except RuntimeError:
        return False
    try:
        try:
            mount(guest)
        except RuntimeError:
            return False
        for pattern in GONE:
            for path in guest.glob_expand(pattern):
                guest.rm_rf(path)
        if guest.is_file(MACHINE_ID):
            guest.write(MACHINE_ID, b"")
        for pattern in KEYS:
            for path in guest.glob_expand(pattern):
                had = guest.read_file(path)
                if (has := without_keys(had, ssh_keys)) != had:
                    guest.write(path, has)  # in place: its owner and mode stay
        return True
    finally:
        guest.shutdown()
        guest.close()


def main() -> int:
    """Strip what standard input says; a fault is the last line on standard error."""
    values = json.load(sys.stdin)
    try:
        print(STRIPPED if strip(**values) else "")
    except RuntimeError as error:
        print(f"libguestfs: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
