"""`make bench`: what wnodes-lrms costs, against the bare tools, on the site in a box.

Times vary two- to threefold between runs of a busy machine: only the ratios mean something. What is
compared is run in turns, so that a slow minute hits both sides.
"""

import json
import os
import platform
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from contrib.bench import batch, cloud, driver, occi, tax, transfer

Samples = dict[str, list[float]]
OUT = Path(__file__).parents[2] / "build" / "bench.json"
SECTIONS: dict[str, tuple[Callable[[], Samples], str]] = {
    "hooks of a plain job": (tax.hooks, "/bin/true"),
    "200 plain jobs": (tax.throughput, "hooks /bin/true"),
    "starter, to its first question": (tax.starter, "python3 -c pass"),
    "start of a machine": (batch.start, "virsh create, ssh"),
    "end of a machine": (batch.end, "virsh destroy, no filter"),
    "a guest's transfer of 1 GiB": (transfer.large, "no filter"),
    "a guest's transfer of 64 MiB, packet by packet": (transfer.small, "no filter"),
    "start of a cloud machine": (cloud.start, "virsh create, ssh"),
    "bait, 200 machines on libvirt's test driver": (driver.machines, ""),
    "OCCI, answers of the bridge": (occi.reads, ""),
    "OCCI, GETs a second by token": (occi.tokens, ""),
}


def main() -> int:
    """Run every section, or those whose name has a word of the command line."""
    wanted = sys.argv[1:]
    table = Table(box=None, header_style="bold")
    for column in ("what", "n", "median", "spread (5 to 95 %)", "ratio"):
        table.add_column(column, justify="left" if column == "what" else "right")
    results = {}
    console = Console(width=140, highlight=False)
    for name, (measure, bare) in SECTIONS.items():
        if wanted and not any(word in name for word in wanted):
            continue
        console.print(f"measuring: {name} …", style="dim")
        samples = measure()
        results[name] = {label: summary(values) for label, values in samples.items()}
        base = results[name].get(bare, {}).get("median")
        table.add_row(name, style="bold")
        for label, row in results[name].items():
            ratio = f"{row['median'] / base:.2f}" if base else ""
            if base:
                row["ratio"] = row["median"] / base
            spread = f"{row['low']:.4g} to {row['high']:.4g}"
            table.add_row(f"  {label}", str(row["n"]), f"{row['median']:.4g}", spread, ratio)
    console.print(table)
    OUT.parent.mkdir(exist_ok=True)
    machine = {"kernel": platform.release(), "cores": os.cpu_count()}
    OUT.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")
    console.print(f"written to {OUT}")
    return 0


def summary(values: list[float]) -> dict[str, float]:
    """Median and spread of the samples."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return {
        "n": len(ordered),
        "median": statistics.median(ordered),
        "low": ordered[round(last * 0.05)],
        "high": ordered[round(last * 0.95)],
    }


if __name__ == "__main__":
    sys.exit(main())
