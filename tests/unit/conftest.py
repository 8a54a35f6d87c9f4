"""What the unit tests share: a web server that counts, an image, a bait on the test driver."""

import contextlib
import hashlib
import http.server
import os
import pwd
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
import libvirt
import pytest

from bait.batch.controller import BatchController
from bait.cloud.controller import CloudController
from bait.hypervisor.domains import Hypervisor
from bait.hypervisor.events import THREAD
from bait.ledger.ledger import Ledger
from bait.machine.images import Cache
from bait.machine.tasks import Tasks
from bait.machine.topology import Topology
from bait.machine.vms import NodeVms
from bait.network.shaper import Shaper
from bait.reconcile.drain import Drain
from bait.reconcile.jobs import Jobs
from bait.reconcile.reconciler import Controller, Reconciler
from bait.volumes.directory import Directory
from wnodes_lrms.config import load as config
from wnodes_lrms.errors import UnknownError
from wnodes_lrms.images import catalogue
from wnodes_lrms.images.catalogue import Image, Part
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.lrms.slurm.node import Slurm
from wnodes_lrms.model import Allocation, Kind, Room

TAG = "small_linux_x86_64"
# Loopback's, and of this process alone: other runs of these tests may go on at the same time.
GUESTS = f"127.{100 + os.getpid() % 100}.{os.getpid() // 100 % 256}"
NOBODY = pwd.getpwnam("nobody")
_ROOT = "needs root"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason=_ROOT)
# What runs the product as another user; not possible below a closed home.
needs_open_project = pytest.mark.skipif(
    not all(folder.stat().st_mode & 0o001 for folder in Path(__file__).resolve().parents),
    reason="the project lies where other users can't read it",
)


# A test may take long on a busy machine, and is none the worse for it. For a minute: make fuzz.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.register_profile("minute", deadline=None, max_examples=15_000)
hypothesis.settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate",
        action="store_true",
        help="write the golden files anew, to be read in a diff",
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A run without root looks as green as one with it: so it says what it has left out."""
    skipped = terminalreporter.getreports("skipped")
    count = sum(_ROOT in str(report.longrepr) for report in skipped)
    said = f"{count} tests need root and were skipped" if count else "no test was skipped for root"
    terminalreporter.write_line(said)


def eventually(condition: Callable[[], object], within: float = 60.0) -> None:
    """Wait for something that other threads do; fail if it does not come."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class Web:
    """A web server that says for each path what the test wants, and counts the requests."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.broken: dict[str, int] = {}  # path: bytes after which the connection ends
        self.endless: set[str] = set()  # paths whose data comes again and again, of no told size
        self.sent = 0  # bytes of those
        self.pause = 0.0  # seconds before each answer
        self.speaks = threading.Event()  # until this is set there is none
        self.speaks.set()
        self.requests: Counter[str] = Counter()
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.requests[self.path] += 1
                time.sleep(web.pause)
                web.speaks.wait()
                data = web.files.get(self.path)
                if data is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                if self.path in web.endless:
                    self.end_headers()
                    with contextlib.suppress(OSError):
                        while True:
                            web.sent += self.wfile.write(data)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: web.broken.get(self.path, len(data))])

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def add(self, path: str, data: bytes) -> Part:
        self.files[path] = data
        return Part(source=self.url + path, sha256=hashlib.sha256(data).hexdigest())

    def close(self) -> None:
        self.speaks.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(autouse=True)
def _umask_stays() -> Iterator[None]:
    """What a program's `main` does to the umask is undone."""
    mask = os.umask(0o022)
    os.umask(mask)
    yield
    os.umask(mask)


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    yield web
    web.close()


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A qcow2 disk, as qemu-img makes it."""
    path = tmp_path_factory.mktemp("disk") / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "16M"], check=True)
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with 2 MiB of room: a disk that is soon full."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def part_of(path: Path) -> Part:
    return Part(source=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def put(ledger: Ledger, machine: str, **values: object) -> None:
    """Have the ledger say this of a machine, however it came to that."""
    with ledger.store.change() as db:
        for name, value in values.items():
            db.execute(f"UPDATE machine SET {name} = ? WHERE id = ?", (value, machine))  # noqa: S608


def ripen(bait: "Bait") -> None:
    """Let the time of grace pass for all that is in doubt."""
    bait.reconciler.doubts.since = dict.fromkeys(bait.reconciler.doubts.since, float("-inf"))
    bait.tasks.heard._last.clear()


def answers_again(bait: "Bait") -> None:
    """The batch system, which was away, is asked again at once."""
    bait.reconciler._jobs._since = None


class Batch:
    """In the place of the batch system: a table of what it has granted. None: it is away."""

    def __init__(self) -> None:
        self.jobs: dict[str, Allocation] | None = {}
        self.suspended: set[str] = set()
        self.drained: str | None = None  # why no job is sent here
        self.others = ""  # somebody else's drain

    def grant(self, job: str, /, restart: int = 0, **changes: object) -> Allocation:
        values: dict[str, object] = {
            "job": job,
            "restart": restart,
            "uid": NOBODY.pw_uid,
            "gid": NOBODY.pw_gid,
            "account": "grid",
            "partition": "main",
            "cores": 1,
            "memory": 512,
            "cpus": (0,),
            "workdir": "/tmp",
            "tag": TAG,
        }
        assert self.jobs is not None
        self.jobs[job] = Allocation(**(values | changes))  # type: ignore[arg-type]
        return self.jobs[job]

    def job_id(self, text: str) -> JobId:
        return Slurm.job_id(text)

    def allocation(self, job: str) -> Allocation:
        if self.jobs is None or job not in self.jobs:
            raise UnknownError("the batch system does not answer")
        return self.jobs[job]

    def where(self, job: str) -> str | None:
        if self.jobs is None:
            raise UnknownError("the batch system does not answer")
        return "hv1" if job in self.jobs else None

    def live_jobs(self) -> dict[str, bool]:
        if self.jobs is None:
            raise UnknownError("the batch system does not answer")
        return {job: job in self.suspended for job in self.jobs}

    def room(self) -> Room:
        if self.jobs is None:
            raise UnknownError("the batch system does not answer")
        return Room(8 - sum(job.cores for job in self.jobs.values()), 16000)

    def drain(self, reason: str) -> str:
        if self.jobs is None:
            raise UnknownError("the batch system does not answer")
        self.drained = self.drained if self.others else reason
        return self.others

    def resume(self) -> str:
        if self.jobs is None:
            raise UnknownError("the batch system does not answer")
        self.drained = None
        return self.others


class Guests:
    """Guests' SSH servers as far as the bait looks at them: a greeting on port 22 of an address."""

    def __init__(self) -> None:
        self._listening: list[socket.socket] = []

    def answer(self, address: str, greeting: bytes = b"SSH-2.0-test\r\n") -> None:
        listener = socket.create_server((address, 22))
        self._listening.append(listener)
        threading.Thread(target=self._serve, args=(listener, greeting), daemon=True).start()

    def _serve(self, listener: socket.socket, greeting: bytes) -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            with link:
                link.sendall(greeting)

    def close(self) -> None:
        for listener in self._listening:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()


class Bait:
    """The parts of a bait that control VMs: all of it but its socket and its API."""

    def __init__(
        self, configuration: config.Config, ledger: Ledger, batch: Batch, vms: NodeVms
    ) -> None:
        self.tasks = Tasks()
        self.drain = Drain(ledger, batch)
        made = (configuration, ledger, Jobs(batch, pause=0.0), vms, self.tasks)
        self.batch = BatchController(*made, self.drain)
        volumes = Directory(Path(configuration.cloud.volumes))
        self.cloud = CloudController(configuration, vms.node, *made[1:], volumes, self.drain)
        controllers: dict[Kind, Controller] = {Kind.BATCH: self.batch, Kind.CLOUD: self.cloud}
        self.reconciler = Reconciler(*made, controllers, self.drain)


@dataclass
class Node:
    """A node with all of its bait, on libvirt's test driver."""

    folder: Path
    config: config.Config
    ledger: Ledger
    hypervisor: Hypervisor
    cache: Cache
    vms: NodeVms
    image: Image
    batch: Batch = field(default_factory=Batch)
    guests: Guests = field(default_factory=Guests)
    baits: list[Bait] = field(default_factory=list)

    def bait(self) -> Bait:
        """A bait that begins its work, as after a start."""
        made = Bait(self.config, self.ledger, self.batch, self.vms)
        self.baits.append(made)
        return made

    def drop_tasks(self) -> None:
        """Have all baits drop their tasks, as if they were killed."""
        for bait in self.baits:
            restarts = bait.cloud.restarts._under_way
            for task in [*bait.tasks._tasks.values(), *restarts._tasks.values()]:
                task.cancelled.set()
                assert task.thread
                task.thread.join(10)
        eventually(lambda: not any(each.name == THREAD for each in threading.enumerate()))

    def left(self) -> list[str]:
        """All that there still is of machines, wherever it may be."""
        names = [str(path) for sub in ("state", "run") for path in self.folder.glob(f"{sub}/*/*")]
        names += [str(path) for path in self.folder.glob("cache/*.part")]
        names += [f"row {row.id}" for row in self.ledger.rows()]
        return names + [f"domain {machine}" for machine in self.hypervisor.domains()]


def settings(folder: Path, **machine: object) -> str:
    """A configuration file for one node whose guests' addresses are loopback's."""
    lines = "\n".join(f"{key} = {value}" for key, value in machine.items())
    return f"""
cluster = "box"
lrms = "slurm"
[bait]
socket = "{folder}/bait.sock"
state_dir = "{folder}/state"
run_dir = "{folder}/run"
libvirt_uri = "test:///default"
[images]
catalogue = "{folder}/images"
cache_dir = "{folder}/cache"
[machine]
{lines}
[cloud]
shutdown_time = 1
volumes = "{folder}/volumes"
saved = "{folder}/saved"
[network]
subnet = "{GUESTS}.0/24"
"""


BRIDGES = {"br0"}  # that the node has: libvirt's test driver does not look


@pytest.fixture
def libvirt_test() -> Iterator[libvirt.virConnect]:
    """libvirt's test driver: all connections of this process see one node, with a domain `test`."""
    link = libvirt.open("test:///default")
    yield link
    for domain in link.listAllDomains():
        if domain.name() != "test":
            domain.destroy()
    if "wnodes" in link.listNetworks():
        link.networkLookupByName("wnodes").destroy()


@pytest.fixture
def node(
    tmp_path: Path,
    disk: Path,
    libvirt_test: libvirt.virConnect,  # noqa: ARG001
) -> Iterator[Node]:
    file = tmp_path / "wnodes.toml"
    file.write_text(settings(tmp_path, min_free_disk=1, ready_timeout=20))
    settled = config.load(file, "hv1")
    image = Image(tag=TAG, format="qcow2", disk=part_of(disk), context="script", min_memory=64)
    catalogue.write(tmp_path / "images", image)
    ledger = Ledger(tmp_path / "state" / "ledger.sqlite")
    hypervisor = Hypervisor(
        "test:///default", settled.cluster, "hv1", settled.network, tmp_path / "state" / "machines"
    )
    cache = Cache(
        tmp_path / "cache",
        settled.images.cache_limit,
        lambda: {digest for row in ledger.rows() for digest in row.digests.split()},
        hypervisor.qemu_user,
    )
    shaper = Shaper(settled, "hv1", ledger.rows)
    vms = NodeVms(
        settled, "hv1", False, hypervisor, cache, lambda: None, shaper, Topology, BRIDGES.copy
    )
    node = Node(tmp_path, settled, ledger, hypervisor, cache, vms, image)
    yield node
    hypervisor.on_stop(lambda _machine, _how: None)
    node.drop_tasks()
    node.guests.close()
    ledger.close()
