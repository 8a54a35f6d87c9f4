"""What the tests are given: users, who can submit jobs and have VMs, and the site's processes. Each
finds an empty site, and must leave one.
"""

import pwd
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from contrib.site.box.layout import IMAGE
from tests.chaos.site import Box
from tests.e2e.box import USER, remains, wait_until, wait_until_none
from tests.e2e.lrms.interface import Job, Submit
from tests.e2e.lrms.systems import LRMS, NAME, SYSTEMS
from tests.e2e.occi import USERS, Cloud, Key

# The tests of another batch system than this site's.
collect_ignore = [name for name in SYSTEMS if name != NAME]


def pytest_addoption(parser: pytest.Parser) -> None:
    """An image for the twins of tests/e2e/twin.py: see `make twin`."""
    parser.addoption("--twin-image", metavar="IMAGE", help="a tag, or the file of a catalogue")


@pytest.fixture
def home() -> Path:
    """The user's home: seen by machines from trusted images."""
    return Path(pwd.getpwnam(USER).pw_dir)


@pytest.fixture
def submit(home: Path) -> Iterator[Submit]:
    """Submit a script, or a line of shell, as the ordinary user: with options of the batch system,
    or with what is asked for (`System.options`). What still runs at the end is cancelled."""
    jobs: list[Job] = []

    def _submit(
        script: str,
        *options: str,
        image: str | None = IMAGE,
        env: Mapping[str, str] | None = None,
        folder: Path = home,
        args: tuple[str, ...] = (),
        interpreter: str = "/bin/bash",
        wrapped: bool = False,
        **asked: object,
    ) -> Job:
        what = LRMS.command(script) if wrapped else [_script(home, script, interpreter)]
        variables = {**({"WNODES_IMAGE": image} if image else {}), **(env or {})}
        said = [*LRMS.options(**asked), *options]
        jobs.append(LRMS.submit([*what, *args], said, variables, folder))
        return jobs[-1]

    yield _submit
    for job in jobs:
        job.cancel()


def _script(home: Path, text: str, interpreter: str) -> str:
    path = home / f"script-{time.monotonic_ns()}.sh"
    path.write_text(f"#!{interpreter}\n{text}\n")
    path.chmod(0o755)
    return str(path)


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


@pytest.fixture
def daemons() -> Box:
    """The site's processes."""
    return Box()


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """After each test: no job, domain, file, tap or ledger row, and all nodes take jobs."""
    yield

    wait_until_none(lambda: remains() + LRMS.unfinished(), 60)
    wait_until(lambda: LRMS.states() == LRMS.at_rest, 15, "all nodes at rest")
