"""The `wnodes` command: what administrators type."""

import os
import sys
from typing import Annotated

import typer

from wnodes_lrms.cli import (
    accounting,
    config,
    doctor,
    gc,
    hooks,
    host,
    image,
    job,
    link,
    vm,
    whoami,
    why,
)
from wnodes_lrms.cli.out import error, line
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.version import VERSION

app = typer.Typer(
    name="wnodes",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(accounting.app, name="accounting")
app.add_typer(config.app, name="config")
app.command("doctor")(doctor.examine)
app.command("gc")(gc.gc)
app.add_typer(hooks.app, name="hooks")
app.add_typer(host.app, name="host")
app.add_typer(image.app, name="image")
app.add_typer(job.app, name="job")
app.add_typer(link.app, name="link")
app.add_typer(vm.app, name="vm")
app.command("whoami")(whoami.whoami)
app.command("why")(why.why)


def _say_version(asked: bool) -> None:
    if asked:
        line(f"wnodes {VERSION}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="say the version", callback=_say_version, is_eager=True)
]


@app.callback()
def wnodes(version: Version = False) -> None:
    """Turns the batch system's jobs into virtual machines."""


def main() -> None:
    """Run the command; a fault is one line a fault on standard error, and exit code 1."""
    if os.geteuid() == 0:
        os.umask(0o077)
    try:
        app()
    except WnodesError as fault:
        error(str(fault))
        sys.exit(1)
    except OSError as fault:
        error(f"{fault.filename}: {fault.strerror}" if fault.filename else str(fault))
        sys.exit(1)
