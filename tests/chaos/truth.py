"""What is really there: by libvirt, kernel, batch system, folders, and ledgers themselves."""

from collections.abc import Iterator
from pathlib import Path

from contrib.site.box.layout import NODES
from tests.chaos.cgroups import left
from tests.chaos.foreign import Foreign
from tests.chaos.shared import kept
from tests.chaos.site import Box
from tests.e2e.box import call
from wnodes_lrms.config.load import Config

_NETWORKS = {f"box-{node}" for node in NODES}


def orphans(box: Box, config: Config, strangers: Foreign) -> list[str]:
    """What is left of machines once there should be none, a line each."""
    return [line for look in _LOOKS for line in look(box, config, strangers)]


def _domains(_box: Box, _config: Config, strangers: Foreign) -> Iterator[str]:
    for uuid in set(call("virsh", "list", "--all", "--uuid").split()) - set(strangers.domains):
        yield f"domain {uuid}"


def _processes(box: Box, _config: Config, strangers: Foreign) -> Iterator[str]:
    known = set(strangers.processes.values())
    for name in ("qemu-system", "virtiofsd", "/hooks/starter", "/hooks/lease.py"):
        for pid in box.having(name):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if pid not in known and Path(line.split()[0]).name != "virtlogd":
                yield f"process {pid}: {line[:120]}"


def _files(box: Box, config: Config, strangers: Foreign) -> Iterator[str]:
    own = {path.parent.name for path in strangers.files} | {"note"}
    for node in NODES:
        for folder in (config.bait.state_dir, config.bait.run_dir):
            machines = box.seen(Path(folder.replace("%n", node))) / "machines"
            for path in machines.glob("*"):
                if path.name not in own:
                    yield f"files {node}: {path.parent.name}/{path.name}"
        cache = Path(config.images.cache_dir.replace("%n", node))
        for path in cache.glob("*.*"):
            if path.suffix != ".seen":
                yield f"file {path}"
    for shared in (box.volumes, Path(config.cloud.saved)):
        for path in kept(shared):
            yield f"files {path}"


def _networks(_box: Box, _config: Config, _strangers: Foreign) -> Iterator[str]:
    names = set(call("virsh", "net-list", "--all", "--name").split())
    for name in names - _NETWORKS - {"strangers", "wnodes-private@hv9"}:
        yield f"network {name}"
    for name in _NETWORKS & names:
        for tap in Path(f"/sys/class/net/wn-{name}/brif").glob("*"):
            yield f"tap {tap.name} on {name}"
        for line in call("virsh", "net-dhcp-leases", name).splitlines()[2:]:
            if line.strip():
                yield f"DHCP lease on {name}: {' '.join(line.split())}"


def _jobs(box: Box, _config: Config, strangers: Foreign) -> Iterator[str]:
    for job in box.lrms.listing().values():
        if job.number not in strangers.jobs and not job.over:
            yield f"job {job.number} {job.name} {job.state}"


def _ledgers(box: Box, _config: Config, _strangers: Foreign) -> Iterator[str]:
    for name, rows in box.ledgers(fresh=True).items():
        for row in rows:
            yield f"in a ledger's {name}: {' '.join(row)}"


def _cgroups(_box: Box, _config: Config, strangers: Foreign) -> Iterator[str]:
    for path in left(strangers.jobs):
        yield f"cgroup {path}"


_LOOKS = (_domains, _processes, _files, _networks, _jobs, _ledgers, _cgroups)
