"""`wnodes job`: what happened to a job's VMs."""

from typing import Annotated

import typer

from wnodes_lrms.cli.out import ConfigFile, Json, listing, utc
from wnodes_lrms.cli.vm import ask_all, load
from wnodes_lrms.errors import RejectedError

app = typer.Typer(help="What happened to a job.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """What happened to a job."""


@app.command()
def show(
    job: Annotated[str, typer.Argument(help="the batch system's number", metavar="ID")],
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Show what happened to a job's VMs on this node, with times (UTC)."""
    rows = [
        event | {"at": utc(event["at"]), "node": node}
        for node, answer in ask_all(load(config), op="events", job=job)
        for event in answer["events"]
    ]
    if not rows:
        raise RejectedError(f"job {job}: nothing is known of it on this node")
    rows.sort(key=lambda row: row["at"])
    listing(rows, ("at", "node", "machine", "what"), as_json)
