"""The table of the batch systems that are known here; what an entry has: lrms/interface.py."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import get_args

from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import ConfigError
from wnodes_lrms.lrms.drmaa.leases import DrmaaLeases
from wnodes_lrms.lrms.interface import System
from wnodes_lrms.lrms.lease import Leases


class _Table(Mapping[str, System]):
    """The entries by the names that the configuration may have.

    A folder is imported when it is asked for: a site has one batch system.
    """

    _names: tuple[str, ...] = get_args(Config.model_fields["lrms"].annotation)

    def __getitem__(self, name: str) -> System:
        if name not in self._names:
            raise KeyError(name)
        entry: System = import_module(f"wnodes_lrms.lrms.{name}.system").SYSTEM
        return entry

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


SYSTEMS = _Table()


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
