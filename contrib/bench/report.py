"""Runs measurements, and tells of each when it has ended: a table for people, JSON for programs."""

import json
import os
import platform
import statistics
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

Samples = dict[str, list[float]]
Rows = dict[str, dict[str, float]]
Section = tuple[Callable[[], Samples], str]  # what measures, and the label that others are held to


def run(sections: Mapping[str, Section], wanted: Sequence[str], out: Path) -> int:
    """Run every section, or those whose name has one of the words `wanted`; the exit code.

    Each section's figures are printed and written as soon as it has ended. One that fails costs its
    own figures only; the exit code is 1 then.
    """
    results: dict[str, Rows] = {}
    failed = []
    console = Console(width=140, highlight=False)
    for name, (measure, bare) in sections.items():
        if wanted and not any(word in name for word in wanted):
            continue
        console.print(f"measuring: {name} …", style="dim")
        try:
            results[name] = rows(measure(), bare)
        except Exception:  # whatever stops one section
            traceback.print_exc()
            failed.append(name)
            continue
        console.print(table(name, results[name]))
        write(results, out)
    for name in failed:
        console.print(f"failed: {name}")
    console.print(f"written to {out}" if results else "nothing was measured")
    return 1 if failed else 0


def rows(samples: Samples, bare: str) -> Rows:
    """A line for each thing that was measured; its ratio to `bare`, where that is one of them."""
    found: Rows = {label: summary(values) for label, values in samples.items()}
    if bare in found:
        base = found[bare]["median"]
        for row in found.values():
            row["ratio"] = row["median"] / base
    return found


def table(name: str, measured: Rows) -> Table:
    """A section, for people."""
    shown = Table(box=None, header_style="bold")
    for column in (name, "n", "median", "spread (5 to 95 %)", "ratio"):
        shown.add_column(column, justify="left" if column == name else "right")
    for label, row in measured.items():
        spread = f"{row['low']:.4g} to {row['high']:.4g}"
        ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
        shown.add_row(f"  {label}", str(row["n"]), f"{row['median']:.4g}", spread, ratio)
    return shown


def write(results: dict[str, Rows], out: Path) -> None:
    """What was measured so far, for programs."""
    out.parent.mkdir(exist_ok=True)
    machine = {"kernel": platform.release(), "cores": os.cpu_count()}
    new = out.with_suffix(".new")
    new.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")
    new.replace(out)


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
