"""The judgements of `wnodes doctor` about Slurm, on what Slurm 22.05 and 24.11 really say."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.unit.conftest import needs_root
from tests.unit.wnodes_lrms.lrms.behaviour import read
from wnodes_lrms import doctor
from wnodes_lrms.cli import app
from wnodes_lrms.doctor import Check, Status
from wnodes_lrms.lrms.slurm import checks as slurmchecks

VERSIONS = ("slurm-22.05", "slurm-24.11")
CONFIG = """\
Configuration data as of 2024-05-02T10:11:12
JobRequeue              = {requeue}
JobSubmitPlugins        = lua
PrologFlags             = (null)
SelectType              = select/cons_tres
SelectTypeParameters    = {parameters}
SlurmctldHost[0]        = vm

Slurmctld(primary) at vm is UP
"""
NODE = """\
NodeName=hv1 CoresPerSocket=1
   CPUAlloc=0 CPUEfctv=2 CPUTot=2 CPULoad=0.52
   AvailableFeatures={features}
   ActiveFeatures={features}
   Gres=(null)
   NodeAddr=127.0.0.1 NodeHostName=localhost Port=16818 Version=22.05.8
   RealMemory=4096 AllocMem=0 FreeMem=17013 Sockets=2 Boards=1
   State={state} ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A
   Partitions=main,grid
"""
REASON = "   Reason=Prolog error [root@2024-05-02T10:00:00]\n"


def statuses(checks: list[Check]) -> dict[str, str]:
    return {check.name: str(check.status) for check in checks}


@pytest.mark.parametrize(
    ("parameters", "requeue", "expected"),
    [
        ("CR_CORE_MEMORY", "1", {"slurm memory": "ok", "slurm requeue": "ok"}),
        ("CR_CPU_MEMORY", "0", {"slurm memory": "ok", "slurm requeue": "warning"}),
        ("CR_CORE", "1", {"slurm memory": "fault", "slurm requeue": "ok"}),
        ("(null)", "1", {"slurm memory": "fault", "slurm requeue": "ok"}),
    ],
)
def test_settings(parameters: str, requeue: str, expected: dict[str, str]) -> None:
    said = CONFIG.format(parameters=parameters, requeue=requeue)
    assert statuses(slurmchecks.settings(said)) == expected


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("PrologEpilogTimeout     = 65534\n", set()),
        ("PrologEpilogTimeout     = 5\n", {"PrologEpilogTimeout=5"}),
        # As 25.05 and newer write it, by their source.
        ("EpilogTimeout           = 8\nPrologTimeout           = 60\n", {"EpilogTimeout=8"}),
        ("EpilogTimeout           = 60\nPrologTimeout           = 14\n", {"PrologTimeout=14"}),
    ],
)
def test_hooks_have_the_time_that_they_take(lines: str, found: set[str]) -> None:
    checks = slurmchecks.settings(CONFIG.format(parameters="CR_CORE_MEMORY", requeue="1") + lines)
    said = {check.seen.partition(":")[0] for check in checks if check.name == "slurm timeout"}
    assert said == found


@pytest.mark.parametrize(
    ("gather", "track", "status"),
    [
        ("jobacct_gather/cgroup", "proctrack/cgroup", Status.OK),
        ("jobacct_gather/cgroup", "proctrack/linuxproc", Status.WARNING),
        ("jobacct_gather/linux", "proctrack/cgroup", Status.WARNING),
    ],
)
def test_charge(gather: str, track: str, status: Status) -> None:
    check = slurmchecks.charge(
        f"JobAcctGatherType       = {gather}\nProctrackType           = {track}\n"
    )
    assert check.status is status
    assert gather in check.seen
    assert track in check.seen


@pytest.mark.parametrize(
    ("features", "state", "expected"),
    [
        ("wnodes", "IDLE", {"slurm feature": "ok", "slurm node": "ok"}),
        ("big,wnodes", "MIXED+PLANNED", {"slurm feature": "ok", "slurm node": "ok"}),
        ("wnodes", "IDLE+POWERED_DOWN", {"slurm feature": "ok", "slurm node": "ok"}),
        ("wnodes", "IDLE+DRAIN", {"slurm feature": "ok", "slurm node": "warning"}),
        ("wnodes", "IDLE*", {"slurm feature": "ok", "slurm node": "warning"}),
        ("nowwnodes", "DOWN", {"slurm feature": "fault", "slurm node": "warning"}),
        ("(null)", "UNKNOWN", {"slurm feature": "fault", "slurm node": "warning"}),
    ],
)
def test_node(features: str, state: str, expected: dict[str, str]) -> None:
    assert (
        statuses(slurmchecks.node("hv1", NODE.format(features=features, state=state))) == expected
    )


@pytest.mark.parametrize(
    ("site", "there", "status"),
    [(None, False, "ok"), ("BOX", True, "ok"), ("BOX", False, "warning")],
)
def test_publishing(site: str | None, there: bool, status: str) -> None:
    assert doctor.publishing(site, "/var/spool/apel/outgoing", there).status == status


def test_a_drained_node_says_why() -> None:
    _, check = slurmchecks.node("hv1", NODE.format(features="wnodes", state="IDLE+DRAIN") + REASON)
    assert "Prolog error" in check.seen
    assert "scontrol update NodeName=hv1 State=RESUME" in check.remedy


def test_one_controller_of_two_is_enough() -> None:
    both = "Slurmctld(primary) at a is {}\nSlurmctld(backup) at b is UP\n"
    assert slurmchecks.controller(both.format("UP")).status is Status.OK
    assert slurmchecks.controller(both.format("DOWN")).status is Status.WARNING


def test_summary() -> None:
    checks = [doctor.ok("a", ""), doctor.fault("b", "", ""), doctor.unknown("c", "")]
    assert doctor.summary(checks) == "1 fault, no warnings, 1 could not be told"
    assert doctor.summary(checks[:1]) == "no faults, no warnings"


def examine(config: Path) -> tuple[int, list[dict[str, str]]]:
    result = CliRunner().invoke(app, ["doctor", "--json", "--config", str(config)])
    return result.exit_code, json.loads(result.stdout)


@needs_root
def test_every_fault_of_the_configuration_is_a_finding(tmp_path: Path) -> None:
    config = tmp_path / "wnodes.toml"
    config.write_text('cluster = "box"\nretires = 3\n')
    code, found = examine(config)
    assert code == 1
    assert [row["name"] for row in found] == ["configuration", "configuration"]
    assert "retires: unknown key" in found[1]["seen"] + found[0]["seen"]
    assert all(row["status"] == "fault" and row["remedy"] for row in found)


@needs_root
def test_a_site_without_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No Slurm, no hooks, no bait: each is a finding with a remedy, and the node's own checks,
    made by the real wnodes-bait, are there all the same."""
    programs = tmp_path / "bin"
    programs.mkdir()
    scontrol = programs / "scontrol"
    scontrol.write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    (tmp_path / "slurm.conf").write_text("ClusterName=box\n")
    config = tmp_path / "wnodes.toml"
    config.write_text(
        f'cluster = "box"\nlrms = "slurm"\n'
        f'[bait]\nsocket = "{tmp_path}/%n.sock"\nstate_dir = "{tmp_path}/%n"\n'
        f'run_dir = "{tmp_path}/run"\nlibvirt_uri = "test:///default"\n'
        f'[images]\ncatalogue = "{tmp_path}/images"\ncache_dir = "{tmp_path}/cache"\n'
        f'[hooks]\nslurm_conf = "{tmp_path}/slurm.conf"\nfolder = "{tmp_path}/hooks"\n'
        '[machine]\naccel = "tcg"\n'
    )
    code, found = examine(config)
    assert code == 1
    seen = {row["name"]: row for row in found}
    for name in ("hooks", "slurm", "bait", "slurm node", "network"):
        assert seen[name]["status"] == "fault", name
        assert seen[name]["remedy"], name
    assert "Unable to contact slurm controller" in seen["slurm"]["seen"]
    assert seen["libvirt"]["seen"].startswith("libvirt ")
    assert seen["libvirt"]["status"] == seen["kvm"]["status"] == "ok"
    assert seen["images"]["status"] == "warning"
    assert seen["hooks"]["node"] is None
    assert seen["bait"]["node"] == os.uname().nodename.split(".")[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_recorded_of_a_site(version: str) -> None:
    """One without hooks, whose jobs are not metered by control groups."""
    said = read(version, "site.config")
    assert statuses(slurmchecks.settings(said)) == {"slurm memory": "ok", "slurm requeue": "ok"}
    check = slurmchecks.charge(said)
    assert check.status is Status.WARNING
    assert "JobAcctGatherType=jobacct_gather/linux" in check.seen
    assert slurmchecks.controller(read(version, "site.ping")).status is Status.OK


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("state", "status", "why"),
    [
        ("idle", Status.OK, ""),
        ("mixed", Status.OK, ""),
        ("drained", Status.WARNING, "wnodes: new kernel"),
        ("draining", Status.WARNING, 'a [b] c=d, "e"  two blanks'),
        ("down", Status.WARNING, "broken [disk]"),
        ("down-drained", Status.WARNING, "wnodes: and down"),
    ],
)
def test_what_was_recorded_of_a_node(version: str, state: str, status: Status, why: str) -> None:
    feature, check = slurmchecks.node("hv1", read(version, f"{state}.node"))
    assert feature.status is Status.OK
    assert check.status is status
    assert why in check.seen
    assert bool(why) == ("[root@" in check.seen)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_drain_that_was_lifted_is_not_lifted_again(version: str) -> None:
    """24.11 keeps its reason; the node is away for another one."""
    _feature, check = slurmchecks.node("hv1", read(version, "undrained.node"))
    assert check.status is Status.WARNING
    assert "IDLE+NOT_RESPONDING" in check.seen
    assert "wnodes host resume" not in check.remedy
