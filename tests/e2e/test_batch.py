"""A job of an ordinary user runs in a machine of its own, made for it and gone after it."""

import platform
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import BOOT_ID, FACTS, IMAGE, Job, Submit, call, machines, wait_until


def test_a_job_runs_in_another_kernel_and_all_of_it_comes_back(submit: Submit, home: Path) -> None:
    job = submit(
        FACTS
        + """
echo "who $(id -u):$(id -g):$(id -G | tr ' ' '\\n' | sort -n | tr '\\n' ' ')"
echo "args $# $1"
echo "here $PWD $(umask) $HOME"
echo "env [$ODD]"
echo to-stderr >&2
read -r line || echo "stdin at its end"
echo made inside > made-by-$SLURM_JOB_ID
exit 7
""",
        env={"ODD": "two  words\nand 'quotes\" $HOME"},
        args=("first one", "second"),
    ).wait()
    assert (job.state, job.exit_code) == ("FAILED", "7:0")
    out = dict(line.split(" ", 1) for line in job.output.splitlines() if " " in line)
    assert out["kernel"] != platform.release()
    assert out["boot"] != BOOT_ID
    uid, gid, groups = out["who"].split(":")
    assert uid == call("id", "-u", "griduser").strip()
    assert gid == call("id", "-g", "griduser").strip()
    assert groups.split() == sorted(call("id", "-G", "griduser").split(), key=int)
    assert out["args"] == "2 first one"
    assert out["here"] == f"{home} 0022 {home}"
    assert "env [two  words\nand 'quotes\" $HOME]" in job.output
    assert out["stdin"] == "at its end"
    assert "to-stderr" in job.error
    made = home / f"made-by-{job.number}"
    assert made.read_text() == "made inside\n"
    assert made.owner() == "griduser"


def test_a_job_without_a_wish_runs_on_the_node(submit: Submit) -> None:
    job = submit(FACTS, image=None).wait()
    assert (job.state, job.exit_code) == ("COMPLETED", "0:0")
    assert f"boot {BOOT_ID}" in job.output
    assert "AdminComment" not in job.show()


def test_the_other_ways_to_wish(submit: Submit) -> None:
    by_constraint = submit(FACTS, f"--constraint=vm_{IMAGE}", image=None)
    by_partition = submit(FACTS, "--partition=grid", image=None)
    for job in (by_constraint, by_partition):
        assert job.wait().state == "COMPLETED", job.error
        assert BOOT_ID not in job.output


def test_other_interpreters_and_wrapped_commands(submit: Submit, home: Path) -> None:
    job = submit("echo opts=$-", interpreter="/bin/bash -u").wait()
    assert "u" in job.output.partition("opts=")[2]
    number = call(
        *["env", f"--chdir={home}", f"WNODES_IMAGE={IMAGE}", "sbatch", "--parsable"],
        *["--output=%j.out", "--error=%j.err", "--wrap=cat /proc/sys/kernel/random/boot_id"],
        user="griduser",
    ).strip()
    wrapped = Job(number, home).wait()
    assert wrapped.state == "COMPLETED"
    assert BOOT_ID not in wrapped.output


def test_an_array_of_four(submit: Submit, home: Path) -> None:
    job = submit(FACTS + "exit $SLURM_ARRAY_TASK_ID", "--array=1-4", "--output=%A_%a.out")
    outputs = [home / f"{job.number}_{task}.out" for task in range(1, 5)]
    wait_until(
        lambda: not call("squeue", "-h", "-j", job.number, check=False).strip(), 180, "array"
    )
    boots = [path.read_text().split("boot ")[1].strip() for path in outputs]
    assert len({*boots, BOOT_ID}) == 5
    codes = sorted(
        line.split("ExitCode=")[1].split()[0]
        for line in call("scontrol", "show", "job", job.number).splitlines()
        if "ExitCode=" in line
    )
    assert codes == ["1:0", "2:0", "3:0", "4:0"]


def test_two_machines_at_once_on_one_node_with_a_plain_job_beside(submit: Submit) -> None:
    sleeper = FACTS + "sleep 600"
    pair = [submit(sleeper, "--nodelist=hv1", "--mem=512") for _ in range(2)]
    for job in pair:
        job.in_state("ready")
    wait_until(lambda: all("boot" in job.output for job in pair), 30, "both scripts run")
    assert {m["node"] for m in machines()} == {"hv1"}
    assert len({m["address"] for m in machines()}) == 2
    pinned = [_pins(job) for job in pair]
    assert sorted(pinned) == [["0"], ["1"]]
    plain = submit("true", "--nodelist=hv1", image=None)
    time.sleep(3)
    assert plain.state == "PENDING"  # both cores are the machines': none is counted twice
    for job in pair:
        job.cancel()
    assert plain.wait().state == "COMPLETED"


def _pins(job: Job) -> list[str]:
    (machine,) = job.machines()
    listing = call("virsh", "vcpupin", str(machine["id"])).splitlines()[2:]
    return [line.split()[1] for line in listing if line.strip()]


def test_a_machine_is_as_large_as_its_allocation(submit: Submit) -> None:
    job = submit(
        "echo cores=$(nproc); grep MemTotal /proc/meminfo", "--cpus-per-task=2", "--mem=640"
    ).wait()
    assert "cores=2" in job.output
    total = int(job.output.split("MemTotal:")[1].split()[0]) // 1024
    assert 400 < total <= 512  # 640 MiB less 128, less the guest kernel's own


def test_cancelled_while_booting(submit: Submit) -> None:
    job = submit("sleep 600")
    job.in_state("booting")
    job.cancel()
    assert job.wait(seconds=30).state == "CANCELLED"


def test_cancelled_while_being_built(submit: Submit) -> None:
    job = submit("sleep 600")
    wait_until(job.machines, 20, "a machine is begun")
    job.cancel()
    assert job.wait(seconds=30).state == "CANCELLED"


def test_cancelled_while_running(submit: Submit) -> None:
    job = submit("trap 'echo got TERM; exit 0' TERM; echo up; while :; do sleep 0.2; done")
    wait_until(lambda: "up" in job.output, 90, "its script runs")
    job.cancel()
    assert job.wait(seconds=40).state == "CANCELLED"
    assert "got TERM" in job.output


@pytest.mark.parametrize("whom", ["--batch", "--full"])
def test_usr1_reaches_the_script(submit: Submit, whom: str) -> None:
    job = submit("trap 'echo got USR1; exit 5' USR1; echo up; while :; do sleep 0.2; done")
    wait_until(lambda: "up" in job.output, 90, "its script runs")
    job.cancel(whom, "--signal=USR1")
    assert job.wait().exit_code == "5:0"
    assert "got USR1" in job.output


def test_death_by_a_signal_passes_through(submit: Submit) -> None:
    killed = submit("kill -KILL $$")
    exited = submit("exit 137")
    assert killed.wait().exit_code == "0:9"
    assert exited.wait().exit_code == "137:0"


def test_the_walltimes_term_reaches_the_script(submit: Submit) -> None:
    job = submit(
        "trap 'echo got TERM; exit 0' TERM; echo up; while :; do sleep 0.2; done", "--time=1"
    )
    assert job.wait("TIMEOUT", seconds=180).state == "TIMEOUT"
    assert "got TERM" in job.output


def test_a_requeued_job_gets_a_new_machine(submit: Submit) -> None:
    job = submit("echo boot $(cat /proc/sys/kernel/random/boot_id); sleep 600")
    first = job.in_state("ready")
    wait_until(lambda: "boot" in job.output, 30, "its script runs")
    call("scontrol", "requeue", job.number)
    wait_until(
        lambda: [m for m in job.machines() if m["id"] != first["id"] and m["state"] == "ready"],
        120,
        "a second machine",
    )
    assert job.machines()[0]["restart"] == 1
    assert len(job.machines()) == 1


def test_an_administrator_sees_what_happened(submit: Submit) -> None:
    job = submit("true").wait()
    shown = call("wnodes", "job", "show", job.number)
    for word in ("requested", "building from", "booting", "ready", "gone"):
        assert word in shown
