"""`wnodes config`: is the configuration file right?"""

import typer

from wnodes_lrms.cli.out import ConfigFile, line
from wnodes_lrms.config import load as configuration

app = typer.Typer(help="The configuration file.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """The configuration file."""


@app.command()
def check(config: ConfigFile = None) -> None:
    """Name every fault of the file, with its place. The exit code is 1 if there is any."""
    path = configuration.path_in_use(config)
    configuration.load(path)
    line(f"{path}: no fault found")
