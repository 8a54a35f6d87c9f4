"""How long a job waits for its machine, against the same machine made by hand; and its end."""

import ipaddress
import json
import subprocess
import tempfile
import time
from pathlib import Path

from bait.batch.build import BatchBuilder
from bait.hypervisor.domains import Hypervisor
from bait.machine.files import Paths
from bait.machine.hardware import Blueprint, guest_memory
from bait.machine.images import Cache
from bait.machine.owner import owner_of
from bait.machine.vms import NodeVms
from bait.network.shaper import Shaper
from contrib.bench.site import CONFIG, HOME, IMAGE, NODE, USER, sh, wait_until
from wnodes_lrms.images import catalogue
from wnodes_lrms.model import Allocation

_RUNS = 7
_MEMORY = 512  # MiB of the allocation
_ended: list[float] = []
_destroyed: list[float] = []


def start() -> dict[str, list[float]]:
    """Seconds to the first sign of life: by hand to `ssh true`, by a job to the payload's line.

    A job's time begins when the prolog's message is in the ledger; what lies between the script's
    output and its file is counted in.
    """
    samples: dict[str, list[float]] = {"virsh create, ssh": [], "job to payload's first line": []}
    with tempfile.TemporaryDirectory(dir=CONFIG.bait.state_dir) as folder:
        Path(folder).chmod(0o711)
        by_hand = ByHand(Path(folder))
        for _ in range(_RUNS):
            samples["virsh create, ssh"].append(by_hand.start())
            total, parts = _job()
            samples["job to payload's first line"].append(total)
            for name, seconds in parts.items():
                samples.setdefault(f"of that: {name}", []).append(seconds)
    return samples


def end() -> dict[str, list[float]]:
    """Seconds from the epilog's message until nothing is left, of the machines started above; and
    of those made by hand, which no filter knows, until virsh has ended them.
    """
    return {"virsh destroy, no filter": _destroyed, "epilog's wait": _ended}


def _job() -> tuple[float, dict[str, float]]:
    output = HOME / "bench.out"
    output.unlink(missing_ok=True)
    script = "echo first line"
    wish = ["env", f"--chdir={HOME}", f"WNODES_IMAGE={IMAGE}"]
    submit = ["sbatch", "--parsable", f"--output={output}", f"--mem={_MEMORY}", f"--wrap={script}"]
    job = sh("runuser", "-u", USER, "--", *wish, *submit, f"--nodelist={NODE}").strip()
    wait_until(lambda: output.exists() and output.stat().st_size, 120)
    seen = output.stat().st_mtime
    wait_until(lambda: not sh("squeue", "-h", "-j", job, "-o", "%i"), 60)
    events = json.loads(sh("wnodes", "job", "show", job, "--json"))
    at = {event["what"].split(":")[0].split(" from ")[0]: _seconds(event["at"]) for event in events}
    _ended.append(at["gone"] - at["ending"])
    return seen - at["requested"], {
        "asking Slurm, disk, keys, seed": at["starting the domain"] - at["requested"],
        "libvirt's createXML": at["booting"] - at["starting the domain"],
        "boot to SSH": at["ready"] - at["booting"],
        "SSH session to first line": seen - at["ready"],
    }


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


class ByHand:
    """The same domain, from the same overlay and seed, with qemu-img, virsh and ssh."""

    def __init__(self, folder: Path) -> None:
        import pwd

        user = pwd.getpwnam(USER)
        image = catalogue.read(Path(CONFIG.images.catalogue), IMAGE)
        machines = Path(CONFIG.bait.state_dir) / "machines"
        hypervisor = Hypervisor(CONFIG.bait.libvirt_uri, "bench", NODE, CONFIG.network, machines)
        cache = Cache(Path(CONFIG.images.cache_dir), CONFIG.images.cache_limit, set, lambda: None)
        kvm = json.loads((Path(CONFIG.bait.state_dir) / "kvm.json").read_text())["kvm"]
        # Another cluster's mark: the node's bait would take the domain for an orphan of its own.
        config = CONFIG.model_copy(update={"cluster": "bench"})
        shaper = Shaper(config, NODE, list)
        vms = NodeVms(config, NODE, kvm, hypervisor, cache, lambda: None, shaper)
        address = list(CONFIG.network.subnet.hosts())[-1]
        allocation = Allocation(
            "bench", 0, user.pw_uid, user.pw_gid, "", "main", 1, _MEMORY, (0,), str(HOME), IMAGE
        )
        memory = guest_memory(allocation, image, CONFIG.machine.memory_overhead)
        machine = Blueprint(
            "8d6e8e4e-0000-4000-8000-000000000001",
            allocation,
            owner_of(user.pw_uid, user.pw_gid),
            image,
            memory,
            ipaddress.IPv4Address(address),
        )
        where = Paths(folder / "disks", folder / "run")
        where.disks.mkdir(mode=0o711)
        where.runtime.mkdir(mode=0o711)
        vms.fetch(image, lambda _step: None)
        vms.copy_kernel(image, where)
        builder, shares = BatchBuilder(vms), CONFIG.share.directories
        builder.contextualize(where, machine, shares)
        hardware = builder.hardware(where, machine, shares)
        xml = vms.domain(where, hardware, vms.tuning(hardware))
        self.xml = folder / "domain.xml"
        self.xml.write_text(xml)
        self.where, self.id, self.base = where, machine.id, cache.path(image.disk)
        self.format = image.format
        self.ssh = ["ssh", "-F", "none", "-i", str(where.key), "-o", "BatchMode=yes"]
        self.ssh += ["-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=1"]
        self.ssh += ["-o", f"UserKnownHostsFile={where.known_hosts}"]
        self.ssh += [f"{USER}@{address}", "true"]

    def start(self) -> float:
        begun = time.monotonic()
        overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", self.format]
        sh(*overlay, "-b", str(self.base), str(self.where.disk))
        sh("virsh", "create", str(self.xml))
        while subprocess.run(self.ssh, capture_output=True, check=False).returncode != 0:
            if time.monotonic() - begun > 120:
                raise TimeoutError("the machine made by hand does not answer")
            time.sleep(0.05)
        seconds = time.monotonic() - begun
        ends = time.monotonic()
        sh("virsh", "destroy", self.id)
        _destroyed.append(time.monotonic() - ends)
        self.where.disk.unlink()
        return seconds
