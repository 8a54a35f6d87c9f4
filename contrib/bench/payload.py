"""How fast a payload computes in a VM, against the same program on the node.

Under emulation the ratio is that of QEMU's emulator, and tells nothing of a real node: the rows say
so.
"""

import functools
import json
import subprocess
from pathlib import Path

from contrib.bench.report import Samples
from contrib.bench.site import CONFIG, HOME, IMAGE, NODE, USER

_RUNS = 3
_LONGEST = 900  # seconds that a job may wait and run
BARE = "on the node"
# Seconds since the boot before and after each program. One has all that it needs in registers, the
# other follows a chain through a table of some 30 MiB, in an order that no cache foresees.
_SCRIPT = """
for program in 'BEGIN { for (i = 1; i < 3e6; i++) s += i / (i + 0.5) }' \
    'BEGIN { n = 524288; for (i = 0; i < n; i++) a[i] = (i * 7919 + 1) % n
             for (i = 0; i < 1e6; i++) x = a[x] }'
do
    read -r begin rest </proc/uptime
    busybox awk "$program" || exit
    read -r end rest </proc/uptime
    echo "$begin $end"
done
"""


def cpu() -> Samples:
    """Seconds for a program that a CPU alone bounds."""
    return _measured()[0]


def memory() -> Samples:
    """Seconds for one that waits for memory."""
    return _measured()[1]


@functools.cache
def _measured() -> tuple[Samples, Samples]:
    kvm = json.loads((Path(CONFIG.bait.state_dir) / "kvm.json").read_text())["kvm"]
    inside = "in a VM" if kvm else "in a VM, emulated: there is no KVM"
    of_cpu: Samples = {BARE: [], inside: []}
    of_memory: Samples = {BARE: [], inside: []}
    for _ in range(_RUNS):
        for label, said in ((BARE, _by_hand()), (inside, _in_a_job())):
            for samples, line in zip((of_cpu, of_memory), said.splitlines(), strict=True):
                begin, end = map(float, line.split())
                samples[label].append(end - begin)
    return of_cpu, of_memory


def _by_hand() -> str:
    return _said("sh", "-c", _SCRIPT)


def _in_a_job() -> str:
    output, script = HOME / "payload.out", HOME / "payload.sh"
    script.write_text(f"#!/bin/sh{_SCRIPT}")
    script.chmod(0o755)
    asks = ["env", f"--chdir={HOME}", f"WNODES_IMAGE={IMAGE}"]
    submit = ["sbatch", "--wait", f"--output={output}", "--mem=512", f"--nodelist={NODE}"]
    _said("runuser", "-u", USER, "--", *asks, *submit, str(script))
    return output.read_text()


def _said(*argv: str) -> str:
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=_LONGEST)
    return done.stdout
