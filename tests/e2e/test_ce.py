"""Through a computing element: jobs that come in by ARC, which knows of machines by name only.

`make e2e-ce` brings the site up with the CE. Jobs are sent with ARC's own tools; what ends at once
is read in ARC's job log, because what its service tells clients is up to a minute old.
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from contrib.site.box.layout import IMAGE
from tests.e2e.box import CATALOGUE, GOOD, call, machines, wait_until
from tests.e2e.occi import USERS
from wnodes_lrms.images import catalogue

URL = os.environ.get("WNODES_CE", "")
ROOT = Path(os.environ["WNODES_SITE"])
OFFER = Path(__file__).parents[2] / "contrib" / "ce" / "arc" / "offer"
BOOT = Path("/proc/sys/kernel/random/boot_id")
SCRIPT = f"""#!/bin/bash
cat {BOOT}
id -un
echo "to standard error" >&2
{{ cat input; echo "and a line more"; }} >output
exit "$1"
"""
INPUT = "".join(f"line {number}\n" for number in range(5000))


@dataclass(frozen=True)
class GridJob:
    """A job that a grid user has sent, and the folder that it was sent from."""

    folder: Path
    proxy: Path

    def arc(self, *argv: str, check: bool = True) -> str:
        """What one of ARC's client tools says, on both streams."""
        # Without the token that a user of the site has: these tools would show it, not the proxy.
        tokenless = {k: v for k, v in os.environ.items() if k != "BEARER_TOKEN_FILE"}
        done = subprocess.run(
            argv,
            cwd=self.folder,
            env=tokenless | {"HOME": str(self.folder), "X509_USER_PROXY": str(self.proxy)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        assert not check or done.returncode == 0, done.stdout
        return done.stdout

    def send(self, script: str, *words: str, check: bool = True) -> str:
        """Submit a script, with its input, and more of a description; what arcsub says."""
        (self.folder / "job.sh").write_text(script)
        (self.folder / "input").write_text(INPUT)
        description = (
            '&(executable="job.sh")(inputFiles=("job.sh" "")("input" ""))'
            '(outputFiles=("output" ""))(stdout="out")(stderr="err")(gmlog="log")'
        )
        (self.folder / "job.xrsl").write_text(description + "".join(words))
        target = ["--computing-element", URL, "--submission-endpoint-type", "arcrest"]
        return self.arc("arcsub", "--debug", "VERBOSE", *target, "job.xrsl", check=check)

    @property
    def number(self) -> str:
        """The last part of its name, by which A-REX's own files know it."""
        listed = self.arc("arcstat", "--all")
        return next(line for line in listed.splitlines() if line.startswith("Job:")).split("/")[-1]

    def wait(self, seconds: float = 240) -> None:
        """Wait until A-REX has done with it."""
        end = f"Finished - job id: {self.number},"
        wait_until(lambda: end in _job_log(), seconds, f"{end} in {_job_log()}")

    @property
    def said(self) -> str:
        """What A-REX has published of the job."""
        return self.arc("arcstat", "--all", "--long")

    def fetch(self) -> Path:
        """Its output, as arcget stores it; the job is gone from the CE then."""
        self.arc("arcget", "--all", "--dir", "fetched")
        return next((self.folder / "fetched").iterdir())


def publish() -> None:
    """Have A-REX's own program publish the states of jobs, which it does once a minute."""
    config = ROOT / "run" / "arc" / "arex.cfg"
    call("perl", "/usr/share/arc/CEinfo.pl", "--splitjobs", "--config", str(config))


def _job_log() -> str:
    return (ROOT / "log" / "arex-jobs.log").read_text()


def _in(image: str) -> str:
    return f'(runtimeEnvironment="ENV/VM/{image}")'


@pytest.fixture(scope="module")
def made_proxy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A proxy that ARC's own tool has made, of a user without a VO."""
    path = tmp_path_factory.mktemp("proxy") / "proxy"
    user = USERS / "bob"
    call(
        *("arcproxy", "--proxy", str(path), "--cert", str(user / "usercert.pem")),
        *("--key", str(user / "userkey.pem")),
    )
    return path


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, made_proxy: Path
) -> dict[str, tuple[str, Path]]:
    """Three jobs that ran side by side: what A-REX says of each, and the folder of its output."""
    voms_proxy = USERS / "alice" / "vomsproxy.pem"
    asked = {
        "inside": (voms_proxy, "0", _in(IMAGE)),
        "failing": (made_proxy, "3", _in(IMAGE)),
        "plain": (voms_proxy, "0", ""),
    }
    jobs = {}
    for name, (proxy, code, more) in asked.items():
        jobs[name] = GridJob(tmp_path_factory.mktemp(name), proxy)
        jobs[name].send(SCRIPT, f'(arguments="{code}")', more)
    for job in jobs.values():
        job.wait()
    publish()
    return {name: (job.said, job.fetch()) for name, job in jobs.items()}


@pytest.fixture
def job(tmp_path: Path) -> Iterator[GridJob]:
    """A job to be; whatever is left of it at the end is killed."""
    new = GridJob(tmp_path, USERS / "alice" / "vomsproxy.pem")
    yield new
    new.arc("arckill", "--all", check=False)


def _fetched(folder: Path) -> None:
    """The output is the input and a line more, made by the mapped user."""
    assert (folder / "output").read_text() == INPUT + "and a line more\n"
    assert (folder / "out").read_text().split()[1] == "griduser"
    assert (folder / "err").read_text() == "to standard error\n"


def test_a_job_runs_in_a_machine(finished: dict[str, tuple[str, Path]]) -> None:
    """Asked for by runtime environment, in a machine of its own, with its files."""
    said, folder = finished["inside"]
    assert "State: Finished" in said
    assert "Exit Code: 0" in said
    assert (folder / "out").read_text().split()[0] != BOOT.read_text().strip()
    _fetched(folder)


def test_an_exit_code_comes_through(finished: dict[str, tuple[str, Path]]) -> None:
    """The job failed, with the code that the script in the machine gave, and its output came."""
    said, folder = finished["failing"]
    assert "State: Failed" in said
    assert "Exit Code: 3" in said
    assert (folder / "out").read_text().split()[0] != BOOT.read_text().strip()
    _fetched(folder)


def test_a_plain_job_runs_on_the_node(finished: dict[str, tuple[str, Path]]) -> None:
    """Nothing has changed for it."""
    said, folder = finished["plain"]
    assert "State: Finished" in said
    assert "Exit Code: 0" in said
    assert (folder / "out").read_text().split()[0] == BOOT.read_text().strip()
    _fetched(folder)


def test_an_image_that_is_not_offered(job: GridJob) -> None:
    """ARC's client knows what the CE offers, and sends nothing."""
    said = job.send(SCRIPT, '(arguments="0")', _in("nothing_debian_x86_64"), check=False)
    assert "RunTimeEnvironment requirements not satisfied" in said
    assert "Job submitted" not in said


def test_an_image_that_is_offered_no_more(job: GridJob) -> None:
    """Where the CE lags behind the catalogue, Slurm refuses, and the user can read why."""
    call("wnodes", "image", "remove", IMAGE)
    try:
        job.send(SCRIPT, '(arguments="0")', _in(IMAGE))
        job.wait()
    finally:
        catalogue.write(CATALOGUE, GOOD)
        call("wnodes", "hooks", "install")
    publish()
    assert "State: Failed" in job.said
    assert "Job submission to LRMS failed" in job.said
    assert f"wnodes: no image {IMAGE} here" in job.arc("arccat", "--joblog", "--all")


def test_what_is_offered_follows_the_catalogue() -> None:
    """`offer` adds and takes away images, and leaves other runtime environments alone."""

    def offer(*tags: str) -> set[str]:
        call(str(OFFER), str(ROOT / "etc" / "arc" / "rte"), *tags)
        listed = call("arcctl", "--config", os.environ["ARC_CONFIG"], "rte", "list", "--enabled")
        return set(listed.split())

    call("arcctl", "--config", os.environ["ARC_CONFIG"], "rte", "enable", "ENV/PROXY")
    mine, more = f"ENV/VM/{IMAGE}", "ENV/VM/a.b-c_d_e"
    try:
        assert offer(IMAGE, "a.b-c_d_e") == {"ENV/PROXY", mine, more}
        assert offer(IMAGE) == {"ENV/PROXY", mine}
        assert {path.name for path in (ROOT / "etc/arc/rte/ENV/VM").iterdir()} == {IMAGE}
        with pytest.raises(AssertionError, match="«A_b_c» is not of the form"):
            offer(IMAGE, "A_b_c")
    finally:
        call("arcctl", "--config", os.environ["ARC_CONFIG"], "rte", "disable", "ENV/PROXY")


def test_a_killed_job(job: GridJob) -> None:
    """arckill ends the job, and with it the machine."""
    job.send("#!/bin/bash\nsleep 600\n", _in(IMAGE))
    wait_until(lambda: any(m["state"] == "ready" for m in machines()), 180, "a VM")
    (vm,) = machines()
    job.arc("arckill", "--all")
    wait_until(lambda: not machines(), 60, "no VM")
    asked = ("sacct", "--allocations", "--noheader", "--format=state", f"--jobs={vm['job']}")
    wait_until(lambda: "CANCELLED" in call(*asked), 30, "it is booked so")  # which is told later
    job.wait()
    publish()
    assert "State: Killed" in job.said
