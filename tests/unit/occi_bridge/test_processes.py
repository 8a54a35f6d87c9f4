"""`wnodes-bridge` as it is started: its processes, TLS on both sides, what it survives."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from contrib.site.box.ca import Authority
from tests.unit.conftest import NOBODY, eventually, needs_open_project, needs_root
from tests.unit.occi_bridge.fake_baits import FakeBait, Lrms
from tests.unit.occi_bridge.local_bridge import ANNA, LocalBridge, keys
from wnodes_lrms.tls.client import trusting
from wnodes_lrms.tls.server import listener

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = pytest.mark.integration

BRIDGE = "/C=IT/O=Test/CN=bridge"


class Running:
    """A bridge at work, its one bait, and a client of Anna's."""

    def __init__(self, folder: Path, make_bridge: Callable[..., LocalBridge]) -> None:
        authority = Authority.make("/C=IT/O=Test/CN=CA")
        self.certificates = folder / "certificates"
        authority.install(self.certificates)
        for name, dn, hosts in (
            ("bridge", BRIDGE, ("127.0.0.1",)),
            ("bait", "/C=IT/O=Test/CN=hv1", ("127.0.0.1",)),
            ("anna", ANNA, ()),
        ):
            credential = authority.issue(dn, hosts=hosts)
            credential.write(folder / f"{name}.pem", folder / f"{name}.key")
        (folder / "grid-mapfile").write_text(f'"{ANNA}" nobody\n')
        _private, public = keys(folder)
        self.lrms = Lrms(public)
        tls = (str(folder / "bait.pem"), str(folder / "bait.key"), str(self.certificates))
        self.bait = FakeBait("hv1", self.lrms, tls)
        with listener("127.0.0.1:0") as free:
            port = free.getsockname()[1]
        make_bridge(f"sqlite:///{folder}/database/bridge.sqlite", self.bait)
        file = folder / "wnodes.toml"
        text = file.read_text().replace(
            "[bridge]\n",
            f"""[bridge]
listen = "127.0.0.1:{port}"
certificate = "{folder}/bridge.pem"
key = "{folder}/bridge.key"
ca_dir = "{self.certificates}"
voms_dir = "{folder}/vomsdir"
grid_mapfile = "{folder}/grid-mapfile"
voms_mapfile = "{folder}/voms-mapfile"
pool_dir = "{folder}/pool"
ban_file = "{folder}/bans"
""",
        )
        file.write_text(text + '\n[[bridge.grant]]\nmatch = "*"\n')
        context = trusting(str(self.certificates))
        context.load_cert_chain(folder / "anna.pem", folder / "anna.key")
        self._context, self._base = context, f"https://127.0.0.1:{port}"
        self.file = file
        self.log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> int:
        self.client = httpx.Client(base_url=self._base, verify=self._context, timeout=60)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "occi_bridge", "--config", self.file],
                stderr=log,
                user=NOBODY.pw_uid,
                group=NOBODY.pw_gid,
                extra_groups=[],
            )
        eventually(self.answers)
        return self._process.pid

    def answers(self) -> bool:
        try:
            return self.client.get("/compute/").status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self._process
        self.client.close()  # otherwise the workers wait for its farewell
        self._process.send_signal(number)
        return self._process.wait(60)

    def close(self) -> None:
        if self._process and self._process.poll() is None:
            self.stop()
        self.client.close()
        self.bait.close()

    def create(self) -> str:
        reply = self.client.post(
            "/compute/",
            headers={
                "Content-Type": "text/occi",
                "Category": 'compute; scheme="http://schemas.ogf.org/occi/infrastructure#"',
            },
        )
        assert reply.status_code == 201, reply.text
        return reply.headers["Location"].removeprefix(str(self.client.base_url).rstrip("/"))

    def active(self, path: str) -> bool:
        return 'occi.compute.state="active"' in self.client.get(path).text


@pytest.fixture
def running(tmp_path: Path, make_bridge: Callable[..., LocalBridge]) -> Iterator[Running]:
    for path in [tmp_path, *tmp_path.parents[:3]]:
        path.chmod(path.stat().st_mode | 0o055)
    running = Running(tmp_path, make_bridge)
    for path in [tmp_path, *tmp_path.rglob("*")]:
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    yield running
    running.close()


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def alive(pids: set[int]) -> list[str]:
    """Those processes that run; one that is only waited for does not."""
    states = (Path(f"/proc/{pid}/stat") for pid in pids)
    texts = [path.read_text() for path in states if path.exists()]
    return [text for text in texts if text.rpartition(")")[2].split()[0] != "Z"]


@needs_root
@needs_open_project
def test_whole(running: Running) -> None:
    """From a user's TLS to a bait's and back, whatever is killed."""
    parent = running.start()
    eventually(lambda: running.bait.peers == {BRIDGE})
    path = running.create()
    eventually(lambda: running.active(path))
    before = children(parent)
    assert len(before) == 3
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(children(parent) - before) == 3)
    eventually(running.answers)
    assert running.active(path)
    reply = running.client.delete(path)
    assert reply.status_code == 200, reply.text
    assert running.client.get(path).status_code == 404
    eventually(lambda: not running.bait.machines)
    last = children(parent)
    assert running.stop() == 0
    assert not alive(last)
    assert "internal fault" not in running.log.read_text()


def test_what_cant_be_is_said_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "wnodes.toml"
    file.write_text('cluster = "box"\nlrms = "slurm"\n')
    done = subprocess.run(
        [sys.executable, "-m", "occi_bridge", "--config", file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (f"<2>{file}: bridge: is missing, and without it there is no service\n")
