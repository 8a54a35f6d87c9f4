"""A job of an ordinary user runs in a machine of its own, made for it and gone after it."""

import platform
import time
from pathlib import Path

import pytest

from contrib.site.box.layout import IMAGE
from tests.e2e.box import BOOT_ID, FACTS, USER, call, machines, wait_until
from tests.e2e.lrms.interface import Job, Submit
from tests.e2e.lrms.systems import LRMS


def test_a_job_runs_in_another_kernel_and_all_of_it_comes_back(submit: Submit, home: Path) -> None:
    job = submit(
        FACTS
        + f"""
echo "who $(id -u):$(id -g):$(id -G | tr ' ' '\\n' | sort -n | tr '\\n' ' ')"
echo "args $# $1"
echo "here $PWD $(umask) $HOME"
echo "env [$ODD] ${LRMS.variable}"
echo to-stderr >&2
read -r line || echo "stdin at its end"
echo made inside > made-by-${LRMS.variable}
exit 7
""",
        env={"ODD": "two  words\nand 'quotes\" $HOME <&>"},
        args=("first one", "second"),
    ).wait()
    assert job.end == "exit 7"
    out = dict(line.split(" ", 1) for line in job.output.splitlines() if " " in line)
    assert out["kernel"] != platform.release()
    assert out["boot"] != BOOT_ID
    uid, gid, groups = out["who"].split(":")
    assert uid == call("id", "-u", USER).strip()
    assert gid == call("id", "-g", USER).strip()
    assert groups.split() == sorted(call("id", "-G", USER).split(), key=int)
    assert out["args"] == "2 first one"
    assert out["here"] == f"{home} 0022 {home}"
    assert f"env [two  words\nand 'quotes\" $HOME <&>] {job.number}\n" in job.output
    assert out["stdin"] == "at its end"
    assert "to-stderr" in job.error
    made = home / f"made-by-{job.number}"
    assert made.read_text() == "made inside\n"
    assert made.owner() == USER
    shown = call("wnodes", "job", "show", job.number)  # by an administrator
    for word in ("requested", "building from", "booting", "ready", "gone"):
        assert word in shown


def test_a_job_without_a_wish_runs_on_the_node(submit: Submit) -> None:
    job = submit(FACTS + 'echo "$0 $1"; exit 3', image=None, args=("an argument",)).wait()
    assert job.end == "exit 3"
    assert f"boot {BOOT_ID}" in job.output
    assert job.output.endswith(f"{LRMS.script.format(job.number)} an argument\n")


def test_the_other_ways_to_wish(submit: Submit) -> None:
    jobs = {
        LRMS.asked_by: submit(FACTS, image=None, resource=IMAGE),
        "default": submit(FACTS, image=None, queue="grid"),
    }
    for by, job in jobs.items():
        assert job.wait().end == "exit 0", job.error
        assert "boot" in job.output
        assert BOOT_ID not in job.output
        assert f"named by {by}" in call("wnodes", "job", "show", job.number)


def test_other_interpreters_and_wrapped_commands(submit: Submit) -> None:
    script = submit("echo opts=$-", interpreter="/bin/bash -u")
    command = submit("echo $(cat /proc/sys/kernel/random/boot_id)", wrapped=True)
    assert "u" in script.wait().output.partition("opts=")[2]
    assert command.wait().end == "exit 0", command.error
    assert len(command.output) == len(BOOT_ID) + 1
    assert BOOT_ID not in command.output


def test_an_array_of_four(submit: Submit) -> None:
    array = submit(FACTS + f"exit ${LRMS.task_variable}", tasks="1-4")
    tasks = [array.of_task(task).wait(seconds=180) for task in range(1, 5)]
    boots = [task.output.split("boot ")[1].strip() for task in tasks]
    assert len({*boots, BOOT_ID}) == 5
    assert [task.end for task in tasks] == ["exit 1", "exit 2", "exit 3", "exit 4"]


def test_two_machines_at_once_on_one_node_with_a_plain_job_beside(submit: Submit) -> None:
    pair = [submit(FACTS + "sleep 600", node="hv1", memory=512) for _ in range(2)]
    for job in pair:
        job.in_state("ready")
        job.says("boot", 30)
    assert {m["node"] for m in machines()} == {"hv1"}
    assert len({m["address"] for m in machines()}) == 2
    assert sorted(map(_cores, pair)) == sorted(LRMS.cores)
    plain = submit("true", node="hv1", image=None)
    time.sleep(4)
    assert plain.state == LRMS.waiting  # both cores are the machines': none is counted twice
    pair[0].cancel()
    assert plain.wait().end == "exit 0"  # beside the other machine
    pair[1].cancel()


def _cores(job: Job) -> str:
    """The node's cores that its only one may run on."""
    (machine,) = job.machines()
    listing = call("virsh", "vcpupin", str(machine["id"])).splitlines()[2:]
    (pin,) = [line.split()[1] for line in listing if line.strip()]
    return pin


def test_a_machine_is_as_large_as_its_allocation(submit: Submit) -> None:
    queues = "echo queues=$(ls -d /sys/class/net/*/queues/rx-* | grep -vc /lo/)"
    scratch = 'cd "$TMPDIR" && echo scratch=$(df -k . | tail -n 1) && touch made && ls -A'
    payload = f"echo cores=$(nproc); {queues}; grep MemTotal /proc/meminfo; {scratch}"
    job = submit(payload, cores=2, memory=640, env={"WNODES_SCRATCH": "1"}).wait()
    assert "cores=2" in job.output
    assert "queues=2" in job.output
    total = int(job.output.split("MemTotal:")[1].split()[0]) // 1024
    assert 400 < total <= 512  # 640 MiB less 128, less the guest kernel's own
    disk = job.output.split("scratch=")[1]
    _device, size, _used, free, *_rest, place = disk.splitlines()[0].split()
    assert place == "/run/wnodes/scratch"
    assert 900 << 10 < int(free) <= int(size) <= 1 << 20
    assert disk.splitlines()[1:] == ["made"]  # and nothing but what the job has there


def test_cancelled_while_being_built(submit: Submit) -> None:
    job = submit("sleep 600")
    wait_until(job.machines, 20, "a machine is begun")
    job.cancel()
    assert job.wait(seconds=30).end == LRMS.cancelled


def test_cancelled_while_booting(submit: Submit) -> None:
    job = submit("sleep 600")
    job.in_state("booting")
    job.cancel()
    assert job.wait(seconds=30).end == LRMS.cancelled
    assert job.output == ""


@pytest.mark.parametrize(
    ("asked", "end"),
    [({}, LRMS.cancelled), ({"short": ""}, LRMS.timeout)],
    ids=["user", "walltime"],
)
def test_a_job_that_is_ended_hears_of_it_first(
    submit: Submit, asked: dict[str, str], end: str
) -> None:
    """Where the batch system tells its jobs."""
    loop = "echo up; while :; do sleep 0.2; done"
    job = submit(f"trap 'echo got TERM; exit 0' TERM; {loop}", **asked).says("up")
    if not asked:
        job.cancel()
    assert job.wait(seconds=180).end == end
    assert job.output == "up\n" + (f"got {LRMS.farewell}\n" if LRMS.farewell else "")


def test_death_by_a_signal_passes_through(submit: Submit) -> None:
    killed, exited = submit("kill -KILL $$"), submit(f"exit {LRMS.exit_code}")
    assert killed.wait().end == "signal 9"
    assert exited.wait().end == f"exit {LRMS.exit_code}"


def test_a_requeued_job_gets_a_new_machine(submit: Submit) -> None:
    job = submit("echo boot $(cat /proc/sys/kernel/random/boot_id); sleep 600")
    first = job.in_state("ready")
    job.says("boot", 30).do("requeue")
    wait_until(
        lambda: [m["state"] for m in job.machines() if m["id"] != first["id"]] == ["ready"],
        120,
        f"a second machine: {job.state} {job.machines()}",
    )
    (again,) = (machine for machine in job.machines() if machine["id"] != first["id"])
    runs = [int(str(machine["restart"])) for machine in (first, again)]
    assert runs[0] < runs[1]
    assert runs == [0, 1] or not LRMS.counts_runs
    job.cancel()
