"""Lease jobs in the site's LRMS: who makes them, by the configuration."""

from collections.abc import Callable
from pathlib import Path

from wnodes_lrms.config import Config
from wnodes_lrms.drmaaleases import DrmaaLeases
from wnodes_lrms.lease import Lease, Leases, LeaseState, Request
from wnodes_lrms.slurmleases import SlurmLeases

__all__ = ["MAKERS", "Lease", "LeaseState", "Leases", "Request", "leases_of"]


def _by_commands(config: Config) -> Leases:
    return SlurmLeases(config.cloud.accounts, config.cloud.shutdown_time)


def _by_drmaa(config: Config) -> Leases:
    return DrmaaLeases(
        config.cloud.drmaa_library or "",
        config.cloud.accounts,
        Path(config.bait.state_dir) / "leases.sqlite",
    )


MAKERS: dict[str, Callable[[Config], Leases]] = {"slurm": _by_commands, "drmaa": _by_drmaa}


def leases_of(config: Config) -> Leases:
    """What submits the leases: DRMAA where the site names a library, else the LRMS's commands."""
    return MAKERS["drmaa" if config.cloud.drmaa_library else config.lrms](config)
