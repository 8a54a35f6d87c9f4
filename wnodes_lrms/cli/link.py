"""`wnodes link`: which token and which certificate are the same person's, on the bridge's host."""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from wnodes_lrms.cli.out import ConfigFile, Json, listing, utc
from wnodes_lrms.config import load as configuration
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.run import run

app = typer.Typer(help="Tokens and certificates of the same people.", no_args_is_help=True)
_DEADLINE = 60.0  # seconds

Subject = Annotated[str, typer.Argument(help="of the token, as https://issuer#subject")]
Name = Annotated[str, typer.Argument(help="of the certificate, as /C=…/CN=…", metavar="DN")]


@app.command("list")
def show(as_json: Json = False, config: ConfigFile = None) -> None:
    """List all links."""
    rows = [{**row, "created": utc(row["created"])} for row in _bridge(config, "--links")]
    listing(rows, ("subject", "dn", "created"), as_json)


@app.command()
def add(subject: Subject, dn: Name, config: ConfigFile = None) -> None:
    """Let whoever comes with this token have what is the certificate's.

    Nothing may be the token's own by then.
    """
    _bridge(config, "--link", subject, dn)


@app.command()
def remove(subject: Subject, config: ConfigFile = None) -> None:
    """Part them again: all that there is stays the certificate's."""
    _bridge(config, "--unlink", subject)


def _bridge(config: Path | None, *options: str) -> Sequence[dict[str, Any]]:
    """The links, after the bridge's program has done it. Raises RejectedError, WnodesError."""
    beside = Path(sys.executable).with_name("wnodes-bridge")
    program = str(beside) if beside.exists() else shutil.which("wnodes-bridge") or "wnodes-bridge"
    path = configuration.path_in_use(config)
    told = json.loads(run([program, "--config", str(path), *options], deadline=_DEADLINE))
    if told["refused"]:
        raise RejectedError(told["refused"])
    links: Sequence[dict[str, Any]] = told["links"]
    return links
