"""What Grid Engine alone has for jobs, their refusals and their ends."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contrib.site.box.layout import IMAGE
from tests.chaos.site import Box
from tests.e2e.batch.test_failures import held
from tests.e2e.box import BOOT_ID, FACTS, USER, call, wait_until
from tests.e2e.lrms.gridengine import Submit, queues
from tests.e2e.lrms.systems import LRMS


@pytest.mark.parametrize("image", [None, IMAGE])
def test_commands(submit: Submit, image: str | None) -> None:
    """In its shell's place, or without one, a command is the same in a VM."""
    shell = submit("echo $(cat /proc/sys/kernel/random/boot_id)", image=image, wrapped=True)
    direct = submit(
        *("/bin/echo", "-shell", "n"), image=image, args=("a  b", "$HOME"), wrapped=True
    )
    assert shell.wait().end == "exit 0", shell.error
    assert len(shell.output) == len(BOOT_ID) + 1
    assert (BOOT_ID in shell.output) == (image is None)
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


def test_memory_is_not_counted_twice(submit: Submit) -> None:
    large = submit(FACTS + "sleep 600", node="hv1", memory=3072).says("boot")
    plain = submit("true", node="hv1", memory=2048, image=None)
    time.sleep(4)
    assert plain.state == LRMS.waiting
    large.cancel()
    assert plain.wait().end == "exit 0"


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
    assert job.end == "exit 0", job.error
    seen = home / "trapped"
    assert not seen.exists() or "0" not in seen.read_text().split()


def test_an_administrator_drains_and_resumes_a_host(submit: Submit) -> None:
    call("qmod", "-d", "grid@hv1")  # by somebody else
    try:
        call("wnodes", "host", "drain", "--reason", "a test", "--node", "hv1")
        wait_until(lambda: queues()["main@hv1"] == "d", 10, f"disabled: {queues()}")
        job = submit("hostname", image=None).wait()
        assert job.end == "exit 0"
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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-l", "vm=nosuch_linux_x86_64"), "no image nosuch_linux_x86_64"),
        (("-soft", "-l", f"vm={IMAGE}", "-hard"), "-soft"),
        (("-N", "wnodes-lease-imitation"), "those of leases"),
    ],
)
def test_what_cannot_work_is_refused_at_submission(options: tuple[str, ...], words: str) -> None:
    said = LRMS.refused(*options)
    assert "wnodes: " in said
    assert words in said


def test_an_array_task_is_held_alone(submit: Submit) -> None:
    job = submit("echo ran", tasks="1-2", memory=150)
    for task in (1, 2):
        held(job.of_task(task), "150 MiB")
    job.cancel()


def test_no_image_can_be_named_after_submission(submit: Submit) -> None:
    """Grid Engine allows few changes where there is a verifier: jsv_allowed_mod."""
    job = submit("true", image=None, held="")
    call("qalter", "-l", f"vm={IMAGE}", job.number, user=USER, check=False)
    assert IMAGE not in call("qstat", "-j", job.number)
    job.cancel()


def test_the_qmaster_hangs_while_a_job_runs(submit: Submit, daemons: Box) -> None:
    job = submit("echo up; sleep 15; echo ran").says("up")
    with daemons.frozen(LRMS.controller):
        wait_until(lambda: "ran" in job.output, 60, "it runs to its end")
        assert call("wnodes", "vm", "list")  # nothing is concluded from silence
    assert job.wait().end == "exit 0"
