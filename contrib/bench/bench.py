"""`make bench`: what wnodes-lrms costs, against the bare tools, on the site in a box.

Times vary two- to threefold between runs of a busy machine: only the ratios mean something. What is
compared is run in turns, so that a slow minute hits both sides.
"""

import sys
from pathlib import Path

from contrib.bench import batch, cloud, driver, occi, tax
from contrib.bench.report import Section, run

OUT = Path(__file__).parents[2] / "build" / "bench.json"
SECTIONS: dict[str, Section] = {
    "hooks of a plain job": (tax.hooks, "/bin/true"),
    "200 plain jobs": (tax.throughput, "hooks /bin/true"),
    "start of a machine": (batch.start, "virsh create, ssh"),
    "end of a machine": (batch.end, ""),
    "start of a cloud machine": (cloud.start, "virsh create, ssh"),
    "bait, 200 machines on libvirt's test driver": (driver.machines, ""),
    "OCCI, answers of the bridge": (occi.reads, ""),
}

if __name__ == "__main__":
    sys.exit(run(SECTIONS, sys.argv[1:], OUT))
