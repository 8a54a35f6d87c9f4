"""`wnodes hooks`: put the hooks into the batch system, compare them, take them off."""

from pathlib import Path
from typing import Annotated

import typer

from wnodes_lrms.cli.out import ConfigFile, error, line
from wnodes_lrms.config import load as configuration
from wnodes_lrms.config.load import Config
from wnodes_lrms.images import catalogue
from wnodes_lrms.lrms import hookfiles
from wnodes_lrms.lrms.hookset import Hooks
from wnodes_lrms.lrms.systems import SYSTEMS
from wnodes_lrms.policy import Policy

app = typer.Typer(help="Hooks in the batch system.", no_args_is_help=True)
Lrms = Annotated[
    str | None, typer.Option(help="the batch system; must be the configuration's", metavar="NAME")
]


def hooks_of(config: Config) -> Hooks:
    """The hooks of this configuration, in its batch system."""
    tags = catalogue.tags(Path(config.images.catalogue))
    rules = Policy(tags, config.default, config.allow, config.cloud.accounts)
    return SYSTEMS[config.lrms].hooks(config, rules)


@app.command()
def install(
    lrms: Lrms = None,
    check: Annotated[bool, typer.Option("--check", help="only compare, change nothing")] = False,
    config: ConfigFile = None,
) -> None:
    """Write the hooks, and tell what the batch system's own configuration still needs.

    The site's own hooks stay and are run too. With --check nothing is
    written; the exit code is 1 if anything differs.
    """
    hooks = _load(config, lrms)
    if check:
        findings = hookfiles.check(hooks)
        for finding in findings:
            error(f"{finding.where}: {finding.what}: {finding.remedy}")
        if findings:
            raise typer.Exit(1)
        line(f"{hooks.folder}: as they should be")
        return
    _tell(hookfiles.install(hooks), hooks, "changed")


@app.command()
def remove(lrms: Lrms = None, config: ConfigFile = None) -> None:
    """Take the hooks off; what the site had before is as it was."""
    hooks = _load(config, lrms)
    _tell(hookfiles.remove(hooks), hooks, "removed")


def _load(path: Path | None, lrms: str | None) -> Hooks:
    loaded = configuration.load(configuration.path_in_use(path))
    if lrms not in (None, loaded.lrms):
        raise typer.BadParameter(f"the configuration says lrms = {loaded.lrms!r}")
    return hooks_of(loaded)


def _tell(outcome: hookfiles.Outcome, hooks: Hooks, done: str) -> None:
    """Print what was done; `a -> b` is a file of the site's own that has another name now."""
    for path in outcome.changed:
        line(f"{'moved' if ' -> ' in path else done:8}  {path}")
    for path in outcome.left:
        line(f"left      {path}")
    if not outcome.changed:
        line("nothing to change")
    if outcome.lines:
        line(f"Set in {hooks.where}, then {hooks.remedy}:")
        for text in outcome.lines:
            line(f"    {text}")
