"""`wnodes hooks`: what it says that it has done."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wnodes_lrms.cli import app
from wnodes_lrms.cli import hooks as cli
from wnodes_lrms.lrms.slurm.hookplan import Site
from wnodes_lrms.lrms.slurm.installation import SlurmHooks
from wnodes_lrms.policy import Policy


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    conf = tmp_path / "slurm.conf"
    conf.write_text("ClusterName=box\n")
    made = Site(conf, "/run/wnodes/%n/bait.sock", 2, tmp_path / "lib" / "wnodes", os.geteuid())
    policy = Policy(["small_linux_x86_64"])
    monkeypatch.setattr(cli, "hooks_of", lambda _config: SlurmHooks(made, policy))
    (tmp_path / "wnodes.toml").write_text('cluster = "box"\nlrms = "slurm"\n')
    monkeypatch.setenv("WNODES_CONFIG", str(tmp_path / "wnodes.toml"))
    return made


def says(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["hooks", *words])
    assert done.exit_code == code, done.output
    return done.output


def test_what_is_written_and_what_is_still_to_be_set(site: Site) -> None:
    said = says("install")
    assert f"changed   {site.folder}/prolog\n" in said
    assert f"Set in {site.slurm_conf}, then " in said
    assert f"    Prolog={site.folder}/prolog\n" in said
    assert "Prolog" in says("install", "--check", code=1)
    assert says("install").startswith("nothing to change\n")


def test_what_is_taken_off_is_called_removed(site: Site) -> None:
    says("install")
    said = says("remove")
    assert f"removed   {site.folder}/prolog\n" in said
    assert "changed" not in said
    assert not site.folder.exists()
    assert says("remove") == "nothing to change\n"


def test_another_batch_system_than_the_configurations_is_refused(site: Site) -> None:
    assert "the configuration says lrms = 'slurm'" in says("remove", "--lrms", "torque", code=2)
    assert not site.folder.exists()
