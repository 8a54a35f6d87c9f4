"""`wnodes why`: why a job or a VM is where it is."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from wnodes_lrms import control
from wnodes_lrms.cli.out import ConfigFile, Json, line, listing, utc
from wnodes_lrms.cli.vm import load
from wnodes_lrms.errors import RejectedError

_ANSWER = 10.0  # seconds


def why(
    name: Annotated[
        str,
        typer.Argument(
            help="a job's number, a VM's or a lease's id, or the beginning of a VM's",
            metavar="JOB|VM",
        ),
    ],
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Tell what was asked, which rule or limit decided, where it stands, and what comes next."""
    loaded = load(config)
    baits = control.sockets(loaded)
    if not baits:
        raise control.none_here(loaded)
    rows, refusals = [], []
    for node, path in baits.items():
        try:
            rows.append({"node": node, **control.ask(path, _ANSWER, op="why", name=name)["why"]})
        except RejectedError as error:
            refusals.append(error)
    if not rows:
        raise refusals[0]
    if as_json:
        listing([row | {"history": _history(row)} for row in rows], (), True)
        return
    for row in rows:
        for text in sentences(row):
            line(text)


def sentences(row: dict[str, Any]) -> Iterator[str]:
    """All of it, for a person: a sentence a line."""
    yield f"{row['name']}, on node {row['node']}:"
    history = [f"{event['at']} {event['what']}" for event in _history(row)]
    for title in ("asked", "decided", "stands", "next", "history"):
        for number, text in enumerate(history if title == "history" else row[title]):
            yield f"  {title if number == 0 else '':8} {text}"


def _history(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [event | {"at": utc(event["at"])} for event in row["history"]]
