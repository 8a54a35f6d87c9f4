"""How the command speaks: tables for people, JSON for programs, faults on standard error."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

Json = Annotated[bool, typer.Option("--json", help="a list of objects, for programs")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="default: $WNODES_CONFIG, or /etc/wnodes/wnodes.toml"),
]

# Wide, so that no cell is ever broken: ids and paths are there to be copied and searched for.
_out = Console(highlight=False, soft_wrap=True, width=1000)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def shown(text: str) -> str:
    """A line that a terminal shows and does not obey: users and their guests have a say in it."""
    return "".join(c if c.isprintable() else "?" for c in text)


def error(text: str) -> None:
    """A fault, for a person, on standard error: one line, whatever others have put into it."""
    _err.print(f"wnodes: {shown('; '.join(text.splitlines()))}", markup=False)


def progress(text: str) -> None:
    """What goes on, on standard error, for what may take longer than two seconds."""
    _err.print(shown(text), markup=False)


def line(text: str) -> None:
    """One line on standard output."""
    _out.print(shown(text), markup=False)


def listing(rows: Sequence[Mapping[str, object]], columns: Sequence[str], as_json: bool) -> None:
    """The rows: all their keys as JSON, or these columns as a table."""
    if as_json:
        typer.echo(json.dumps(list(rows), indent=2, default=str))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.upper())
    for row in rows:
        # As Text, in which brackets are no markup.
        table.add_row(*(Text("" if row[c] is None else shown(str(row[c]))) for c in columns))
    _out.print(table)


def details(row: Mapping[str, object], as_json: bool) -> None:
    """All of one row, a line a key; as JSON a list of one object, as every listing."""
    if as_json:
        listing([row], (), as_json)
        return
    listing([{"key": k, "value": v} for k, v in row.items()], ("key", "value"), as_json)


def utc(seconds: float) -> str:
    """A time as people and programs both read it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
