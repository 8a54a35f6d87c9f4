"""`wnodes gc`: what a bait's plan is, and what it rests on."""

from typing import Annotated, Any

import typer

from wnodes_lrms.cli.out import ConfigFile, Json, line, listing
from wnodes_lrms.cli.vm import ask_all, load


def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only say what would be done, and why")
    ] = False,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Compare ledger, libvirt, files and batch system on this node, and do what follows.

    The bait does the same by itself every 15 seconds. What may end or remove something is done
    only when it has stood for the time of grace.
    """
    rows = [
        _row(node, entry)
        for node, answer in ask_all(load(config), op="gc", dry=dry_run)
        for entry in answer["plan"]
    ]
    if as_json:
        listing(rows, (), as_json)
        return
    for row in rows:
        line(f"{row['act']} VM {row['machine']} of job {row['job'] or '-'} on {row['node']}:")
        line(f"  why       {row['why']}")
        line(f"  when      {_when(row, dry_run)}")
        for source, said in row["grounds"].items():
            line(f"  {source:<14}{said}")
    if not rows:
        line("Nothing to do: what should be here is, and nothing else.")


def _row(node: str, entry: dict[str, Any]) -> dict[str, Any]:
    action = entry["action"]
    return {
        "node": node,
        "act": action["act"],
        "machine": action["machine"],
        "job": action["job"],
        "why": action["why"],
        "wait": entry["wait"],
        "grounds": entry["grounds"],
    }


def _when(row: dict[str, Any], dry_run: bool) -> str:
    if row["act"] == "report":
        return "never by itself: a person has to look"
    if row["wait"]:
        return f"in {row['wait']:.0f} s, if it still stands then"
    return "at once" if dry_run else "done, or begun"
