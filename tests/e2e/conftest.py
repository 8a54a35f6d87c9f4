"""The site in a box, as an ordinary user and as its administrator.

`make e2e` brings the site up, runs these tests in its environment and takes it down.
"""

import json
import os
import pwd
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.occi import USERS, Cloud, Key
from wnodes_lrms.images import catalogue
from wnodes_lrms.images.catalogue import Image

USER = "griduser"
IMAGE = "small_debian_x86_64"
NODES = ("hv1", "hv2")
# What a script says of the kernel that it runs in, and this one's own word.
BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
FACTS = """
echo "kernel $(uname -r)"
echo "boot $(cat /proc/sys/kernel/random/boot_id)"
"""
FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}


# The tests in a folder of their own need a site with another batch system.
collect_ignore = [] if "SGE_ROOT" in os.environ else ["gridengine"]

if "WNODES_SITE" not in os.environ:
    pytest.exit("these tests need the site in a box: run `make e2e`", returncode=2)


def call(*argv: str, check: bool = True, user: str | None = None, **options: object) -> str:
    """Standard output of a command, run as root or as a user."""
    who = ["runuser", "-u", user, "--"] if user else []
    done = subprocess.run([*who, *argv], capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload]
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(argv)}: {done.returncode}: {done.stderr}")
    return str(done.stdout)


def wait_until(true: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.2)


@dataclass
class Traces:
    """What a job leaves of itself, whatever its batch system."""

    number: str
    folder: Path

    @property
    def id(self) -> str:
        """As the bait names it."""
        return self.number

    @property
    def output(self) -> str:
        """Its standard output so far."""
        return self._read("out")

    @property
    def error(self) -> str:
        """Its standard error so far."""
        return self._read("err")

    def machines(self) -> list[dict[str, object]]:
        """Its machines, as the administrator sees them."""
        return [m for m in machines() if m["job"] == self.id]

    def in_state(self, state: str, seconds: float = 90) -> dict[str, object]:
        """Wait until its machine is in this state."""
        wait_until(
            lambda: any(m["state"] == state for m in self.machines()),
            seconds,
            f"machine of job {self.id} {state}: {self.machines()} {self.error}",
        )
        return self.machines()[0]

    def _read(self, suffix: str) -> str:
        path = self.folder / f"{self.id}.{suffix}"
        return path.read_text() if path.exists() else ""


@dataclass
class Job(Traces):
    """A submitted job and its files."""

    def show(self) -> str:
        """What Slurm says of it."""
        return call("scontrol", "-d", "show", "job", self.number)

    def field(self, name: str) -> str:
        """One of the fields of `scontrol show job`, up to the line's end for a comment."""
        pattern = rf"\b{name}=(.*)" if name == "Comment" else rf"\b{name}=(\S*)"
        found = re.search(pattern, self.show())
        return found.group(1).strip() if found else ""

    @property
    def state(self) -> str:
        """Slurm's word for its state."""
        return self.field("JobState")

    def wait(self, *states: str, seconds: float = 120) -> "Job":
        """Wait until it is in one of these states, or has ended."""
        wanted = set(states) or FINAL
        wait_until(lambda: self.state in wanted, seconds, f"{wanted}: {self.show()}{self.error}")
        return self

    @property
    def exit_code(self) -> str:
        """Slurm's "exit code:signal"."""
        return self.field("ExitCode")

    def cancel(self, *options: str) -> None:
        """scancel, as its owner."""
        call("scancel", *options, self.number, user=USER)


def machines() -> list[dict[str, object]]:
    """`wnodes vm list --json`."""
    found: list[dict[str, object]] = json.loads(call("wnodes", "vm", "list", "--json"))
    return found


@pytest.fixture
def home() -> Path:
    """The user's home: seen by machines from trusted images."""
    return Path(pwd.getpwnam(USER).pw_dir)


def script_in(home: Path, text: str, interpreter: str) -> Path:
    """A script of the user's, that can be run."""
    path = home / f"script-{time.monotonic_ns()}.sh"
    path.write_text(f"#!{interpreter}\n{text}\n")
    path.chmod(0o755)
    return path


Submit = Callable[..., Job]


@pytest.fixture
def submit(home: Path) -> Iterator[Submit]:
    """Submit a script as the ordinary user; what still runs at the end is cancelled."""
    jobs: list[Job] = []

    def _submit(
        script: str,
        *options: str,
        image: str | None = IMAGE,
        env: Mapping[str, str] | None = None,
        folder: Path = home,
        args: tuple[str, ...] = (),
        interpreter: str = "/bin/bash",
    ) -> Job:
        path = script_in(home, script, interpreter)
        wish = {"WNODES_IMAGE": image} if image else {}
        words = [f"{key}={value}" for key, value in {**wish, **(env or {})}.items()]
        number = call(
            *["env", f"--chdir={folder}", *words, "sbatch", "--parsable"],
            *["--output=%j.out", "--error=%j.err", *options, str(path), *args],
            user=USER,
        ).strip()
        jobs.append(Job(number, folder))
        return jobs[-1]

    yield _submit
    for job in jobs:
        call("scancel", job.number, check=False)


def refused(*options: str, image: str | None = None, script: str = "#!/bin/bash\ntrue\n") -> str:
    """What sbatch says of a job that it must not take."""
    environment = os.environ | ({"WNODES_IMAGE": image} if image else {})
    done = subprocess.run(
        ["runuser", "-u", USER, "--", "sbatch", "--chdir=/", "--output=/dev/null", *options],
        input=script,
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert done.returncode != 0, done.stdout
    return done.stderr


@dataclass(frozen=True)
class Daemons:
    """The site's processes, for the tests that break them."""

    root: Path

    def pid(self, name: str) -> int:
        """The recorded pid of a part of the site."""
        parts = json.loads(call(str(SITE), "status", "--json", check=False))
        return int(next(part["pid"] for part in parts if part["name"] == name))

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """The part hangs while this lasts."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @contextmanager
    def down(self, name: str) -> Iterator[None]:
        """The part is killed, and brought up again at the end."""
        os.kill(self.pid(name), signal.SIGKILL)
        try:
            yield
        finally:
            self.up()

    def up(self) -> None:
        """Bring up what is down."""
        call(str(SITE), "up")


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    """The cloud users' SSH key."""
    return Key.make(tmp_path_factory.mktemp("ssh"))


@pytest.fixture
def alice() -> Iterator[Cloud]:
    """A cloud user with a VOMS proxy; what she has at the end is deleted."""
    yield from _user(USERS / "alice" / "vomsproxy.pem")


@pytest.fixture
def bob() -> Iterator[Cloud]:
    """A cloud user with a plain proxy, who may have less."""
    yield from _user(USERS / "bob" / "proxy.pem")


def _user(proxy: Path) -> Iterator[Cloud]:
    cloud = Cloud(proxy)
    yield cloud
    cloud.delete_all()


def leases() -> list[str]:
    """The numbers of the lease jobs that Slurm has."""
    lines = call("squeue", "--noheader", "--format=%i %j").splitlines()
    return [line.split()[0] for line in lines if line.split()[1].startswith("wnodes-lease-")]


def the_lease() -> Job:
    """The only lease job that there is."""
    wait_until(lambda: len(leases()) == 1, 30, f"one lease, but: {leases()}")
    return Job(leases()[0], Path("/"))


SITE = Path(__file__).parents[2] / "contrib" / "site" / "site"


@pytest.fixture
def daemons() -> Daemons:
    """The site's processes."""
    return Daemons(Path(os.environ["WNODES_SITE"]))


def remains() -> list[str]:
    """Whatever of a machine is still on this site, beside its job, in words."""
    root = Path(os.environ["WNODES_SITE"])
    found = [f"ledger row {m['id']} {m['state']}" for m in machines()]
    found += [f"domain {name}" for name in call("virsh", "list", "--all", "--name").split()]
    for folder in root.glob("*/hv[12]/machines/*"):
        found.append(f"files {folder}")
    for pattern in ("spool/volumes/*", "spool/saved/*"):
        found += [f"files {path}" for path in root.glob(pattern)]
    for bridge in ("wn-box-hv1", "wn-box-hv2"):
        taps = Path(f"/sys/class/net/{bridge}/brif")
        found += [f"tap {tap.name}" for tap in taps.glob("*")]
    found += [f"tunnel {device.name}" for device in Path("/sys/class/net").glob("wx*")]
    networks = set(call("virsh", "net-list", "--all", "--name").split())
    return found + [f"network {name}" for name in networks - {"box-hv1", "box-hv2"}]


def leftovers() -> list[str]:
    """The same, and every job."""
    jobs = call("squeue", "--noheader", "--format=%i %t")
    return remains() + [f"job {line}" for line in jobs.splitlines()]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """After each test: no job, domain, file, tap or ledger row, and both nodes take jobs."""
    yield
    wait_until(lambda: not leftovers(), 60, f"nothing left, but: {leftovers()}")
    wait_until(_all_idle, 15, "both nodes idle")


def _all_idle() -> bool:
    states = call("sinfo", "--noheader", "--Node", "--format=%N %t").split("\n")
    return {tuple(line.split()) for line in states if line} == {(node, "idle") for node in NODES}


CATALOGUE = Path(os.environ.get("WNODES_SITE", "")) / "etc" / "images"
GOOD = catalogue.read(CATALOGUE, IMAGE)


@contextmanager
def variant(tag: str, **changes: object) -> Iterator[str]:
    """A variant of the good image in the catalogue while this lasts."""
    catalogue.write(CATALOGUE, Image.model_validate(GOOD.model_dump() | {"tag": tag} | changes))
    call("wnodes", "hooks", "install")
    try:
        yield tag
    finally:
        call("wnodes", "image", "remove", tag)
