"""Slurm's entry in the table of batch systems."""

from pathlib import Path

from wnodes_lrms.config.load import Config
from wnodes_lrms.lrms.hookset import Hooks
from wnodes_lrms.lrms.interface import System, requeued_or_held
from wnodes_lrms.lrms.slurm import cgroups, checks
from wnodes_lrms.lrms.slurm.allocation import job_id
from wnodes_lrms.lrms.slurm.hookplan import Site
from wnodes_lrms.lrms.slurm.installation import SlurmHooks
from wnodes_lrms.lrms.slurm.leases import SlurmLeases
from wnodes_lrms.lrms.slurm.native import DRMAA
from wnodes_lrms.lrms.slurm.node import Slurm, named, read_block_map
from wnodes_lrms.lrms.slurm.sacct import runs
from wnodes_lrms.policy import Policy


def _hooks(config: Config, rules: Policy) -> Hooks:
    site = Site(
        slurm_conf=Path(config.hooks.slurm_conf),
        socket=config.bait.socket,
        retries=config.retries,
        folder=Path(config.hooks.folder),
    )
    return SlurmHooks(site, rules)


SYSTEM = System(
    job_id=job_id,
    named=named,
    node=lambda _config, node: Slurm(node, read_block_map()),
    hooks=_hooks,
    site_checks=checks.of_site,
    node_checks=checks.of_node,
    after_failure=requeued_or_held("scontrol release", "scontrol requeue"),
    drmaa=DRMAA,
    leases=lambda config: SlurmLeases(config.cloud.accounts, config.cloud.shutdown_time),
    runs=runs,
    charging=cgroups,
    names_cpus=True,
)
