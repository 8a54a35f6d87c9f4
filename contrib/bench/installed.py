"""Start and end of VMs on a node that was installed from packages, beside the bare tools; root's.

usage: /usr/lib/wnodes/bin/python3 -m contrib.bench.installed   in this repository's folder

It needs the image and the user of the install test, which runs it with `--measure`.
"""

import sys
from pathlib import Path

from contrib.bench import batch
from contrib.bench.report import run

OUT = Path(__file__).parents[2] / "build" / "bench-installed.json"

if __name__ == "__main__":
    sections = {
        "start of a machine": (batch.start, "virsh create, ssh"),
        "end of a machine": (batch.end, "virsh destroy, no filter"),
    }
    sys.exit(run(sections, (), OUT))
