"""`wnodes hooks`: put the hooks into the batch system, compare them, take them off."""

from pathlib import Path
from typing import Annotated

import typer

from wnodes_lrms import catalogue, hookfiles
from wnodes_lrms import config as configuration
from wnodes_lrms.cli.out import ConfigFile, error, line
from wnodes_lrms.config import Config
from wnodes_lrms.hookset import Site
from wnodes_lrms.luapolicy import Policy

app = typer.Typer(help="Hooks in the batch system.", no_args_is_help=True)
Lrms = Annotated[str, typer.Option(help="the batch system", metavar="slurm")]


def site_of(config: Config) -> Site:
    """Where this configuration's hooks go."""
    return Site(
        slurm_conf=Path(config.hooks.slurm_conf),
        socket=config.bait.socket,
        retries=config.retries,
        folder=Path(config.hooks.folder),
    )


def policy_of(config: Config) -> Policy:
    """What the submission hook has to know of this configuration and its catalogue."""
    tags = catalogue.tags(Path(config.images.catalogue))
    return Policy(tags, config.default, config.allow, config.cloud.accounts)


@app.command()
def install(
    lrms: Lrms = "slurm",
    check: Annotated[bool, typer.Option("--check", help="compare only, change nothing")] = False,
    config: ConfigFile = None,
) -> None:
    """Write the hooks, and tell what the batch system's own configuration still needs.

    The site's own prolog, epilog and job_submit.lua stay and are run too. With --check nothing is
    written; the exit code is 1 if anything differs.
    """
    loaded = _load(config, lrms)
    site, policy = site_of(loaded), policy_of(loaded)
    if check:
        findings = hookfiles.check(site, policy)
        for finding in findings:
            error(f"{finding.where}: {finding.what}: {finding.remedy}")
        if findings:
            raise typer.Exit(1)
        line(f"{site.folder}: as they should be")
        return
    outcome = hookfiles.install(site, policy)
    _tell(outcome, site, "set")


@app.command()
def remove(lrms: Lrms = "slurm", config: ConfigFile = None) -> None:
    """Take the hooks off; what the site had before is as it was."""
    site = site_of(_load(config, lrms))
    _tell(hookfiles.remove(site), site, "take back")


def _load(path: Path | None, lrms: str) -> Config:
    loaded = configuration.load(configuration.path_in_use(path))
    if lrms != loaded.lrms:
        raise typer.BadParameter(f"the configuration says lrms = {loaded.lrms!r}")
    return loaded


def _tell(outcome: hookfiles.Outcome, site: Site, verb: str) -> None:
    for path in outcome.changed:
        line(f"changed   {path}")
    for path in outcome.left:
        line(f"left      {path}")
    if not outcome.changed:
        line("nothing to change")
    if outcome.lines:
        line(f"{verb.capitalize()} in {site.slurm_conf}:")
        for text in outcome.lines:
            line(f"    {text}")
