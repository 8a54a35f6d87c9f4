"""The bait by itself: how many machines a second, and how much memory, on libvirt's test driver.

Everything is the bait's own but the guests: nothing boots. Their SSH is a listener on loopback.
"""

import ipaddress
import os
import socket
import tempfile
import threading
import time
from pathlib import Path

from bait.batch.controller import BatchController
from bait.hypervisor.domains import Hypervisor
from bait.ledger.ledger import Ledger
from bait.machine.images import Cache
from bait.machine.tasks import Tasks
from bait.machine.vms import NodeVms
from bait.network.shaper import Shaper
from bait.reconcile.drain import Drain
from bait.reconcile.jobs import Jobs
from contrib.bench.site import CONFIG, IMAGE, USER
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.lrms.slurm.node import Slurm
from wnodes_lrms.model import Allocation, Room, State

_MACHINES = 200
_SUBNET = ipaddress.IPv4Network("127.77.0.0/23")


class _Lrms:
    """Grants every job the same."""

    def __init__(self, folder: str) -> None:
        import pwd

        self.user = pwd.getpwnam(USER)
        self.folder = folder

    def allocation(self, job: str) -> Allocation:
        uid, gid = self.user.pw_uid, self.user.pw_gid
        return Allocation(job, 0, uid, gid, "", "main", 1, 512, (), self.folder, IMAGE)

    def job_id(self, text: str) -> JobId:
        return Slurm.job_id(text)

    def where(self, job: JobId) -> str:  # noqa: ARG002
        return "hv1"

    def live_jobs(self) -> dict[str, bool]:
        return {str(number): False for number in range(1, _MACHINES + 1)}

    def room(self) -> Room:
        return Room(1, None)

    def drain(self, reason: str) -> str:  # noqa: ARG002
        return ""

    def resume(self) -> str:
        return ""


def machines() -> dict[str, list[float]]:
    """Machines made and ended a second, and the process's memory in MiB before and with them."""
    with tempfile.TemporaryDirectory() as folder:
        bait = CONFIG.bait.model_copy(
            update={"state_dir": f"{folder}/state", "run_dir": f"{folder}/run"}
        )
        network = CONFIG.network.model_copy(update={"subnet": _SUBNET})
        config = CONFIG.model_copy(update={"cluster": "bench", "bait": bait, "network": network})
        ledger = Ledger(Path(folder) / "state" / "ledger.sqlite")
        hypervisor = Hypervisor("test:///default", "bench", "hv1", network, Path("/nowhere"))
        cache = Cache(Path(CONFIG.images.cache_dir), CONFIG.images.cache_limit, set, lambda: None)
        shaper = Shaper(config, "hv1", ledger.rows)
        vms = NodeVms(config, "hv1", False, hypervisor, cache, lambda: None, shaper)
        lrms = _Lrms(folder)
        batch = BatchController(config, ledger, Jobs(lrms), vms, Tasks(), Drain(ledger, lrms))
        _listen()
        before = _memory()
        begun = time.monotonic()
        for number in range(1, _MACHINES + 1):
            batch.prepare(lrms.job_id(str(number)), 0)
        while any(row.state is not State.READY for row in ledger.rows()):
            if failed := [row for row in ledger.rows() if row.state is State.FAILED]:
                raise RuntimeError(failed[0].reason)
            time.sleep(0.01)
        made = _MACHINES / (time.monotonic() - begun)
        full = _memory()
        begun = time.monotonic()
        for row in ledger.rows():
            batch.release(row)
        ended = _MACHINES / (time.monotonic() - begun)
    return {
        "machines made a second": [made],
        "machines ended a second": [ended],
        "memory without machines, MiB": [before],
        "memory with 200, MiB": [full],
    }


def _memory() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _listen() -> None:
    def serve(server: socket.socket) -> None:
        while True:
            link, _address = server.accept()
            link.sendall(b"SSH-2.0-bench\r\n")
            link.close()

    for address in list(_SUBNET.hosts())[1 : _MACHINES + 1]:
        server = socket.create_server((str(address), 22), backlog=16)
        threading.Thread(target=serve, args=(server,), daemon=True).start()
