"""`wnodes vm`: the VMs of this node."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from wnodes_lrms import control
from wnodes_lrms.cli.out import ConfigFile, Json, details, line, listing, utc
from wnodes_lrms.config import load as configuration
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.model import Kind, State

app = typer.Typer(help="The VMs of this node.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="a VM's id, or the beginning of it", metavar="ID")]
_AT_REST = frozenset({State.STOPPED, State.HIBERNATED, State.FAILED})  # of a cloud machine
_RUNS = frozenset(  # states in which there is a domain
    {
        *(State.BOOTING, State.READY, State.SUSPENDED, State.ASLEEP, State.STOPPING),
        State.HIBERNATING,
    }
)
_ANSWER = 10.0  # seconds; ending a machine may take that long
_SHOWN = ("id", "node", "job", "state", "tag", "cores", "memory", "address", "since")


@app.command("list")
def list_(as_json: Json = False, config: ConfigFile = None) -> None:
    """List the VMs that there are now."""
    rows = list(machines(load(config)))
    listing(rows, _SHOWN, as_json)


@app.command()
def show(machine: Id, as_json: Json = False, config: ConfigFile = None) -> None:
    """Show all that is known of a VM."""
    details(_one(load(config), machine), as_json)


@app.command()
def console(machine: Id, config: ConfigFile = None) -> None:
    """Connect to a VM's serial console; Ctrl-] ends it."""
    loaded = load(config)
    row = _one(loaded, machine)
    if row["state"] not in _RUNS:
        raise RejectedError(f"VM {row['id']} is {row['state']}: it has no console")
    argv = ["virsh", "--connect", loaded.bait.libvirt_uri, "console", str(row["id"])]
    os.execvp(argv[0], argv)  # noqa: S606 (the terminal becomes virsh's)


@app.command()
def destroy(machine: Id, config: ConfigFile = None) -> None:
    """End a VM at once. Its job is told why, and held; a cloud VM keeps its disk."""
    loaded = load(config)
    row = _one(loaded, machine)
    if row["kind"] == Kind.CLOUD and row["state"] in _AT_REST:
        line(f"VM {row['id']} is {row['state']} already; its disk is kept")
        return
    path = control.sockets(loaded)[row["node"]]
    control.ask(path, _ANSWER, op="destroy", machine=row["id"])
    kept = "has ended; its disk is kept" if row["kind"] == Kind.CLOUD else "is gone"
    line(f"VM {row['id']} of job {row['job']} {kept}")


def load(path: Path | None) -> Config:
    """The configuration, common to all nodes."""
    return configuration.load(configuration.path_in_use(path))


def ask_all(config: Config, **request: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """The answers of all baits on this host, by node.

    Raises UnknownError if there is none or one does not answer.
    """
    baits = control.sockets(config)
    if not baits:
        raise control.none_here(config)
    for node, path in baits.items():
        yield node, control.ask(path, _ANSWER, **request)


def machines(config: Config) -> Iterator[dict[str, Any]]:
    """The VMs of all baits on this host."""
    for node, answer in ask_all(config, op="machines"):
        for row in answer["machines"]:
            times = {key: row[key] and utc(row[key]) for key in ("since", "ends")}
            yield row | {"node": node, **times}


def _one(config: Config, beginning: str) -> dict[str, Any]:
    if not beginning:  # as of a shell's variable that is not set
        raise RejectedError("a VM's id, or the beginning of it, is needed")
    found = [row for row in machines(config) if row["id"].startswith(beginning.lower())]
    if len(found) != 1:
        several = ", ".join(row["id"] for row in found) or "none"
        raise RejectedError(f"VM «{beginning}»: one is needed, found {several}")
    return found[0]
