"""`wnodes cloud` at a bridge that is whole: TLS, users by certificate and token, database, driver.

Only the baits are in memory. Test modules take the fixtures by `cloud = at_a_bridge.cloud`, those
of tests/unit/ca.py and tests/unit/issuers.py in the same way, and bridgefixtures as a plug-in.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from contrib.site.box.ca import proxy
from occi_bridge.driver import driver, watcher
from occi_bridge.identity.authenticator import Authenticator
from occi_bridge.web.app import application
from tests.unit.ca import BASE, VO, Grid, Service
from tests.unit.conftest import eventually
from tests.unit.issuers import LocalIssuer
from tests.unit.occi_bridge.fake_baits import FakeBait, Lrms
from tests.unit.occi_bridge.local_bridge import LocalBridge
from wnodes_lrms.cli import app
from wnodes_lrms.config.load import Grant
from wnodes_lrms.errors import WnodesError

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkXr4dKQm8EqvlKmTkVd0l7mXy8Y1F0hOjPqGvYy5rN me"


@dataclass
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What it has said as JSON."""
        found: list[dict[str, Any]] = json.loads(self.out)
        return found


@dataclass
class Cloud:
    """A user's host, and the service."""

    service: Service
    home: Path
    lrms: Lrms
    baits: list[FakeBait]
    authenticator: Authenticator
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.service.port}"

    def takes_tokens_for(self, audience: str) -> None:
        """Have the service take tokens for this alone."""
        for issuer in self.authenticator._tokens.issuers:
            object.__setattr__(issuer.told, "audiences", (audience,))

    def __call__(self, *words: str, **environment: str) -> Done:
        """Type `wnodes cloud` and these words."""
        given = {**self.environment, **environment}
        done = CliRunner().invoke(app, ["cloud", *words], env=given)
        err = done.stderr
        if isinstance(done.exception, WnodesError):
            return Done(done.exception.exit_status, done.stdout, f"{err}{done.exception}\n")
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return Done(done.exit_code, done.stdout, err)

    def begin(self, *words: str, **environment: str) -> "subprocess.Popen[str]":
        """The same, as a process that goes on."""
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("wnodes")), "cloud", *words],
            env={"PATH": os.environ["PATH"], **self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def good(self, *words: str) -> str:
        """What a command prints that does what it is told."""
        done = self(*words)
        assert done.status == 0, done.err
        return done.out.strip()


@pytest.fixture
def cloud(
    tmp_path: Path,
    grid: Grid,
    issuer: LocalIssuer,
    make_bridge: Callable[..., LocalBridge],
    file_url: str,
    baits: list[FakeBait],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Cloud]:
    """Alice's host; she has a certificate, a proxy, a key, and no more than three VMs."""
    for module, name, seconds in (
        (watcher, "OFTEN", 0.05),
        (watcher, "SELDOM", 0.1),
        (watcher, "SELDOM_LEASES", 0.1),
        (driver, "_PAUSE", 0.01),
        (driver, "_TICK", 0.05),
    ):
        monkeypatch.setattr(module, name, seconds)
    grid.map(f'"{BASE}/CN=Alice" alice')
    (grid.folder / "voms-mapfile").write_text(f'"/{VO}" member\n')
    may = {"grant": (Grant(match="*", machines=3, storage=10),)}
    bridge = make_bridge(file_url, *baits)
    known = Authenticator(issuer.bridge().model_copy(update=may))
    service = Service(application(bridge.service, known), grid)
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id_ed25519.pub").write_text(KEY)
    grid.alice.write(home / "usercert.pem", home / "userkey.pem")
    proxy(grid.alice, key=grid.key).write_bundle(home / "proxy.pem")
    environment = {
        **dict.fromkeys(("BEARER_TOKEN", "BEARER_TOKEN_FILE", "XDG_CONFIG_HOME"), ""),
        "HOME": str(home),
        "WNODES_URL": f"https://localhost:{service.port}",
        "WNODES_CONFIG": str(home / "none.toml"),
        "X509_CERT_DIR": str(grid.certificates),
        "X509_USER_PROXY": str(home / "proxy.pem"),
        "XDG_RUNTIME_DIR": str(home),
    }
    with _driving(bridge):
        yield Cloud(service, home, baits[0].lrms, baits, known, environment)
    service.stop()


class _driving:  # noqa: N801 (a context manager)
    """The bridge's driver, in a thread."""

    def __init__(self, bridge: LocalBridge) -> None:
        self._bridge = bridge
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self._bridge.driving():
            await self._stop.wait()

    def __enter__(self) -> None:
        self._thread.start()
        eventually(lambda: self._bridge.driver)

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)


def interrupt(process: "subprocess.Popen[str]") -> Done:
    """Press Ctrl-C."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return Done(process.returncode, out, err)
