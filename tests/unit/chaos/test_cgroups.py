"""The fault harness finds the control groups that are left, and takes nobody else's for them."""

from pathlib import Path

from tests.chaos.cgroups import left


def test_a_job_that_goes_on_is_none_left_however_late_its_folders_come(tmp_path: Path) -> None:
    user = tmp_path / "memory" / "slurm_hv1" / "uid_1001"
    for job in ("job_28", "job_30", "job_281"):
        (user / job / "step_extern" / "task_0").mkdir(parents=True)
    machine = tmp_path / "cpuacct" / "machine-qemu-1"
    machine.mkdir(parents=True)
    (user / "job_9").touch()
    assert list(left(["28"], tmp_path)) == [user / "job_281", user / "job_30", machine]
