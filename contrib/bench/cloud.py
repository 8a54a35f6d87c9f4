"""How long a cloud user waits for a machine, against the same image started by hand."""

import os
import tempfile
import time
from pathlib import Path

from contrib.bench.batch import ByHand
from contrib.bench.site import CONFIG, sh, wait_until
from tests.e2e.occi import Cloud, Key, Machine

_RUNS = 7


def start() -> dict[str, list[float]]:
    """Seconds from the request to the first SSH login that succeeds, by OCCI and by hand."""
    samples: dict[str, list[float]] = {"virsh create, ssh": [], "POST to SSH login": []}
    cloud = Cloud(Path(os.environ["X509_USER_PROXY"]))
    with tempfile.TemporaryDirectory(dir=CONFIG.bait.state_dir) as folder:
        Path(folder).chmod(0o711)
        by_hand = ByHand(Path(folder))
        key = Key.make(Path(folder))
        for _ in range(_RUNS):
            samples["virsh create, ssh"].append(by_hand.start())
            for name, seconds in _one(cloud, key).items():
                samples.setdefault(name, []).append(seconds)
    return samples


def _one(cloud: Cloud, key: Key) -> dict[str, float]:
    begun = time.time()
    machine = cloud.machine(key=key)
    answered = time.time()
    try:
        machine.wait("active")
        seen = time.time()
        wait_until(lambda: _logged_in(machine), 60)
        return {
            "POST to SSH login": time.time() - begun,
            "of that: answer": answered - begun,
            "until it is seen to be active": seen - begun,
        }
    finally:
        machine.delete()
        wait_until(lambda: not sh("squeue", "-h"), 60)


def _logged_in(machine: Machine) -> bool:
    return machine.try_ssh("true", "-o", "ConnectTimeout=1").returncode == 0
