"""The `wnodes` command: what administrators type, and what users of the cloud service type."""

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Annotated

import typer
from typer.core import TyperCommand, TyperGroup

from wnodes_lrms.cli.out import error, line
from wnodes_lrms.errors import ConfigError, WnodesError
from wnodes_lrms.version import VERSION

# Where each command is: the `app` of a module, or a function of it. It is imported when it is asked
# for, so that none waits for what only others need; completion asks at each touch of the key.
_COMMANDS: Mapping[str, str] = {
    "accounting": "accounting:app",
    "cloud": "cloud:app",
    "config": "config:app",
    "doctor": "doctor:examine",
    "gc": "gc:gc",
    "hooks": "hooks:app",
    "host": "host:app",
    "image": "image:app",
    "job": "job:app",
    "link": "link:app",
    "vm": "vm:app",
    "whoami": "whoami:whoami",
    "why": "why:why",
}


class _Commands(TyperGroup):
    """All of them, by name."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> TyperCommand | TyperGroup | None:  # type: ignore[override]  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        found = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        if isinstance(found, typer.Typer):
            group = typer.main.get_group(found)
            group.name = cmd_name
            return group
        alone = typer.Typer(add_completion=False)
        alone.command(cmd_name)(found)
        return typer.main.get_command(alone)  # type: ignore[return-value]


app = typer.Typer(
    name="wnodes",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


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
    """Run the command; a fault is one line a fault on standard error, and its exit status."""
    if os.geteuid() == 0:
        os.umask(0o077)
    try:
        app()
    except ConfigError as fault:
        for one in str(fault).splitlines():
            error(one)
        sys.exit(fault.exit_status)
    except WnodesError as fault:
        error(str(fault))
        sys.exit(fault.exit_status)
    except OSError as fault:
        error(f"{fault.filename}: {fault.strerror}" if fault.filename else str(fault))
        sys.exit(1)
