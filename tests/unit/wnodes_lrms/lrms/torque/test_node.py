"""What is asked of Torque that others are not asked; see test_behaviour.py for the rest."""

import os
from pathlib import Path

import pytest

from tests.unit.wnodes_lrms.lrms.torque.test_allocation import DATA, recorded
from wnodes_lrms.errors import UnknownError
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.lrms.torque.node import Torque


def fake_command(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f'#!/bin/sh\nprintf "%s|" {name} "$@" >>{folder}/asked\n{script}\n')
    path.chmod(0o755)


@pytest.fixture
def recorded_torque(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands that say what Torque said: it can't be installed here."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("qrerun", "qhold", "qalter"):
        fake_command(tmp_path, name, "")
    return tmp_path


def torque_of(home: Path) -> Torque:
    (home / "server_name").write_text("tqserver\n")
    return Torque("tqhost", [], home, home / "jobs")


def asked(folder: Path) -> str:
    path = folder / "asked"
    return path.read_text() if path.exists() else ""


def test_the_server_is_the_nodes_own(
    recorded_torque: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torque = torque_of(recorded_torque)
    monkeypatch.setenv("PBS_SERVER", "three")
    monkeypatch.setenv("PBS_DEFAULT", "one:15001, two")
    torque.requeue(Torque.job_id("7[3].tqhost"))
    assert asked(recorded_torque) == "qrerun|--|7[3].tqhost@one:15001,two|"
    monkeypatch.setenv("PBS_DEFAULT", "-x")
    with pytest.raises(UnknownError, match="PBS_DEFAULT names no server"):
        torque.requeue(Torque.job_id("7"))
    monkeypatch.delenv("PBS_DEFAULT")
    monkeypatch.delenv("PBS_SERVER")
    (recorded_torque / "server_name").unlink()
    with pytest.raises(UnknownError, match="torque_home"):
        torque.requeue(Torque.job_id("7"))


def test_what_a_guest_says_is_only_a_comment(recorded_torque: Path) -> None:
    said = "its console said: x,stagein=/etc/shadow@evil:/x,depend=\"a'b\\=c"
    torque_of(recorded_torque).hold(Torque.job_id("7"), said)
    told = "wnodes: its console said: x stagein /etc/shadow evil:/x depend a b c"
    assert f"|qalter|-W|comment={told}|--|7@tqserver|" in f"|{asked(recorded_torque)}"


def test_a_suspended_job_is_off_its_nodes_list_and_still_there(recorded_torque: Path) -> None:
    """It is asked for because it has a VM here, by a mark, as no other is."""
    fake_command(recorded_torque, "pbsnodes", f"cat {DATA}/array.pbsnodes")
    suspended = recorded("plain.qstat").replace("<job_state>R<", "<job_state>S<")
    (recorded_torque / "said").write_text(suspended)
    fake_command(recorded_torque, "qstat", f"cat {recorded_torque}/said")
    (recorded_torque / "jobs").mkdir()
    for name in ("26.tqhost", "27[3].tqhost", "no job"):
        (recorded_torque / "jobs" / name).touch()
    on_node = {"27[3].tqhost": False, "27[7].tqhost": False}
    assert torque_of(recorded_torque).live_jobs() == on_node | {"26.tqhost": True}
    assert asked(recorded_torque) == "pbsnodes|-x|tqhost|" + "qstat|-f|-x|--|26.tqhost@tqserver|"
    elsewhere = suspended.replace("tqhost/0-2<", "hv2/0-2<")
    for other in (elsewhere, suspended.replace("<job_state>S<", "<job_state>C<")):
        (recorded_torque / "said").write_text(other)
        assert torque_of(recorded_torque).live_jobs() == on_node
    fake_command(recorded_torque, "qstat", "echo 'qstat: Unknown Job Id Error' >&2; exit 1")
    assert torque_of(recorded_torque).live_jobs() == on_node
    fake_command(recorded_torque, "qstat", "echo 'qstat: cannot connect' >&2; exit 1")
    with pytest.raises(UnknownError, match="cannot connect"):
        torque_of(recorded_torque).live_jobs()


def test_a_job_is_held_before_it_is_ended(recorded_torque: Path) -> None:
    torque_of(recorded_torque).hold(JobId("7.tqhost"), "no disk; really")
    assert asked(recorded_torque) == (
        "qhold|-h|o|--|7.tqhost@tqserver|"
        "qalter|-W|comment=wnodes: no disk; really|--|7.tqhost@tqserver|"
        "qrerun|--|7.tqhost@tqserver|"
    )


@pytest.mark.parametrize(
    ("says", "once"), [("True", ""), ("False", "it was submitted with `qsub -r n`")]
)
def test_a_job_may_be_submitted_to_run_but_once(
    recorded_torque: Path, says: str, once: str
) -> None:
    text = recorded("plain.qstat").replace("<Rerunable>True", f"<Rerunable>{says}")
    (recorded_torque / "said").write_text(text)
    fake_command(recorded_torque, "qstat", f"cat {recorded_torque}/said")
    assert torque_of(recorded_torque).runs_once(JobId("26.tqhost")) == once
