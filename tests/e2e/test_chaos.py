"""A short selection of `make chaos`: the same harness, some walks, each once."""

import json
import subprocess
import sys

from contrib.site.box.layout import REPOSITORY

WALKS = ("batch: runs", "cloud: published")
# Without those that keep all machines waiting for seconds.
FAULTS = ("commit", "bait", "bridge", "qemu", "disk", "publisher")


def test_a_short_selection() -> None:
    chosen = [word for walk in WALKS for word in ("--walk", walk)]
    chosen += [word for fault in FAULTS for word in ("--fault", fault)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--once", *chosen],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((REPOSITORY / "build" / "chaos.json").read_text())
    assert figures["faults"] >= 15
