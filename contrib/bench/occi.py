"""What the bridge answers in how long, against pyssf, a plain OCCI server, on the same machine.

The bridge is one of its own, with the site's certificates and a user's VOMS proxy, over TLS; its
baits are stand-ins in memory, for two thousand machines are more than any one machine bears. pyssf
speaks plain HTTP, knows no users and keeps all in memory.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import tomli_w

from contrib.bench.load import Credential, get
from contrib.bench.site import wait_until
from tests.unit.occi_bridge.fake_baits import FakeBait, Lrms
from wnodes_lrms.config import load as configuration
from wnodes_lrms.tls.client import trusting

_SECONDS = 8.0  # of each run
_ROUNDS = 3
_PAIRS, _MOMENT = 15, 1.5  # short runs in turns, and their seconds: a busy moment hits both
_CONNECTIONS = 4
_COMPUTE = 'Category: compute; scheme="http://schemas.ogf.org/occi/infrastructure#"\n'
_SIZE = "X-OCCI-Attribute: occi.compute.cores=1, occi.compute.memory=0.25\n"
_PYSSF = Path("build/pyssf")  # by contrib/bench/install-peers


def reads() -> dict[str, list[float]]:
    """Requests a second and the 99th percentile in ms, by number of machines and server."""
    samples: dict[str, list[float]] = {}
    who = Credential(os.environ["X509_USER_PROXY"], os.environ["X509_CERT_DIR"])
    for count in (20, 2000):
        with _pyssf() as plain, bridge() as served:
            url, created = served.url, Created(served.url)
            _fill_pyssf(plain, count)
            samples.setdefault(f"POST to 201, ms, up to {count}", []).extend(created(count))
            for _ in range(_ROUNDS):
                for name, base, credential in (("pyssf", plain, None), ("bridge", url, who)):
                    for path in ("/-/", "/compute/"):
                        run = get(base + path, _SECONDS, _CONNECTIONS, credential)
                        label = f"{name}, {path} with {count}"
                        samples.setdefault(f"{label}: GETs a second", []).append(run.rate)
                        p99 = run.percentile(0.99) * 1000
                        samples.setdefault(f"{label}: p99, ms", []).append(p99)
    return samples


def tokens() -> dict[str, list[float]]:
    """Requests a second by token and by certificate, in turns, with the VMs of neither.

    The site's user with a token and the one with a proxy have the same rights on this bridge.
    """
    samples: dict[str, list[float]] = {}
    ca_dir = os.environ["X509_CERT_DIR"]
    token = Path(os.environ["BEARER_TOKEN_FILE"]).read_text()
    by = {
        "certificate": Credential(os.environ["X509_USER_PROXY"], ca_dir),
        "token": Credential("", ca_dir, token),
    }
    with bridge() as served:
        for _ in range(_PAIRS):
            for path in ("/-/", "/compute/"):
                for name, who in by.items():
                    run = get(served.url + path, _MOMENT, _CONNECTIONS, who)
                    samples.setdefault(f"{name}, {path}", []).append(run.rate)
    for path in ("/-/", "/compute/"):
        pairs = zip(samples[f"token, {path}"], samples[f"certificate, {path}"], strict=True)
        samples[f"token / certificate, {path}"] = [one / other for one, other in pairs]
    return samples


@dataclass(frozen=True)
class Served:
    """A bridge: the URLs of its service and its page, and its database's."""

    url: str
    page: str
    database: str


@contextmanager
def bridge() -> Iterator[Served]:
    """A bridge on its own database."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = configuration.path_in_use()
        tables = tomllib.loads(path.read_text())
        public = Path(tables["api"]["order_keys"][0]).read_text()
        baits = [FakeBait("hv1", Lrms(public))]
        port = _free_port()
        place = os.environ["WNODES_URL"].rpartition(":")[0]
        page = _free_port()
        tables["bridge"]["page"] |= {"listen": f"127.0.0.1:{page}", "url": f"{place}:{page}"}
        tables["bridge"] |= {
            "listen": f"127.0.0.1:{port}",
            "database": f"sqlite:///{folder}/bridge.sqlite",
            "baits": [bait.url for bait in baits],
            "issuer_dir": f"{folder}/issuers",
            "grant": [
                {"match": "*", "machines": 5000, "cores": 5000, "memory": 5000000, "walltime": 3600}
            ],
        }
        (folder / "wnodes.toml").write_text(tomli_w.dumps(tables))
        program = Path(sys.executable).parent / "wnodes-bridge"
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [program, "--config", folder / "wnodes.toml"], stdout=log, stderr=log
            )
        try:
            wait_until(lambda: _listens(port) and _listens(page), 30)
            yield Served(f"{place}:{port}", f"{place}:{page}", tables["bridge"]["database"])
        finally:
            process.terminate()
            process.wait(30)
            for bait in baits:
                bait.close()


class Created:
    """Makes machines, one after the other, over one connection."""

    def __init__(self, url: str, token: str = "") -> None:
        """By a token, or else by the site's proxy."""
        self.url = url
        self._token = token

    def __call__(self, count: int) -> list[float]:
        """The time of each answer in ms; returns when all of them run."""
        context = trusting(os.environ["X509_CERT_DIR"])
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        if not self._token:
            context.load_cert_chain(os.environ["X509_USER_PROXY"])
        times = []
        with httpx.Client(base_url=self.url, verify=context, timeout=60, headers=headers) as client:
            for _ in range(count):
                begun = time.monotonic()
                answer = client.post(
                    "/compute/", content=_COMPUTE + _SIZE, headers={"Content-Type": "text/plain"}
                )
                times.append((time.monotonic() - begun) * 1000)
                if answer.status_code != 201:
                    raise RuntimeError(answer.text)
            wait_until(lambda: self._active(client) == count, 300)
        return times

    def _active(self, client: httpx.Client) -> int:
        state = {"X-OCCI-Attribute": 'occi.compute.state="active"', "Accept": "text/uri-list"}
        return len(client.get("/compute/", headers=state).text.split())


@contextmanager
def _pyssf() -> Iterator[str]:
    """pyssf on a port of its own; its URL."""
    python = _PYSSF / "bin" / "python"
    port = _free_port()
    server = Path(__file__).with_name("pyssf_server.py")
    process = subprocess.Popen(
        [python, "-P", "-W", "ignore", server, str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: _listens(port), 30)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _fill_pyssf(url: str, count: int) -> None:
    with httpx.Client(base_url=url, timeout=60) as client:
        for _ in range(count):
            answer = client.post(
                "/compute/", content=_COMPUTE, headers={"Content-Type": "text/plain"}
            )
            answer.raise_for_status()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
