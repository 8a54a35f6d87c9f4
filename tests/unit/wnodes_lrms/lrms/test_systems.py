"""The table of batch systems: what the configuration may name is there, and in its folder alone."""

import re
from pathlib import Path
from typing import get_args

import pytest

import requeue
from tests.unit.wnodes_lrms.lrms.recordings import RECORDED
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import ConfigError
from wnodes_lrms.lrms.systems import SYSTEMS, leases_of
from wnodes_lrms.policy import Policy

ROOT = Path(__file__).parents[4]
NAMES = get_args(Config.model_fields["lrms"].annotation)
COMMANDS = {command for recorded in RECORDED.values() for command in recorded.commands}
OTHERS = "sacct|qsub|qrls|qdel|qsig|qalter|qhold|qrerun|qmgr"  # commands that the suite needs not
NAMED = re.compile(
    rf"{'|'.join(NAMES)}|pbs|grid engine|\bsge|\b({'|'.join(COMMANDS)}|{OTHERS})\b", re.IGNORECASE
)
# What names one all the same, and why.
MAY_NAME = {
    "wnodes_lrms/config/load.py": "the list of names",
    "wnodes_lrms/config/node.py": "keys for where two of them have their files",
    "wnodes_lrms/lrms/pbs.py": "what two of them have in common",
}
PARTS = {"allocation", "checks", "hookplan", "installation", "native", "node", "system"}


def test_every_batch_system_is_known_to_baits_and_starters() -> None:
    assert set(SYSTEMS) == set(requeue.SYSTEMS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_a_folder_of_the_same_parts(name: str) -> None:
    assert {path.stem for path in (ROOT / "wnodes_lrms/lrms" / name).glob("*.py")} >= PARTS


def test_outside_its_folder_nothing_names_a_batch_system() -> None:
    naming = set()
    for package in ("bait", "wnodes_lrms"):
        for path in (ROOT / package).rglob("*.py"):
            own = path.parent.parent.name == "lrms" and path.parent.name in NAMES
            if not own and NAMED.search(path.read_text()):
                naming.add(str(path.relative_to(ROOT)))
    assert naming == set(MAY_NAME)


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
