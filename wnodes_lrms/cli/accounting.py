"""`wnodes accounting`: the wallclock of this node's VMs."""

import platform
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from wnodes_lrms.accounting import differences, spent
from wnodes_lrms.cli.out import ConfigFile, Json, line, listing, utc
from wnodes_lrms.cli.vm import ask_all, load
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.lrms.systems import SYSTEMS

app = typer.Typer(help="The wallclock of this node's VMs.", no_args_is_help=True)
Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS, UTC; default: 7 days ago"
    ),
]
_DEFAULT = 7 * 86400.0  # seconds
_MARGIN = 3600.0  # seconds: what ended about `since` is then known to both sides
_SHOWN = ("node", "kind", "job", "machine", "cores", "memory", "began", "wall", "held", "clock")


@app.command("list")
def list_(since: Since = None, as_json: Json = False, config: ConfigFile = None) -> None:
    """List how long VMs ran, in seconds: those that still run, and those that ended since then."""
    found = [
        usage
        | {"node": node}
        | {moment: usage[moment] and utc(usage[moment]) for moment in ("began", "at", "ended")}
        | {count: round(usage[count], 1) for count in ("wall", "held")}
        for node, usages in _journal(load(config), _start(since))
        for usage in usages
    ]
    listing(found, _SHOWN, as_json)


@app.command()
def publish(as_json: Json = False, config: ConfigFile = None) -> None:
    """Put records of cloud VMs into the queue of APEL's SSM: all that is new since the last time.

    It may be interrupted, and called again, at any time.
    """
    answers = ask_all(load(config), op="publish")
    found = [{"node": node, "message": name} for node, said in answers for name in said["messages"]]
    if found or as_json:
        listing(found, ("node", "message"), as_json)
    else:
        line("nothing new")


@app.command()
def reconcile(since: Since = None, as_json: Json = False, config: ConfigFile = None) -> None:
    """Compare the wallclock of VMs with the batch system's accounting, and name each difference.

    The exit code is 1 if there is one.
    """
    start, now = _start(since), time.time()
    found: list[dict[str, Any]] = []
    machines = jobs = 0
    loaded = load(config)
    runs = SYSTEMS[loaded.lrms].runs
    if runs is None:
        raise RejectedError(f"the accounting of {loaded.lrms} is not read here")
    for node, usages in _journal(loaded, start - _MARGIN):
        # A socket without %n in its path does not tell the node's name.
        name = platform.node().split(".")[0] if node == "localhost" else node
        lrms = runs(name, start - _MARGIN)
        compared = differences([spent(usage) for usage in usages], lrms, start, now)
        found += [{"node": name, **vars(difference)} for difference in compared]
        machines, jobs = machines + len(usages), jobs + len(lrms)
    if found or as_json:
        listing(found, ("node", "what", "job", "machine", "detail"), as_json)
    else:
        line(f"no difference among {machines} VMs and {jobs} jobs since {utc(start)}")
    if found:
        raise typer.Exit(1)


def _journal(config: Config, since: float) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for node, answer in ask_all(config, op="usages", since=since):
        yield node, answer["usages"]


def _start(since: str | None) -> float:
    if since is None:
        return time.time() - _DEFAULT
    try:
        given = datetime.fromisoformat(since)
    except ValueError:
        raise RejectedError(
            f"«{since}» is no time: give YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS"
        ) from None
    at = (given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp()
    if at > time.time():
        raise RejectedError(f"«{since}» is still to come: nothing has run since then")
    return at
