"""Whom a lease may run as, and who submits it by the configuration."""

import os
import pwd
from pathlib import Path

import pytest

from tests.unit.conftest import needs_root, settings
from wnodes_lrms.config import load as config
from wnodes_lrms.errors import ConfigError, RejectedError
from wnodes_lrms.lrms.drmaa.leases import DrmaaLeases
from wnodes_lrms.lrms.lease import account_of, carries_leases
from wnodes_lrms.lrms.slurm.leases import SlurmLeases
from wnodes_lrms.lrms.systems import leases_of
from wnodes_lrms.run import identity, run_as

NOBODY = pwd.getpwnam("nobody")


@pytest.mark.parametrize(
    ("user", "accounts", "may"),
    [
        ("cloud001", ("cloud*",), True),
        ("cloud", ("cloud*",), True),
        ("clou", ("cloud*",), False),
        ("xcloud", ("cloud*",), False),
        ("cloud", ("cloud",), True),
        ("cloud2", ("cloud",), False),
        ("cloud*", ("cloud",), False),
        ("b", ("a", "b"), True),
        ("", ("a*",), False),
        ("root", (), False),
    ],
)
def test_the_configuration_names_the_users(user: str, accounts: tuple[str, ...], may: bool) -> None:
    assert carries_leases(user, accounts) == may


@pytest.mark.parametrize(
    ("user", "accounts", "says"),
    [
        ("nobody", ("cloud*",), "[cloud] accounts does not name it"),
        ("root", ("root",), "uid 0 is the system's"),
        ("daemon", ("d*",), "uid 1 is the system's"),
        ("no-such-user-here", ("n*",), "not known on this node"),
    ],
)
def test_who_may_not_carry_a_lease_whatever_an_order_says(
    user: str, accounts: tuple[str, ...], says: str
) -> None:
    with pytest.raises(RejectedError) as caught:
        account_of(user, accounts)
    assert says in str(caught.value)


def test_who_may_is_found() -> None:
    assert account_of("nobody", ("n*",)) == NOBODY


@needs_root
def test_a_program_runs_as_the_user_with_his_groups_and_nothing_of_our_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET", "ours")
    script = "id -u; id -G; env; grep ^Cap /proc/self/status; exit 3"
    environment = {"PATH": os.environ["PATH"], "WNODES_LEASE": "a.b"}
    ended = run_as(NOBODY, ["sh", "-c", script], deadline=5, environment=environment)
    uid, groups, *lines = ended.output.splitlines()
    assert (uid, ended.status) == (str(NOBODY.pw_uid), 3)
    assert groups.split() == [str(NOBODY.pw_gid)]
    assert {"WNODES_LEASE=a.b", "LC_ALL=C.UTF-8"} <= set(lines)
    assert "SECRET" not in ended.output
    assert "CapEff:\t0000000000000000" in lines


def test_who_is_not_root_runs_programs_as_himself() -> None:
    assert identity(pwd.getpwuid(os.geteuid())) == {}


def loaded(folder: Path, cloud: str) -> config.Config:
    file = folder / "wnodes.toml"
    file.write_text(settings(folder).replace("[cloud]\n", f"[cloud]\n{cloud}\n"))
    return config.load(file, "hv1")


def test_the_lrmss_commands_submit_leases_unless_the_site_has_drmaa(tmp_path: Path) -> None:
    made = leases_of(loaded(tmp_path, 'accounts = ["cloud*"]'))
    assert isinstance(made, SlurmLeases)
    assert (made.accounts, made.notice) == (("cloud*",), 1)
    other = leases_of(loaded(tmp_path, 'drmaa_library = "/usr/lib/libdrmaa.so"'))
    assert isinstance(other, DrmaaLeases)
    assert (tmp_path / "state" / "leases.sqlite").exists()


@pytest.mark.parametrize("name", ["*", "", "Cloud*", "a b", "-x", "a*b", "a**", "../a"])
def test_names_of_accounts_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"cloud\.accounts\[1\]"):
        loaded(tmp_path, f'accounts = ["{name}"]')
