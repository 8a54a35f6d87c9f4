"""A job of an ordinary user runs in a machine of its own, made for it and gone after it."""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import BOOT_ID, FACTS, IMAGE, USER, call, wait_until
from tests.e2e.gridengine.conftest import Job, Submit, queues, states

ON_HV1 = ("-q", "main@hv1")


def test_a_job_runs_in_another_kernel_and_all_of_it_comes_back(submit: Submit, home: Path) -> None:
    job = submit(
        FACTS
        + """
echo "who $(id -u):$(id -g)"
echo "args $# $1"
echo "here $PWD $(umask) $HOME"
echo "env [$ODD] $JOB_ID"
echo to-stderr >&2
read -r line || echo "stdin at its end"
echo made inside > made-by-$JOB_ID
exit 7
""",
        env={"ODD": "two  words and 'quotes\" $HOME <&>"},
        args=("first one", "second"),
    ).wait()
    assert job.exit_code == 7
    out = dict(line.split(" ", 1) for line in job.output.splitlines() if " " in line)
    assert out["kernel"] != platform.release()
    assert out["boot"] != BOOT_ID
    assert out["who"] == f"{call('id', '-u', USER).strip()}:{call('id', '-g', USER).strip()}"
    assert out["args"] == "2 first one"
    assert out["here"] == f"{home} 0022 {home}"
    assert out["env"] == f"[two  words and 'quotes\" $HOME <&>] {job.number}"
    assert out["stdin"] == "at its end"
    assert "to-stderr" in job.error
    made = home / f"made-by-{job.number}"
    assert made.read_text() == "made inside\n"
    assert made.owner() == USER


def test_a_job_without_a_wish_runs_on_the_node(submit: Submit) -> None:
    script = submit(FACTS + 'echo "$0 $1"; exit 3', image=None, args=("an argument",))
    by_shell = submit("", "-b", "y", "echo $(cat /proc/sys/kernel/random/boot_id)", image=None)
    direct = submit(
        *("", "-b", "y", "-shell", "n", "/bin/echo"), image=None, args=("a  b", "$HOME")
    )
    assert script.wait().exit_code == 3
    assert f"boot {BOOT_ID}" in script.output
    assert script.output.endswith(f"job_scripts/{script.number} an argument\n")
    assert by_shell.wait().output == f"{BOOT_ID}\n"
    assert direct.wait().output == "a  b $HOME\n"


def test_the_other_ways_to_wish(submit: Submit) -> None:
    by_resource = submit(FACTS, "-l", f"vm={IMAGE}", image=None)
    by_queue = submit(FACTS, "-q", "grid", image=None)
    for job in (by_resource, by_queue):
        assert job.wait().exit_code == 0, job.error
        assert "boot" in job.output
        assert BOOT_ID not in job.output
    asked = [call("wnodes", "job", "show", job.number) for job in (by_resource, by_queue)]
    assert "named by resource" in asked[0]
    assert "named by default" in asked[1]


def test_commands(submit: Submit) -> None:
    shell = submit("", "-b", "y", "echo $(cat /proc/sys/kernel/random/boot_id)")
    direct = submit("", "-b", "y", "-shell", "n", "/bin/echo", args=("a  b", "$HOME"))
    assert shell.wait().exit_code == 0, shell.error
    assert len(shell.output) == len(BOOT_ID) + 1
    assert BOOT_ID not in shell.output
    assert direct.wait().output == "a  b $HOME\n"


def test_a_job_that_drmaa_submits(home: Path) -> None:
    output = home / f"by-drmaa-{time.monotonic_ns()}"
    code = (
        "import drmaa; s = drmaa.Session(); s.initialize(); t = s.createJobTemplate();"
        "t.remoteCommand = '/bin/cat'; t.args = ['/proc/sys/kernel/random/boot_id'];"
        f"t.nativeSpecification = '-l vm={IMAGE}'; t.outputPath = ':{output}';"
        "i = s.wait(s.runJob(t), 100); print(i.exitStatus); s.exit()"
    )
    library = {
        "DRMAA_LIBRARY_PATH": "/usr/lib/gridengine-drmaa/lib/libdrmaa.so.1.0",
        "GLIBC_TUNABLES": "glibc.rtld.optional_static_tls=4096",
    }
    said = call(sys.executable, "-c", code, user=USER, env=os.environ | library, cwd=str(home))
    assert said == "0\n"
    boot = output.read_text()
    assert len(boot) == len(BOOT_ID) + 1
    assert BOOT_ID not in boot


def test_an_array_of_four(submit: Submit, home: Path) -> None:
    number = submit(FACTS + "exit $SGE_TASK_ID", "-t", "1-4").number
    tasks = [Job(number, home, str(task)) for task in range(1, 5)]
    for task in tasks:
        task.wait()
    boots = [task.output.split("boot ")[1].strip() for task in tasks]
    assert len({*boots, BOOT_ID}) == 5
    assert [task.exit_code for task in tasks] == [1, 2, 3, 4]


def test_two_machines_at_once_on_one_node_with_a_plain_job_beside(submit: Submit) -> None:
    pair = [submit(FACTS + "sleep 600", *ON_HV1, "-l", "mem_free=512M") for _ in range(2)]
    for job in pair:
        job.says("boot")
    assert {machine["node"] for job in pair for machine in job.machines()} == {"hv1"}
    assert len({machine["address"] for job in pair for machine in job.machines()}) == 2
    plain = submit("true", *ON_HV1, image=None)
    time.sleep(4)
    assert plain.state == "qw"  # both slots are the machines': none is counted twice
    pair[0].cancel()
    assert plain.wait().exit_code == 0  # beside the other machine
    pair[1].cancel()


def test_memory_is_not_counted_twice(submit: Submit) -> None:
    large = submit(FACTS + "sleep 600", *ON_HV1, "-l", "mem_free=3G").says("boot")
    plain = submit("true", *ON_HV1, "-l", "mem_free=2G", image=None)
    time.sleep(4)
    assert plain.state == "qw"
    large.cancel()
    assert plain.wait().exit_code == 0


def test_a_machine_is_as_large_as_its_allocation(submit: Submit) -> None:
    job = submit(
        *("echo cores=$(nproc); grep MemTotal /proc/meminfo", "-pe", "smp", "2"),
        *("-l", "mem_free=320M"),
    ).wait()
    assert "cores=2" in job.output
    total = int(job.output.split("MemTotal:")[1].split()[0]) // 1024
    assert 400 < total <= 512  # 640 MiB less 128, less the guest kernel's own


def test_cancelled_while_booting(submit: Submit) -> None:
    job = submit("sleep 600")
    job.in_state("booting")
    job.cancel()
    assert job.wait(30).output == ""


def test_cancelled_while_running(submit: Submit) -> None:
    job = submit("echo up; sleep 600").says("up")
    job.cancel()
    assert job.wait(30).exit_code == 137


@pytest.mark.parametrize(("way", "word"), [("-notify", "USR2"), ("s_rt", "USR1")])
def test_a_warning_reaches_the_script(submit: Submit, way: str, word: str) -> None:
    """USR2 some time before a deleted job is killed, USR1 when its soft walltime is over."""
    options = ("-notify",) if way == "-notify" else ("-l", "s_rt=15,h_rt=600")
    job = submit(
        f"trap 'echo got {word}; exit 5' {word}; echo up; while :; do sleep 0.2; done", *options
    ).says("up")
    if way == "-notify":
        job.cancel()
    assert f"got {word}" in job.wait().output


def test_death_by_a_signal_passes_through(submit: Submit) -> None:
    killed, exited = submit("kill -KILL $$"), submit("exit 37")
    assert killed.wait().exit_code == 137
    assert exited.wait().exit_code == 37


def test_the_walltimes_end_ends_the_machine(submit: Submit) -> None:
    job = submit("echo up; sleep 600", "-l", "h_rt=20")
    job.says("up")
    assert job.wait(60).exit_code == 137


def test_a_suspended_jobs_vm_stands_still_and_goes_on(submit: Submit, home: Path) -> None:
    counts = "n=0; until [ -e end-$JOB_ID ]; do n=$((n+1)); echo $n; sleep 0.2; done; echo ran"
    job = submit(counts).says("3\n")
    machine = job.in_state("ready")["id"]
    call("qmod", "-sj", job.number)
    job.in_state("paused", 30)
    wait_until(lambda: call("virsh", "domstate", str(machine)).strip() == "paused", 10, "paused")
    before = job.output
    time.sleep(3)
    assert job.output == before
    call("qmod", "-usj", job.number)
    wait_until(lambda: job.output != before, 30, "it counts on")
    (home / f"end-{job.number}").touch()
    *numbers, ran = job.wait().output.split()
    assert [*map(int, numbers)] == list(range(1, len(numbers) + 1))
    assert (ran, job.exit_code) == ("ran", 0)


def test_a_rescheduled_job_gets_a_new_machine(submit: Submit) -> None:
    job = submit("echo boot $(cat /proc/sys/kernel/random/boot_id); sleep 600").says("boot")
    first = job.machines()[0]
    call("qmod", "-rj", job.number)
    wait_until(
        lambda: [m for m in job.machines() if m["id"] != first["id"] and m["state"] == "ready"],
        120,
        f"a second machine: {states()} {job.machines()}",
    )
    job.cancel()


def test_what_a_user_sets_does_not_reach_root(submit: Submit, home: Path) -> None:
    """His PATH and Python's variables do; none of what is there is run or read."""
    trap = home / "trap"
    trap.mkdir(exist_ok=True)
    for name in ("python3", "env", "sh", "id"):
        (trap / name).write_text(f"#!/bin/sh\n/usr/bin/id -u >>{home}/trapped\n")
        (trap / name).chmod(0o755)
    (trap / "json.py").write_text(f"open('{home}/trapped', 'a').write('python')\n")
    names = ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LOCPATH")
    own = dict.fromkeys(names, str(trap)) | {"PATH": f"{trap}:/usr/bin:/bin"}
    job = submit("true", env=own).wait()
    assert job.exit_code == 0, job.error
    seen = home / "trapped"
    assert not seen.exists() or "0" not in seen.read_text().split()


def test_an_administrator_drains_and_resumes_a_host(submit: Submit) -> None:
    call("qmod", "-d", "grid@hv1")  # by somebody else
    try:
        call("wnodes", "host", "drain", "--reason", "a test", "--node", "hv1")
        wait_until(lambda: queues()["main@hv1"] == "d", 10, f"disabled: {queues()}")
        job = submit("hostname", image=None).wait()
        assert job.exit_code == 0
        call("wnodes", "host", "resume", "--node", "hv1")
        wait_until(lambda: queues()["main@hv1"] == "", 10, f"enabled: {queues()}")
        assert queues()["grid@hv1"] == "d"
    finally:
        call("qmod", "-e", "*@hv1", check=False)


def test_the_hooks_are_as_they_should_be() -> None:
    assert "as they should be" in call("wnodes", "hooks", "install", "--check")
    done = subprocess.run(
        ["wnodes", "hooks", "remove"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "qconf -mattr queue starter_method NONE main" in done.stderr
