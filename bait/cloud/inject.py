"""Puts a cloud user's keys and data into a disk whose image has no cloud-init, by libguestfs.

`python -m bait.cloud.inject`, with the JSON of an Injection on its standard input: a process of its
own, see privileges/sandbox.py, because the library starts an appliance that may hang, and reads a
disk that a user may have made.
"""

import base64
import json
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT_KEYS = "/root/.ssh/authorized_keys"
HOSTS = "/etc/hosts"
HOST_KEYS = "/etc/ssh/ssh_host_*"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
USER_DATA = "/etc/wnodes/user-data"  # an image that wants it runs it at its first boot


@dataclass(frozen=True)
class Injection:
    """What goes into the disk."""

    disk: str
    hostname: str
    ssh_keys: tuple[str, ...]
    user_data: str  # base64
    host_key: str  # private, for a disk that has none, as of a saved image
    kvm: bool  # whether the appliance may use it


def with_own_name(hosts: bytes, name: str) -> bytes:
    """An /etc/hosts (hosts(5)) in which the VM's own name has an address, whatever its network."""
    kept = [line for line in hosts.splitlines() if line.split()[:1] != [b"127.0.1.1"]]
    return b"\n".join([*kept, f"127.0.1.1 {name}".encode(), b""])


def inject(injection: Injection) -> None:
    """Write host name, keys and user data. Raises RuntimeError if the disk does not take them."""
    guest = launched(injection.disk, injection.kvm)
    try:
        mount(guest)
        guest.write("/etc/hostname", f"{injection.hostname}\n")
        had = guest.read_file(HOSTS) if guest.is_file(HOSTS) else b""
        guest.write(HOSTS, with_own_name(had, injection.hostname))
        if injection.ssh_keys:
            guest.mkdir_p("/root/.ssh")
            guest.chmod(0o700, "/root/.ssh")
            guest.write(ROOT_KEYS, "".join(f"{key}\n" for key in injection.ssh_keys))
            guest.chmod(0o600, ROOT_KEYS)
        if injection.user_data:
            guest.mkdir_p(str(Path(USER_DATA).parent))
            guest.write(USER_DATA, base64.b64decode(injection.user_data))
            guest.chmod(0o700, USER_DATA)
        if guest.is_dir("/etc/ssh") and not guest.glob_expand(f"{HOST_KEYS}_key"):
            guest.write(HOST_KEY, injection.host_key)
            guest.chmod(0o600, HOST_KEY)
    finally:
        guest.shutdown()
        guest.close()


def launched(disk: str, kvm: bool) -> "guestfs.GuestFS":  # type: ignore[name-defined]  # noqa: F821
    """An appliance that has the disk. Raises RuntimeError."""
    import guestfs  # the distribution's; a node without such images need not have it

    guest = guestfs.GuestFS(python_return_dict=True)
    guest.set_backend("direct")
    if not kvm:
        guest.set_backend_settings(["force_tcg"])
    guest.add_drive_opts(disk, format="qcow2", cachemode="writeback")
    guest.launch()
    return guest


def mount(guest: "guestfs.GuestFS") -> None:  # type: ignore[name-defined]  # noqa: F821
    """Mount the guest's root, as its own tables say, or where an /etc/passwd is."""
    for root in guest.inspect_os():
        for place, device in sorted(guest.inspect_get_mountpoints(root).items()):
            guest.mount(device, place)
        return
    for device, kind in guest.list_filesystems().items():
        if kind in ("swap", "unknown"):
            continue
        guest.mount(device, "/")
        if guest.is_file("/etc/passwd"):
            return
        guest.umount_all()
    raise RuntimeError("no operating system was found on the disk")


def main() -> int:
    """Write what standard input says; a fault is the last line on standard error."""
    values = json.load(sys.stdin)
    try:
        inject(Injection(**values))
    except RuntimeError as error:
        print(f"libguestfs: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
