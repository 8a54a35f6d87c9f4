"""`wnodes host`: empty this node of VMs, and let them come back."""

import re
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import typer

from wnodes_lrms import control
from wnodes_lrms.cli.out import ConfigFile, Json, line, listing, utc
from wnodes_lrms.cli.vm import load
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import RejectedError

app = typer.Typer(help="This node as a whole.", no_args_is_help=True)
Node = Annotated[
    str | None, typer.Option(help="default: each node whose bait runs here", metavar="NAME")
]
_ANSWER = 45.0  # seconds; the bait asks the batch system, twice

# A span of time as systemd.time(7) has it, without its rarer units and spellings.
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(r"\+(?:\d+(?:s|min|m|h|d))+")
_PART = re.compile(r"(\d+)(s|min|m|h|d)")


@app.command()
def drain(
    by: Annotated[
        str | None,
        typer.Option(
            help="end what still runs then: 2026-12-24T18:00 (local time, or with a zone), or"
            " +30min, +2h, +1d12h from now; default: never",
            metavar="TIME",
        ),
    ] = None,
    reason: Annotated[
        str, typer.Option(help="what users and administrators read", metavar="TEXT")
    ] = "by an administrator",
    node: Node = None,
    config: ConfigFile = None,
) -> None:
    """Make no new VMs here, and have the batch system send no more jobs."""
    at = None if by is None else moment(by, time.time())
    loaded = load(config)
    _ask(loaded, node, op="drain", by=at, reason=reason)
    _tell(_hosts(loaded, node))


@app.command()
def resume(node: Node = None, config: ConfigFile = None) -> None:
    """Make new VMs again."""
    loaded = load(config)
    _ask(loaded, node, op="resume")
    _tell(_hosts(loaded, node))


@app.command()
def show(as_json: Json = False, node: Node = None, config: ConfigFile = None) -> None:
    """Show whether the node is drained, since when, by when, why, and which VMs are left."""
    rows = _hosts(load(config), node)
    if not as_json:
        _tell(rows)
        return
    times = [{key: row[key] and utc(row[key]) for key in ("since", "by")} for row in rows]
    listing([row | shown for row, shown in zip(rows, times, strict=True)], (), True)


def moment(text: str, now: float) -> float:
    """The time that is meant, in seconds since the epoch. Raises RejectedError."""
    try:
        if _SPAN.fullmatch(text):
            parts = _PART.findall(text)
            at = now + sum(int(number) * _UNITS[unit] for number, unit in parts)
        else:
            at = datetime.fromisoformat(text).astimezone().timestamp()
        utc(at)  # what can't be shown is no time
        return at
    except (ValueError, OverflowError, OSError):
        raise RejectedError(
            f"--by {text}: a time such as 2026-12-24T18:00, or +30min, +2h, +1d12h, is needed"
        ) from None


def sentences(row: dict[str, Any]) -> Iterator[str]:
    """How a node stands, for a person."""
    name, left = row["node"], row["machines"]
    if row["state"] == "up":
        yield f"node {name} takes VMs; it has {len(left)}"
    else:
        yield f"node {name} is {row['state']} since {utc(row['since'])}: {row['reason']}"
        end = f"until {utc(row['by'])} at the latest" if row["by"] else "for as long as they need"
        if left:
            yield f"  {len(left)} left, {end}:"
            for each in left:
                whose = f"job {each['job']}" if each["job"] else "no job"
                yield f"  {each['id']} of {whose}, {each['state']}"
    if row["lrms"]:
        yield f"  the batch system: {row['lrms']}"


def _hosts(config: Config, node: str | None) -> list[dict[str, Any]]:
    return [{"node": name, **said["host"]} for name, said in _ask(config, node, op="host").items()]


def _ask(config: Config, only: str | None, **request: object) -> dict[str, dict[str, Any]]:
    """What the baits of the nodes say, by node."""
    baits = control.sockets(config)
    if only is not None:
        baits = {name: path for name, path in baits.items() if name == only}
    if not baits:
        raise control.none_here(config, only)
    return {name: control.ask(path, _ANSWER, **request) for name, path in baits.items()}


def _tell(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        for text in sentences(row):
            line(text)
