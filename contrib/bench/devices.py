"""How long a volume takes to come into a VM that runs, and to leave it, against virsh."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from contrib.bench.site import CONFIG, sh, wait_until
from tests.e2e.occi import Cloud, Key, Machine

_RUNS = 7
_SIZE = 1 << 30
_TARGET = "vdz"  # as virsh is to call the disk; ours have the first letters
# Seconds in which a guest of QEMU's q35 takes no second press of a slot's button: not counted.
_BETWEEN = 6.0
_left: dict[str, list[float]] = {"virsh detach-disk": [], "DELETE of a link until it is gone": []}


def attach() -> dict[str, list[float]]:
    """Seconds until libvirt lists the disk of a VM that runs; by OCCI, from the request on."""
    samples: dict[str, list[float]] = {}
    cloud = Cloud(Path(os.environ["X509_USER_PROXY"]))
    with tempfile.TemporaryDirectory(dir=CONFIG.bait.state_dir) as name:
        folder = Path(name)
        folder.chmod(0o711)
        file = folder / "disk"
        with file.open("wb") as disk:
            disk.truncate(_SIZE)
        machine = cloud.machine(key=Key.make(folder)).wait("active")
        volume = cloud.create("storage", {"attributes": {"occi.storage.size": 1}})
        try:
            machine.ssh("true")  # a guest that still boots lets go of nothing
            for _ in range(_RUNS):
                _by_hand(machine, file, samples)
                _by_occi(cloud, machine, volume, samples)
        finally:
            machine.delete()
            wait_until(lambda: cloud.ask("DELETE", volume).status_code in (200, 404), 60)
            wait_until(lambda: not sh("squeue", "-h"), 60)
    return samples


def detach() -> dict[str, list[float]]:
    """Seconds until the guest has let go of the same, as `attach` has measured it."""
    return _left


def _by_hand(machine: Machine, file: Path, samples: dict[str, list[float]]) -> None:
    options = ("--live", "--targetbus", "virtio", "--subdriver", "raw")
    seconds = _timed(
        lambda: sh("virsh", "attach-disk", machine.id, str(file), _TARGET, *options),
        lambda: str(file) in _disks(machine),
    )
    samples.setdefault("virsh attach-disk", []).append(seconds)
    time.sleep(_BETWEEN)
    seconds = _timed(
        lambda: sh("virsh", "detach-disk", machine.id, _TARGET, "--live"),
        lambda: str(file) not in _disks(machine),
    )
    _left["virsh detach-disk"].append(seconds)


def _by_occi(cloud: Cloud, machine: Machine, volume: str, samples: dict[str, list[float]]) -> None:
    uid, links = volume.rpartition("/")[2], list[str]()
    ends = {"occi.core.source": machine.path, "occi.core.target": volume}
    begun = time.monotonic()
    seconds = _timed(
        lambda: links.append(cloud.create("storagelink", {"attributes": ends})),
        lambda: uid in _disks(machine),
    )
    samples.setdefault("POST of a link until it is in", []).append(seconds)
    (link,) = links
    state = "occi.storagelink.state"
    wait_until(lambda: cloud.get(link)["attributes"][state] == "active", 60)
    samples.setdefault("until it is seen to be active", []).append(time.monotonic() - begun)
    time.sleep(_BETWEEN)
    seconds = _timed(
        lambda: cloud.ask("DELETE", link), lambda: cloud.ask("GET", link).status_code == 404
    )
    _left["DELETE of a link until it is gone"].append(seconds)


def _timed(ask: Callable[[], object], done: Callable[[], object]) -> float:
    begun = time.monotonic()
    ask()
    wait_until(done, 60)
    return time.monotonic() - begun


def _disks(machine: Machine) -> str:
    return sh("virsh", "domblklist", machine.id, "--details")
