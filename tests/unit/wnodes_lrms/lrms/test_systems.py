"""The table of batch systems: whatever the configuration may name is there, in all its parts."""

from typing import get_args

import pytest

import batch
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import ConfigError
from wnodes_lrms.lrms.systems import SYSTEMS, leases_of
from wnodes_lrms.policy import Policy

NAMES = get_args(Config.model_fields["lrms"].annotation)


def test_every_batch_system_is_known_to_baits_and_starters() -> None:
    assert set(SYSTEMS) == set(batch.SYSTEMS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_who_has_no_commands_for_leases_must_have_drmaa(name: str) -> None:
    config = Config(cluster="box", lrms=name)
    if SYSTEMS[name].leases:
        assert leases_of(config)
    else:
        with pytest.raises(ConfigError, match="drmaa_library is needed"):
            leases_of(config)


@pytest.mark.parametrize("name", NAMES)
def test_each_has_hooks_of_its_own_configuration(name: str) -> None:
    hooks = SYSTEMS[name].hooks(Config(cluster="box", lrms=name), Policy([]))
    assert str(hooks.folder) == Config(cluster="box", lrms=name).hooks.folder
    assert hooks.where
