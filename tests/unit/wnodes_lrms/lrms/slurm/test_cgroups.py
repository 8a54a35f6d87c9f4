"""Where a job's control groups are, and what is done there; in folders that stand for them.

The end-to-end tests have the real ones, and Slurm's word on what it read there.
"""

import threading
from pathlib import Path

import pytest

from bait.checks import verdicts
from wnodes_lrms.doctor import Status
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.lrms.slurm import cgroups
from wnodes_lrms.lrms.slurm.cgroups import hierarchies

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
    file.write_text(V2)
    check = verdicts.charge(cgroups.trouble(file))
    assert check.status is Status.WARNING
    assert "no cpuacct and no memory" in check.seen
    assert "v2 is not supported" in check.seen


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
    with pytest.raises(WnodesError, match="PrologFlags=Contain"):
        adopt(mounts)


def test_without_cgroup_v1_the_reason_is_said(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text(V2)
    with pytest.raises(WnodesError, match="v2 is not supported"):
        adopt(tmp_path / "mounts", patience=30.0)
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
