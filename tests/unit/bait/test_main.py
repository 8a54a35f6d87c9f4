"""The daemon's start, as a service manager sees it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
CONFIG = """
cluster = "box"
lrms = "slurm"
[bait]
libvirt_uri = "qemu+unix:///system?socket={folder}/libvirt"
state_dir = "{folder}/state"
socket = "{folder}/bait.sock"
[machine]
accel = "tcg"
[images]
catalogue = "{folder}/images"
cache_dir = "{folder}/cache"
"""


def test_a_node_is_ready_when_libvirt_has_been_asked(tmp_path: Path) -> None:
    """It makes the guests' network then, which `wnodes doctor` looks for."""
    config = tmp_path / "wnodes.toml"
    config.write_text(CONFIG.format(folder=tmp_path))
    for name in ("state", "cache", "images"):
        (tmp_path / name).mkdir()
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as libvirt,
    ):
        manager.bind(str(tmp_path / "manager"))
        libvirt.bind(str(tmp_path / "libvirt"))
        libvirt.listen()
        libvirt.settimeout(60)
        daemon = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-m", "bait", "--config", config, "--node", "hv1"],
            env=os.environ | {"NOTIFY_SOCKET": str(tmp_path / "manager")},
        )
        try:
            link, _ = libvirt.accept()
            with link, pytest.raises(BlockingIOError):
                manager.recv(100, socket.MSG_DONTWAIT)
            libvirt.close()
            manager.settimeout(60)
            assert manager.recv(100) == b"READY=1"
        finally:
            daemon.terminate()
            daemon.wait(60)
