"""`make bench`: what wnodes-lrms costs, against the bare tools, on the site in a box.

Times vary two- to threefold between runs of a busy machine: only the ratios mean something. What is
compared is run in turns, so that a slow minute hits both sides.
"""

import sys
from pathlib import Path

from contrib.bench import batch, cloud, devices, driver, occi, page, payload, tax, transfer
from contrib.bench.report import Section, run

OUT = Path(__file__).parents[2] / "build" / "bench.json"
SECTIONS: dict[str, Section] = {
    "hooks of a plain job": (tax.hooks, "/bin/true"),
    "200 plain jobs": (tax.throughput, "hooks /bin/true"),
    "starter, to its first question": (tax.starter, "python3 -c pass"),
    "start of a machine": (batch.start, "virsh create, ssh"),
    "end of a machine": (batch.end, "virsh destroy, no filter"),
    "a payload that the CPU bounds": (payload.cpu, payload.BARE),
    "a payload that memory bounds": (payload.memory, payload.BARE),
    "a guest's transfer of 1 GiB": (transfer.large, "no filter"),
    "a guest's transfer of 64 MiB, packet by packet": (transfer.small, "no filter"),
    "start of a cloud machine": (cloud.start, "virsh create, ssh"),
    "a volume comes into a machine that runs": (devices.attach, "virsh attach-disk"),
    "a volume leaves it": (devices.detach, "virsh detach-disk"),
    "bait, 200 machines on libvirt's test driver": (driver.machines, ""),
    "OCCI, answers of the bridge": (occi.reads, ""),
    "OCCI, GETs a second by token": (occi.tokens, ""),
    "the page, answers of the bridge": (page.answers, ""),
}

if __name__ == "__main__":
    sys.exit(run(SECTIONS, sys.argv[1:], OUT))
