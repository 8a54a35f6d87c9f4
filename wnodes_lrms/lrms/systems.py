"""The batch systems that are known here: one table, and what each entry must be able to do."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wnodes_lrms.config.load import Config
from wnodes_lrms.doctor import Check
from wnodes_lrms.errors import ConfigError
from wnodes_lrms.lrms import pbs
from wnodes_lrms.lrms.drmaa.leases import DrmaaLeases
from wnodes_lrms.lrms.gridengine import allocation as gridengine
from wnodes_lrms.lrms.gridengine import checks
from wnodes_lrms.lrms.gridengine.allocation import GridEngine
from wnodes_lrms.lrms.gridengine.hooks import GridEngineHooks
from wnodes_lrms.lrms.hookset import Hooks, Site
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.lrms.lease import Leases
from wnodes_lrms.lrms.openpbs import checks as openpbschecks
from wnodes_lrms.lrms.openpbs.allocation import OpenPBS
from wnodes_lrms.lrms.openpbs.hooks import OpenPBSHooks
from wnodes_lrms.lrms.slurm import allocation as slurm
from wnodes_lrms.lrms.slurm import checks as slurmchecks
from wnodes_lrms.lrms.slurm import sacct
from wnodes_lrms.lrms.slurm.allocation import Slurm, read_block_map
from wnodes_lrms.lrms.slurm.hookplan import Site as SlurmSite
from wnodes_lrms.lrms.slurm.hooks import SlurmHooks
from wnodes_lrms.lrms.slurm.leases import SlurmLeases
from wnodes_lrms.lrms.slurm.sacct import Run
from wnodes_lrms.lrms.torque import checks as torquechecks
from wnodes_lrms.lrms.torque.allocation import Torque
from wnodes_lrms.lrms.torque.hookplan import Site as TorqueSite
from wnodes_lrms.lrms.torque.hookplan import TorqueHooks
from wnodes_lrms.model import Allocation
from wnodes_lrms.policy import Policy


class Lrms(Protocol):
    """The batch system of one node. All raise UnknownError if it does not answer."""

    def job_id(self, text: str, /) -> JobId:
        """The job id that a text is. Raises RejectedError if it is none of this batch system."""

    def allocation(self, job: JobId, /) -> Allocation:
        """What the job was granted on this node, to an owner whom this node knows."""

    def where(self, job: JobId) -> str | None:
        """The node on which a job runs, here or elsewhere; empty if on none yet, or on several.

        None if the batch system does answer, and says that it has no such job, or that it has
        ended.
        """

    def live_jobs(self) -> Mapping[str, bool]:
        """The jobs that hold an allocation on this node, and whether each is suspended."""

    def drain(self, reason: str) -> str:
        """Have it send no more jobs here; asked again, success.

        The reason of a drain that somebody else has set, which stays; empty if there is none.
        """

    def resume(self) -> str:
        """Have it send jobs here again, if it was a bait that has drained the node.

        The reason of a drain that somebody else has set, which stays; empty if there is none.
        """


@dataclass(frozen=True)
class System:
    """A batch system. `job_id`: see Lrms. `named`: the jobs by a name, of a user, that are queued
    or run; it raises UnknownError. `leases`: by its own commands; None: only through DRMAA. `runs`:
    what its accounting has of the jobs of a node since a time; None: that is not read here.
    """

    job_id: Callable[[str], JobId]
    named: Callable[[str, str], Sequence[JobId]]
    node: Callable[[Config, str], Lrms]
    hooks: Callable[[Config, Policy], Hooks]
    site_checks: Callable[[Config], Iterator[Check]]
    node_checks: Callable[[Config, str], Iterator[Check]]
    leases: Callable[[Config], Leases] | None = None
    runs: Callable[[str, float], Sequence[Run]] | None = None


def _slurm_hooks(config: Config, rules: Policy) -> Hooks:
    site = SlurmSite(
        slurm_conf=Path(config.hooks.slurm_conf),
        socket=config.bait.socket,
        retries=config.retries,
        folder=Path(config.hooks.folder),
    )
    return SlurmHooks(site, rules)


def _site(config: Config) -> Site:
    return Site(Path(config.hooks.folder), config.bait.socket, config.retries)


def _grid_engine(config: Config, node: str) -> Lrms:
    return GridEngine(node, config.default, Path(config.bait.state_dir) / "disabled-queues.json")


def _torque(config: Config, node: str) -> Lrms:
    marks = Path(config.bait.run_dir, "jobs")
    return Torque(node, config.default, Path(config.hooks.torque_home), marks)


def _torque_hooks(config: Config, rules: Policy) -> Hooks:
    site = TorqueSite(
        home=Path(config.hooks.torque_home),
        socket=config.bait.socket,
        run_dir=config.bait.run_dir,
        retries=config.retries,
        folder=Path(config.hooks.folder),
    )
    return TorqueHooks(site, rules)


SYSTEMS: dict[str, System] = {
    "slurm": System(
        job_id=Slurm.job_id,
        named=slurm.named,
        node=lambda _config, node: Slurm(node, read_block_map()),
        hooks=_slurm_hooks,
        site_checks=slurmchecks.of_site,
        node_checks=slurmchecks.of_node,
        leases=lambda config: SlurmLeases(config.cloud.accounts, config.cloud.shutdown_time),
        runs=sacct.runs,
    ),
    "gridengine": System(
        job_id=GridEngine.job_id,
        named=gridengine.named,
        node=_grid_engine,
        hooks=lambda config, rules: GridEngineHooks(_site(config), rules),
        site_checks=checks.of_site,
        node_checks=checks.of_node,
    ),
    "torque": System(
        job_id=Torque.job_id,
        named=pbs.named,
        node=_torque,
        hooks=_torque_hooks,
        site_checks=torquechecks.of_site,
        node_checks=torquechecks.of_node,
    ),
    "openpbs": System(
        job_id=OpenPBS.job_id,
        named=pbs.named,
        node=lambda _config, node: OpenPBS(node),
        hooks=lambda config, rules: OpenPBSHooks(_site(config), rules),
        site_checks=openpbschecks.of_site,
        node_checks=openpbschecks.of_node,
    ),
}


def leases_of(config: Config) -> Leases:
    """What submits the leases: DRMAA where the site names a library, else the LRMS's commands.

    Raises ConfigError if there is neither.
    """
    if config.cloud.drmaa_library:
        return DrmaaLeases(
            config.cloud.drmaa_library,
            config.cloud.accounts,
            Path(config.bait.state_dir) / "leases.sqlite",
            SYSTEMS[config.lrms].job_id,
            SYSTEMS[config.lrms].named,
        )
    by_commands = SYSTEMS[config.lrms].leases
    if by_commands is None:
        raise ConfigError("cloud", [f"drmaa_library is needed for leases with {config.lrms}"])
    return by_commands(config)
