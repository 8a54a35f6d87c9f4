"""Where a job's control groups are, and what is done there; in folders that stand for them.

The end-to-end tests have the real ones of v1, and Slurm's word on what it read there. Those of v2
have the layout that was seen with Slurm 24.11 on a node of Debian 13.
"""

import threading
from pathlib import Path

import pytest

from bait.checks import verdicts
from tests.unit.wnodes_lrms.lrms.behaviour import DATA
from wnodes_lrms.doctor import Status
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.lrms.slurm import cgroups
from wnodes_lrms.lrms.slurm.groups_v1 import hierarchies

# Lines of /proc/self/mounts: of systemd's mixed hierarchy, of one folder a controller, and of v2.
MIXED = """\
tmpfs /sys/fs/cgroup tmpfs ro,nosuid,nodev,noexec,size=4096k,nr_inodes=1024,mode=755 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,nosuid,nodev,noexec,relatime,xattr,name=systemd 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,nodev,noexec,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,nosuid,nodev,noexec,relatime,memory 0 0
cgroup /sys/fs/cgroup/cpuset cgroup rw,nosuid,nodev,noexec,relatime,cpuset 0 0
"""
PLAIN = """\
cgroup /cg\\040roups/cpuacct cgroup rw,relatime,cpuacct 0 0
cgroup /cg\\040roups/memory cgroup rw,relatime,memory 0 0
cgroup /elsewhere/memory cgroup rw,relatime,memory 0 0
"""
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime 0 0\n"


@pytest.mark.parametrize(
    ("mounts", "places"),
    [
        (MIXED, {"cpuacct": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/sys/fs/cgroup/memory"}),
        (PLAIN, {"cpuacct": "/cg roups/cpuacct", "memory": "/cg roups/memory"}),
        (V2, {}),
    ],
)
def test_hierarchies(mounts: str, places: dict[str, str]) -> None:
    assert hierarchies(mounts) == {name: Path(path) for name, path in places.items()}


def test_the_doctor_names_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "mounts"
    file.write_text(PLAIN)
    assert cgroups.trouble(file) is None
    assert verdicts.charge(None).status is Status.OK
    file.write_text(MIXED.replace("cpuacct", "cpu"))
    check = verdicts.charge(cgroups.trouble(file))
    assert check.status is Status.WARNING
    assert "control groups have no cpuacct here" in check.seen
    file.write_text("")
    assert "no cpuacct and no memory here" in str(cgroups.trouble(file))


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """A machine with cgroup v1."""
    file = tmp_path / "mounts"
    lines = [f"cgroup {tmp_path}/{name} cgroup rw,{name} 0 0\n" for name in ("cpuacct", "memory")]
    file.write_text("".join(lines))
    return file


def task(mounts: Path, controller: str, root: str = "slurm_hv1") -> Path:
    folder = mounts.parent / controller / root / "uid_1001" / "job_7" / "step_extern" / "task_0"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(autouse=True)
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Slurm's word on its configuration: a file that a test may change. It meters jobs."""
    said = tmp_path / "said"
    said.write_text(configured())
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\n[ "$*" = "show config" ] && exec cat {said}\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:/usr/bin:/bin")
    return said


def configured(gather: str = "cgroup", track: str = "cgroup", version: str = "24.11") -> str:
    """As it was recorded, but for how jobs are metered and tracked."""
    said = (DATA / f"slurm-{version}" / "site.config").read_text()
    said = said.replace("jobacct_gather/linux", f"jobacct_gather/{gather}")
    return said.replace("proctrack/linuxproc", f"proctrack/{track}")


def adopt(mounts: Path, patience: float = 0.0) -> str:
    return cgroups.adopt(4242, "hv1", 1001, "7", patience, mounts)


@pytest.mark.parametrize("root", ["slurm_hv1", "slurm"])
def test_the_process_goes_beside_the_step_s_own(mounts: Path, root: str) -> None:
    folders = [task(mounts, name, root) for name in ("cpuacct", "memory")]
    assert "4242 is charged" in adopt(mounts)
    assert [(folder / "cgroup.procs").read_text() for folder in folders] == ["4242", "4242"]


def test_a_step_that_comes_late_is_waited_for(mounts: Path) -> None:
    done: list[str] = []
    waiting = threading.Thread(target=lambda: done.append(adopt(mounts, patience=30.0)))
    waiting.start()
    task(mounts, "cpuacct")
    task(mounts, "memory")
    waiting.join()
    assert done


def test_without_the_step_the_reason_is_said(mounts: Path) -> None:
    task(mounts, "cpuacct")  # one of two is not enough
    with pytest.raises(WnodesError, match="made no group for a task of the job"):
        adopt(mounts)


@pytest.mark.parametrize("version", ["22.05", "24.11"])
def test_what_slurm_does_not_meter_is_known_at_once(
    mounts: Path, slurm: Path, version: str
) -> None:
    for gather, track in (("linux", "cgroup"), ("cgroup", "linuxproc")):
        slurm.write_text(configured(gather, track, version))
        with pytest.raises(WnodesError, match=f"meters no jobs.*jobacct_gather/{gather}"):
            adopt(mounts, patience=1e6)


def test_a_job_without_a_task_in_extern_is_charged_to_its_script_s(mounts: Path) -> None:
    """So it is from Slurm 25.05 on."""
    folders = [
        mounts.parent / name / "slurm_hv1" / "uid_1001" / "job_7" / "step_batch" / "task_0"
        for name in ("cpuacct", "memory")
    ]
    for folder in folders:
        folder.mkdir(parents=True)
    (folders[0].parents[1] / "step_extern").mkdir()
    assert "of step_batch" in adopt(mounts)
    assert [(folder / "cgroup.procs").read_text() for folder in folders] == ["4242", "4242"]


def test_without_control_groups_the_reason_is_said(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text("")
    with pytest.raises(WnodesError, match="no cpuacct and no memory"):
        adopt(tmp_path / "mounts", patience=1e6)
    cgroups.set_aside(4242, "hv1", "7", tmp_path / "mounts")
    cgroups.clear("hv1", 1001, "7", tmp_path / "mounts")


def test_a_process_that_has_ended_is_said(mounts: Path) -> None:
    for name in ("cpuacct", "memory"):
        (task(mounts, name) / "cgroup.procs").mkdir()
    with pytest.raises(WnodesError, match="process 4242 can't go into"):
        adopt(mounts)


def test_a_job_s_folders_go_and_nobody_else_s(
    mounts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders = [task(mounts, name) for name in ("cpuacct", "memory")]
    other = folders[0].parents[2] / "job_8" / "step_extern"
    other.mkdir(parents=True)
    for _ in range(2):  # what is gone already is success
        cgroups.clear("hv1", 1001, "7", mounts)
    assert not any(folder.parents[1].exists() for folder in folders)
    assert other.exists()
    (other / "in use").touch()
    assert not caplog.records
    cgroups.clear("hv1", 1001, "8", mounts)
    assert "job_8" in caplog.text


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    """A machine with cgroup v2: its tree, and its mounts in the file beside it."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids rdma misc\n")
    (tmp_path / "mounts").write_text(f"cgroup2 {tree} cgroup2 rw,nosuid,nsdelegate 0 0\n")
    return tree


def scope(v2: Path, name: str = "hv1_slurmstepd.scope") -> Path:
    return v2 / "system.slice" / name


def step(v2: Path, name: str, root: str = "hv1_slurmstepd.scope", *, task: bool = True) -> Path:
    """A step's groups, as Slurm makes them."""
    folder = scope(v2, root) / "job_7" / name
    for sub in ("slurm", "user/task_0" if task else "user"):
        (folder / sub).mkdir(parents=True)
    return folder


@pytest.mark.parametrize("root", ["hv1_slurmstepd.scope", "slurmstepd.scope"])
def test_v2_the_process_goes_below_the_task_s_own_group(v2: Path, root: str) -> None:
    """There no signal of Slurm's reaches it, and what it uses counts in the task's."""
    extern, batch = step(v2, "step_extern", root), step(v2, "step_batch", root)
    for _ in range(2):
        assert "to the job: CPU time and memory of step_extern" in adopt(v2.parent / "mounts")
    task = extern / "user" / "task_0"
    assert (task / "wnodes" / "cgroup.procs").read_text() == "4242"
    assert not (task / "cgroup.procs").exists()
    assert not (task / "cgroup.subtree_control").exists()
    assert list((batch / "user" / "task_0").iterdir()) == []


def test_v2_a_job_without_a_task_in_extern_is_charged_to_its_script_s(v2: Path) -> None:
    step(v2, "step_extern", task=False)
    batch = step(v2, "step_batch")
    assert "of step_batch" in adopt(v2.parent / "mounts")
    assert (batch / "user" / "task_0" / "wnodes" / "cgroup.procs").read_text() == "4242"


def test_v2_a_step_that_comes_late_is_waited_for(v2: Path) -> None:
    done: list[str] = []
    waiting = threading.Thread(
        target=lambda: done.append(adopt(v2.parent / "mounts", patience=30.0))
    )
    waiting.start()
    step(v2, "step_extern")
    waiting.join()
    assert done


def test_v2_without_a_controller_the_reason_is_said(v2: Path) -> None:
    (v2 / "cgroup.controllers").write_text("cpuset io pids\n")
    assert cgroups.trouble(v2.parent / "mounts") == (
        "control groups (v2) have no cpu and no memory here"
    )
    (v2 / "cgroup.controllers").unlink()  # of a container
    with pytest.raises(WnodesError, match="no cpu and no memory"):
        adopt(v2.parent / "mounts", patience=1e6)


def test_v2_while_its_job_is_suspended_it_is_beside_what_is_frozen(v2: Path) -> None:
    mounts, extern = v2.parent / "mounts", step(v2, "step_extern")
    cgroups.set_aside(4242, "hv1", "7", mounts)  # one that was not charged stays where it is
    assert not (extern / "wnodes").exists()
    adopt(mounts)
    cgroups.set_aside(4243, "hv1", "7", mounts)
    assert (extern / "wnodes" / "cgroup.procs").read_text() == "4243"
    assert not (extern / "user" / "wnodes").exists()
    (extern / "wnodes" / "cgroup.procs").unlink()
    (extern / "wnodes" / "cgroup.procs").mkdir()
    with pytest.raises(WnodesError, match="can't be taken out"):
        cgroups.set_aside(4243, "hv1", "7", mounts)


def test_v1_nothing_is_set_aside(mounts: Path) -> None:
    folder = task(mounts, "cpuacct")
    task(mounts, "memory")
    cgroups.set_aside(4242, "hv1", "7", mounts)
    assert list(folder.iterdir()) == []


def test_v2_all_that_is_left_of_a_job_goes(v2: Path) -> None:
    mounts = v2.parent / "mounts"
    extern, batch = step(v2, "step_extern"), step(v2, "step_batch")
    other = scope(v2) / "job_8" / "step_extern"
    other.mkdir(parents=True)
    for folder in (extern, batch):
        (folder / "user" / "task_0" / "wnodes").mkdir()
        (folder / "wnodes").mkdir()
    for _ in range(2):
        cgroups.clear("hv1", 1001, "7", mounts)
    assert [path.name for path in scope(v2).iterdir()] == ["job_8"]
    assert other.exists()


def test_v2_a_step_whose_daemon_lives_keeps_its_own(v2: Path) -> None:
    """With PrologFlags=RunInJob it is the one that runs the epilog, and reads the task later."""
    extern = step(v2, "step_extern")
    (extern / "slurm" / "cgroup.procs").write_text("99\n")
    (extern / "user" / "task_0" / "wnodes").mkdir()
    cgroups.clear("hv1", 1001, "7", v2.parent / "mounts")
    assert (extern / "user" / "task_0").is_dir()
    assert not (extern / "user" / "task_0" / "wnodes").exists()


def test_v2_what_still_runs_is_left_and_said(v2: Path, caplog: pytest.LogCaptureFixture) -> None:
    extern = step(v2, "step_extern")
    ours = extern / "user" / "task_0" / "wnodes"
    ours.mkdir()
    (ours / "in use").touch()
    cgroups.clear("hv1", 1001, "7", v2.parent / "mounts")
    assert ours.exists()
    assert "job_7" in caplog.text
