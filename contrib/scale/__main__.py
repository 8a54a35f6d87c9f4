"""`make scale`: see docs/scale.md. Run it by contrib/site/apart: its machine is then its own."""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from contrib.scale.faults import Faults
from contrib.scale.gauges import exponent
from contrib.scale.plan import Size, layout
from contrib.scale.site import Site
from contrib.scale.stages import Figures, Stages
from contrib.site.box.errors import SiteError

OUT = Path(__file__).parents[2] / "build" / "scale.json"
Found = dict[str, dict[str, Figures]]  # nodes → stage → figures


@dataclass(frozen=True)
class Run:
    """What is done with a number of nodes."""

    nodes: int
    jobs: tuple[int, ...]  # jobs' VMs alive at a time, in turn
    vms: tuple[int, ...]  # cloud VMs alive at a time, in turn
    away: float  # seconds that PostgreSQL is away; 0: nothing is hurt
    rest: float = 31.0  # seconds for each look at what is at rest; an empty node lists jobs each 30
    seconds: float = 30.0  # for which VMs come and go, each time
    hands: int = 8  # users who make VMs at a time
    hung: float = 20.0  # seconds that baits have hung before VMs are made beside them
    boot: float = 3.0  # seconds from a guest's domain to its SSH server: simulated


SMALL = (Run(10, (20,), (20, 100), 3.0, rest=1.5, seconds=2.0, hands=4, hung=1.0, boot=1.0),)
WHOLE = (Run(10, (20, 200), (20, 200), 0.0), Run(100, (200, 2000), (200, 2000), 60.0))


def main() -> int:
    """The exit code: 0 if nothing was lost, was there twice, or never ran. Times never count."""
    parser = argparse.ArgumentParser(prog="python -m contrib.scale", description=__doc__)
    parser.add_argument("--small", action="store_true", help="10 nodes, 100 VMs")
    parser.add_argument("--nodes", type=int, help="only so many nodes, with --vms")
    parser.add_argument("--vms", type=int, action="append", help="alive at a time; may be repeated")
    options = parser.parse_args()
    if "WNODES_SCALE_APART" not in os.environ:
        parser.error("this wants a machine of its own: make scale")
    runs = SMALL if options.small else WHOLE
    if options.nodes:
        counts = tuple(options.vms or (20,))
        runs = (Run(options.nodes, counts, counts, 10.0),)
    found: Found = {}
    verdict: Figures = {}
    try:
        for each in runs:
            for what, count in measure(each, found).items():
                verdict[what] = verdict.get(what, 0) + count
    except (SiteError, OSError, RuntimeError) as error:
        print(error.text() if isinstance(error, SiteError) else repr(error), file=sys.stderr)
        return 1
    finally:
        write(found, summary(runs, found, verdict))
    print(OUT.read_text().splitlines()[-1])
    return 1 if any(verdict.values()) else 0


def measure(each: Run, found: Found) -> Figures:
    """All stages with this number of nodes; what went wrong, counted: see Faults.verdict()."""
    size = Size(each.nodes, max(each.vms))
    site = Site(layout(), size, each.boot)
    begun = time.monotonic()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - begun:5.0f} s] {each.nodes} nodes, {what}", flush=True)

    stages = Stages(site, each.seconds, say)
    found[str(each.nodes)] = stages.found
    verdict: Figures = {}
    try:
        site.up()
        stages.seconds = each.rest
        stages.found["empty"] = stages.rest()
        for count in each.jobs:
            stages.batch(count)
        for count in each.vms:
            stages.cloud(count)
        stages.seconds = each.seconds
        stages.mixed(f"mixed {max(each.vms)}", each.hands)
        faults = Faults(site, stages, each.hands, each.away, each.hung)
        if each.away:
            stages.found["faults"] = faults.found
            faults.all()
        verdict = faults.verdict()
        stages.end()
    finally:
        site.down()
    return verdict


def summary(runs: tuple[Run, ...], found: Found, verdict: Figures) -> dict[str, object]:
    """The last line: the figures of the largest size that was reached, and how they grow."""
    sizes = [(nodes, stage) for nodes, stages in found.items() for stage in stages]
    nodes, vms = runs[-1].nodes, max(runs[-1].vms)
    stages = found.get(str(nodes), {})
    rest = stages.get(f"cloud {vms}", {})
    mixed, faults = stages.get(f"mixed {vms}", {}), stages.get("faults", {})
    whole = {
        "nodes": nodes,
        "vms": vms,
        "get_p99_ms": mixed.get("get_all_p99_ms"),
        "post_p99_ms": mixed.get("post_p99_ms"),
        "bait_mib": rest.get("bait_mib"),
        "lrms_queries_per_node_s": rest.get("lrms_queries_per_node_s"),
        "failover_s": faults.get("failover_s"),
        "hung_ratio": faults.get("hung_ratio"),
        "bait_exponent": growth(found, "bait_cpu_s_per_vm"),
        "driver_exponent": growth(found, "driver_round_cpu_ms"),
        "lost": verdict.get("lost"),
        "doubled": verdict.get("doubled"),
        "stuck": verdict.get("stuck"),
        "stages": len(sizes),
    }
    return {key: round(v, 4) if isinstance(v, float) else v for key, v in whole.items()}


def growth(found: Found, figure: str) -> float | None:
    """How a figure of the stages with cloud VMs grows with their number, as an exponent."""
    points = [
        (float(stage.split()[1]), figures[figure])
        for stages in found.values()
        for stage, figures in stages.items()
        if stage.startswith("cloud ") and figure in figures
    ]
    grows = exponent([x for x, _ in points], [y for _, y in points])
    return None if grows != grows else grows


def write(found: Mapping[str, object], last: Mapping[str, object]) -> None:
    """All figures, and on the last line those that are asked for first."""
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(f"{json.dumps(found)}\n{json.dumps(last)}\n")


if __name__ == "__main__":
    sys.exit(main())
