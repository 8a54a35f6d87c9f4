"""The table of the batch systems that are known here; what an entry has: lrms/interface.py."""

from pathlib import Path

from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import ConfigError
from wnodes_lrms.lrms.drmaa.leases import DrmaaLeases
from wnodes_lrms.lrms.gridengine.system import GRID_ENGINE
from wnodes_lrms.lrms.interface import System
from wnodes_lrms.lrms.lease import Leases
from wnodes_lrms.lrms.openpbs.system import OPENPBS
from wnodes_lrms.lrms.slurm.system import SLURM
from wnodes_lrms.lrms.torque.system import TORQUE

SYSTEMS: dict[str, System] = {
    "slurm": SLURM,
    "gridengine": GRID_ENGINE,
    "torque": TORQUE,
    "openpbs": OPENPBS,
}


def leases_of(config: Config) -> Leases:
    """What submits the leases: DRMAA where the site names a library, else the LRMS's commands.

    Raises ConfigError if there is neither.
    """
    system = SYSTEMS[config.lrms]
    if config.cloud.drmaa_library:
        return DrmaaLeases(
            config.cloud.drmaa_library,
            config.cloud.accounts,
            Path(config.bait.state_dir) / "leases.sqlite",
            system.job_id,
            system.named,
            [each.drmaa for each in SYSTEMS.values()],
        )
    if system.leases is None:
        raise ConfigError("cloud", [f"drmaa_library is needed for leases with {config.lrms}"])
    return system.leases(config)
