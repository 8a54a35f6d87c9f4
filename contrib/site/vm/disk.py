"""Makes the VM's disk of the files of a container, as they are when it has been set up.

What takes no kernel of one's own is done in the container, where it takes a tenth of the time.
"""

import shutil
from pathlib import Path

from ..booted.machine import Machine
from ..booted.place import ADDRESS, NAME_SERVER
from ..box.process import run

PROGRAM = Path(__file__).with_name("pack")
KEY = "key"  # its file, which opens root's account
PACKAGES = ("apparmor", "openssh-server")
_SIZE = "9G"  # of which only what is used takes room
_SECONDS = 900.0
# The addresses are the container's, too: QEMU's user network has the same as slirp4netns.
_FILES = {
    "etc/systemd/network/10-vm.network": f"""[Match]
Driver=virtio_net

[Network]
Address={ADDRESS}/24
Gateway=10.0.2.2
DNS={NAME_SERVER}
""",
    # An emulated machine has a tenth of the speed.
    "etc/systemd/system.conf.d/vm.conf": "[Manager]\nDefaultTimeoutStartSec=15min\n",
    # So that the kernel's log has all that AppArmor says, however much that is at once.
    "etc/sysctl.d/vm.conf": "kernel.printk_ratelimit = 0\n",
    "etc/fstab": "",
}
# The container's network came from outside. Profiles of what is not there would take minutes to be
# compiled; and nothing is to run by itself.
PREPARE = f"""
apt-get install {" ".join(PACKAGES)}
systemctl --quiet disable container-network.service apt-daily.timer apt-daily-upgrade.timer \
    man-db.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
systemctl --quiet enable systemd-networkd.service ssh.service
find /etc/apparmor.d -maxdepth 1 -type f ! -name '*libvirt*' -delete
"""


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """What has to be in the container's files: by name, with its mode. Raises SiteError.

    There is a new folder with a fresh key, whose public half is in them.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    key = folder / KEY
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "vm-test", "-f", str(key)])
    return {
        **{name: (text.encode(), 0o644) for name, text in _FILES.items()},
        "root/.ssh/authorized_keys": (key.with_suffix(".pub").read_bytes(), 0o600),
    }


def pack(machine: Machine, folder: Path) -> None:
    """Make disk, kernel and initrd in the folder, of a container that is off and not cleared.

    Raises SiteError.
    """
    place = machine.place
    roots = [place.layer(kept=False) / "upper", place.layer(kept=True) / "upper", place.root]
    run([str(PROGRAM), ":".join(map(str, roots)), str(folder), _SIZE], timeout=_SECONDS)
