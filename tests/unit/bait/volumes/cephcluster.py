"""A Ceph cluster of a monitor, a manager and a disk, which is memory: real, small, and gone with
the test."""

import json
import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.unit.conftest import eventually
from wnodes_lrms.config.load import Pool as Settings

POOL, USER = "volumes", "wnodes"
_LONG = 300.0  # seconds, on a busy machine
_CONF = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{ports[0]}/0,v1:127.0.0.1:{ports[1]}/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
run dir = {folder}
admin socket = {folder}/$name.$pid.asok
log file = {folder}/$name.log
keyring = {folder}/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail crit = 1
mon data avail warn = 2
mgr initial modules =
[mon.a]
mon data = {folder}/mon
[mgr.x]
mgr data = {folder}/mgr
[osd.0]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = {size}
"""
_CAPS = {
    "mon.": ("mon", "allow *"),
    "client.admin": ("mon", "allow *", "osd", "allow *", "mgr", "allow *"),
    "mgr.x": ("mon", "allow profile mgr", "osd", "allow *"),
    "osd.0": ("mon", "allow profile osd", "osd", "allow *", "mgr", "allow profile osd"),
    # As docs/install-cloud.md has it.
    f"client.{USER}": ("mon", "profile rbd", "osd", f"profile rbd pool={POOL}"),
}


class Cluster:
    """The cluster, as its user `wnodes` finds it."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.conf = folder / "ceph.conf"
        self._env = os.environ | {"CEPH_CONF": str(self.conf)}
        self._running: list[subprocess.Popen[bytes]] = []
        fsid = str(uuid.uuid4())
        values = {"fsid": fsid, "ports": _free_ports(), "folder": folder, "size": size}
        self.conf.write_text(_CONF.format(**values))
        for name, caps in _CAPS.items():
            words = [word for which in zip(caps[::2], caps[1::2], strict=True) for word in which]
            argv = ["ceph-authtool", str(folder / "keyring"), "-C", "--gen-key", "-n", name]
            if (folder / "keyring").exists():
                argv.remove("-C")
            for service, cap in zip(words[::2], words[1::2], strict=True):
                argv += ["--cap", service, cap]
            self.call(*argv)
        monitors = str(folder / "monmap")
        at = "[v2:127.0.0.1:{},v1:127.0.0.1:{}]".format(*values["ports"])  # type: ignore[misc]
        self.call("monmaptool", "--create", "--addv", "a", at, "--fsid", fsid, monitors)
        keyring = str(folder / "keyring")
        self.call("ceph-mon", "-i", "a", "--mkfs", "--monmap", monitors, "--keyring", keyring)

    def begin(self) -> None:
        """Have it run."""
        self._start("ceph-mon", "-i", "a")
        disk = str(uuid.uuid4())
        self.call("ceph", "osd", "new", disk, "0")
        for name in ("osd", "mgr"):
            (self.folder / name).mkdir()
        self.call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        self._start("ceph-osd", "-i", "0")
        self._start("ceph-mgr", "-i", "x")
        self.call("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=here")
        self.call("ceph", "osd", "pool", "create", POOL, "8")
        self.call("rbd", "pool", "init", POOL)
        eventually(self._counts, _LONG)

    def _counts(self) -> bool:
        """Whether its manager knows how much room there is."""
        pools = json.loads(self.call("ceph", "df", "-f", "json"))["pools"]
        return any(pool["name"] == POOL and pool["stats"]["max_avail"] for pool in pools)

    def end(self) -> None:
        for process in reversed(self._running):
            process.kill()
            process.wait()
        shutil.rmtree(self.folder)

    def call(self, *argv: str) -> str:
        """What a program of Ceph's says, as an administrator."""
        done = subprocess.run(argv, env=self._env, capture_output=True, text=True, timeout=_LONG)
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout

    def settings(self, **values: str) -> Settings:
        known = {"kind": "rbd", "name": POOL, "user": USER, "conf": str(self.conf)}
        return Settings.model_validate(known | values)

    def file(self, image: str) -> str:
        """An image as QEMU's programs are told of it."""
        return f"rbd:{POOL}/{image}:id={USER}:conf={self.conf}"

    def write(self, image: str, at: int, pattern: int) -> None:
        """Write a MiB of a byte at an offset (MiB)."""
        self._io(image, f"write -P {pattern} {at}M 1M")

    def has(self, image: str, at: int, pattern: int) -> bool:
        """Whether there is a MiB of it."""
        return "Pattern verification failed" not in self._io(image, f"read -P {pattern} {at}M 1M")

    def _io(self, image: str, command: str) -> str:
        return self.call("qemu-io", "-f", "raw", "-c", command, self.file(image))

    def _start(self, program: str, *options: str) -> None:
        with (self.folder / f"{program}.out").open("wb") as out:
            argv = [program, *options, "-f"]
            self._running.append(subprocess.Popen(argv, env=self._env, stdout=out, stderr=out))


@contextmanager
def cluster(folder: Path, size: int = 4 << 30) -> Iterator[Cluster]:
    """A cluster that runs, with room for so many bytes."""
    made = Cluster(folder, size)
    try:
        made.begin()
        yield made
    finally:
        made.end()


def _free_ports() -> tuple[int, ...]:
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = tuple(each.getsockname()[1] for each in listening)
    for each in listening:
        each.close()
    return ports
