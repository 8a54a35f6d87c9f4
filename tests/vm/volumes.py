"""Users' volumes in LVM, on a kernel that has thin pools: the bait's pool alone, then with VMs.

They are made, written, grown, copied, read in another VM, shared, deleted.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tests.install import pages
from tests.install.inside import FailedError, Inside
from tests.install.stages import Stages
from wnodes_lrms.volumes import serial

_FILE = "/var/lib/lvm-test.img"
_DISK = "/dev/sdb"  # of the documentation
_OURS = "lvs --noheadings --options lv_name --select lv_tags=wnodes data"
_DISKS = (
    'for disk in /sys/block/vd*; do echo "$(cat $disk/serial 2>/dev/null) ${disk##*/}'
    ' $(cat $disk/size)"; done'
)
_WRITTEN = 32  # MiB of a volume, which is enough to see them come and go
_TAKEN = f"stat --format=%b {_FILE}"  # blocks of 512 bytes
# What the documentation's lines have changed, and what they have made.
_BEGIN = "cp --archive /etc/wnodes/wnodes.toml /root/wnodes.toml"
_BACK = "mv /root/wnodes.toml /etc/wnodes/wnodes.toml; systemctl restart wnodes-bait"
_PYTHON = "/usr/lib/wnodes/bin/python3"
_ALONE = f"{_PYTHON} -m tests.vm.thinpool {_FILE}"
# In a sandbox as the bait's unit has it.
_IN_A_UNIT = f"""
systemd-run --quiet --collect --pipe --wait --same-dir --property=PrivateDevices=yes \\
    --property=CapabilityBoundingSet=CAP_CHOWN --property=ProtectSystem=full \\
    --property=NoNewPrivileges=yes {_PYTHON} -m tests.vm.thinpool look
"""
_END = f"""
rm /etc/udev/rules.d/58-wnodes.rules
udevadm control --reload
lvremove --yes data/volumes
vgremove data
pvremove --yes {{device}}
losetup --detach {{device}}
rm {_FILE}
"""
_READONLY = """cat >link <<'END'
Category: storagelink; scheme="http://schemas.ogf.org/occi/infrastructure#"; class="kind"
Category: readonly; scheme="http://wnodes-lrms.invalid/occi/storagelink#"; class="mixin"
X-OCCI-Attribute: occi.core.source="/compute/{vm}", occi.core.target="/storage/{volume}"
END
occi -H 'Content-Type: text/plain' --data-binary @link $WNODES_URL/storagelink/
"""


def needs(inside: Inside) -> None:
    """The distribution's packages that the documentation names."""
    inside.shell(pages.blocks("install-cloud.md")["lvm packages"])


class LvmStages(Stages):
    """With one that has a thin pool of its own, in a file, and leaves none."""

    def thin_pool(self) -> None:
        """The bait's pool by itself, and as a unit's process sees it."""
        with self._thin_pool():
            self._told(_ALONE)
            made = "lvcreate --yes --type thin --thinpool volumes --virtualsize 1g --addtag wnodes"
            volume = "00000000-0000-4000-8000-000000000001"
            self._told(f"{made} --name wnodes-{volume} data")
            self._is(_IN_A_UNIT, volume)
            self._told(f"lvremove --yes data/wnodes-{volume}")

    @contextmanager
    def _thin_pool(self) -> Iterator[None]:
        """There is one meanwhile, as the documentation has it made; what fails leaves it there."""
        device = self._told(f"truncate --size=4G {_FILE}; losetup --find --show {_FILE}").strip()
        self._told(self._cloud["lvm pool"].replace(_DISK, device))
        self._type(self._cloud, "lvm udev")
        yield
        self._told(_END.format(device=device))

    def volumes(self) -> None:
        """A cloud VM runs. It has a volume for a while, then another has it; both read a copy."""
        with self._thin_pool():
            self._told(_BEGIN)
            self._configured()
            volume, copy = self._written_and_copied()
            self._elsewhere(volume, copy)
            self._deleted(volume, copy)
            self._told(_BACK)

    def _configured(self) -> None:
        self._type(self._cloud, "lvm configuration")
        self._told("sed -i '/^\\[cloud\\]$/a wipe = true' /etc/wnodes/wnodes.toml")
        self._told("systemctl restart wnodes-bait")
        said = self._told("wnodes doctor")
        if "thin pool data/volumes has 3 GiB, of which 0 are promised" not in said:
            raise FailedError(f"doctor does not know the thin pool:\n{said}")

    def _written_and_copied(self) -> tuple[str, str]:
        """A volume that was in the VM, and a copy of it as it was when it had one GiB."""
        volume = self._asked("volumes create data --size 1")
        self._is(_OURS, "")  # it waits for its first VM
        self._asked(f"volumes attach {volume} {self._id} --wait")
        name = f"wnodes-{volume}"
        self._is(_OURS, name)
        self._is(f"virsh domblklist {self._id} --details | grep --count 'block .*/dev/data/'", "1")
        disk, size = self._disk(volume)
        if size != 1 << 30:
            raise FailedError(f"the guest sees {size} bytes")
        self._login(f"echo first | dd of=/dev/{disk} conv=fsync")
        copy = self._asked(f"volumes snapshot {volume} copy --wait")
        self._asked(f"volumes resize {volume} --size 2")
        self.inside.until("the guest sees 2 GiB", lambda: self._disk(volume)[1] == 2 << 30)
        self._login(f"echo second | dd of=/dev/{disk} conv=fsync")
        self._login(f"echo far | dd of=/dev/{disk} bs=1M seek=1536 conv=fsync")
        self._login(f"dd if=/dev/zero of=/dev/{disk} bs=1M seek=64 count={_WRITTEN} conv=fsync")
        self._asked(f"volumes detach {volume} {self._id}")
        opened = f"lvs --noheadings --options lv_device_open data/{name}"
        self.inside.until("nobody has it open", lambda: not self._told(opened).strip())
        return volume, copy

    def _elsewhere(self, volume: str, copy: str) -> None:
        """Another VM starts with the volume; it and the first only read the copy, both."""
        first = self._id
        second = self._asked(f"create second --image small_debian_x86_64 --volume {volume}")
        for vm in (first, second):
            with self._in(vm):
                self._until_active()
                self._type_readonly(vm, copy)
                self.inside.until("the guest has the copy", lambda: self._disk(copy)[0] != "")
                if self._begins(copy) != "first":
                    raise FailedError("the copy is not what the volume was")
                disk, _size = self._disk(copy)
                said = self._login(f"if echo no >/dev/{disk}; then echo yes; else echo no; fi")
                if not said.strip().endswith("no"):
                    raise FailedError(f"the copy can be written: {said}")
        with self._in(second):
            if self._begins(volume) != "second" or self._begins(volume, 1536) != "far":
                raise FailedError("another VM does not read what the first has written")
        self._asked(f"delete {second}")
        self._asked(f"volumes detach {copy} {first}")

    def _deleted(self, volume: str, copy: str) -> None:
        """Nothing is left of them, on the disk below neither."""
        before = int(self._told(_TAKEN))
        for each in (volume, copy):
            self._asked(f"volumes delete {each}")
        self.inside.until("no volume is left", lambda: not self._told(_OURS).strip())
        taken = "lvs --noheadings --options data_percent data/volumes"
        self.inside.until("all room is free", lambda: self._told(taken).strip() == "0.00")
        self._is("dmsetup ls | grep --count wnodes || true", "0")
        freed = (before - int(self._told(_TAKEN))) * 512
        if freed < _WRITTEN << 19:  # half of it: the pool has noted other things meanwhile
            raise FailedError(f"{freed} bytes were discarded")

    @property
    def _id(self) -> str:
        return self._vm.rpartition("/")[2]

    @contextmanager
    def _in(self, vm: str) -> Iterator[None]:
        """What is typed meanwhile is about this VM (its id)."""
        before = self._vm
        self._vm = f"{before.rpartition('/')[0]}/{vm}"
        try:
            yield
        finally:
            self._vm = before

    def _asked(self, words: str) -> str:
        """Ask for something by `wnodes cloud`; the id that it prints, if it does."""
        said = self._type_occi("shell", after=f"wnodes cloud {words}")
        ids = re.findall(r"^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$", said, re.MULTILINE)
        return ids[0] if ids else ""

    def _type_readonly(self, vm: str, volume: str) -> None:
        self._type_occi("shell", after=_READONLY.format(vm=vm, volume=volume))

    def _disk(self, volume: str) -> tuple[str, int]:
        """The disk that a volume is in the VM, and how many bytes the guest sees; "" for none."""
        for line in self._login(_DISKS).splitlines():
            words = line.split()
            if words[:1] == [serial(volume)]:
                return words[1], int(words[2]) * 512
        return "", 0

    def _begins(self, volume: str, mebibyte: int = 0) -> str:
        """The line that was written there."""
        disk, _size = self._disk(volume)
        said = self._login(
            f"dd if=/dev/{disk} bs=1M skip={mebibyte} count=1 2>/dev/null | head -n 1"
        )
        return said.splitlines()[0].strip("\0") if said else ""

    def _is(self, script: str, expected: str) -> None:
        said = self._told(script).strip()
        if said != expected:
            raise FailedError(f"«{script}» says:\n{said}")
