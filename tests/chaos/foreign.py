"""Things beside ours that are none of ours: made before the first fault, looked at after the last.

Domains without our mark and with the mark of another cluster or node, a network, plain jobs,
files and folders where ours are.
"""

import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from uuid import UUID

from contrib.site.box.layout import NODES
from tests.chaos.site import Box
from tests.e2e.box import USER, call, wait_until
from tests.e2e.lrms.interface import System
from wnodes_lrms.config.load import Config

_MARK = "urn:wnodes-lrms:machine:1"
_DOMAIN = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid>{metadata}
<memory unit='MiB'>4</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os>
<devices><controller type='usb' model='none'/><memballoon model='none'/></devices></domain>
"""
_MARKED = """<metadata><w:machine xmlns:w='{mark}' cluster='{cluster}' node='{node}' job='1'
restart='0' image='x'/></metadata>"""
_NETWORK = "<network><name>{name}</name><bridge name='{bridge}'/></network>"
_NETWORKS = {"strangers": "wi-strangers", "wnodes-private@hv9": "wi-hv9"}
_NOTE = "nobody's but ours\n"


@dataclass(frozen=True)
class Foreign:
    """What was put there."""

    domains: dict[str, str]  # UUID → name
    processes: dict[str, int]  # UUID → QEMU's number
    jobs: tuple[str, ...]
    files: tuple[Path, ...]

    def touched(self, box: Box) -> list[str]:
        """What is not as it was, in words."""
        found = []
        there = call("virsh", "list", "--uuid", "--state-paused").split()
        for uuid, name in self.domains.items():
            if uuid not in there or self.processes[uuid] not in set(box.having(uuid)):
                found.append(f"domain {name} is not there, paused, in the same process")
        networks = call("virsh", "net-list", "--name").split()
        found += [f"network {name} is gone" for name in _NETWORKS if name not in networks]
        for job in self.jobs:
            if not _runs(box, job):
                found.append(f"plain job {job} does not run any more")
        for file in self.files:
            if not file.is_file() or file.read_text() != _NOTE:
                found.append(f"file {file} is gone or changed")
        return found


@contextmanager
def strangers(box: Box, config: Config, rng: Random) -> Iterator[Foreign]:
    """They are there while this lasts."""
    marks = {"unmarked": "", "other-cluster": ("strangers", "hv1"), "other-node": ("box", "hv9")}
    domains, running = {}, {}
    for name, mark in marks.items():
        uuid = str(UUID(int=rng.getrandbits(128), version=4))
        metadata = mark and _MARKED.format(mark=_MARK, cluster=mark[0], node=mark[1])
        _virsh("create", _DOMAIN.format(name=name, uuid=uuid, metadata=metadata), "--paused")
        domains[uuid] = name
        running[uuid] = next(box.having("qemu-system", uuid))
    for name, bridge in _NETWORKS.items():
        _virsh("net-create", _NETWORK.format(name=name, bridge=bridge))
    jobs = tuple(_job(box.lrms, node) for node in NODES)
    files = tuple(path for node in NODES for path in _files(box, config, node))
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_NOTE)
    try:
        for job in jobs:
            wait_until(partial(_runs, box, job), 30, f"plain job {job} runs")
        yield Foreign(domains, running, jobs, files)
    finally:
        for uuid in domains:
            call("virsh", "destroy", uuid, check=False)
        for name in _NETWORKS:
            call("virsh", "net-destroy", name, check=False)
        box.lrms.cancel(*jobs)
        for file in files:
            with suppress(OSError):
                file.unlink()
            with suppress(OSError):
                file.parent.rmdir()


def _job(lrms: System, node: str) -> str:
    """One of the ordinary user's that does nothing for hours; its number."""
    options = lrms.options(node=node, memory=64, once="")
    home = Path(pwd.getpwnam(USER).pw_dir)
    return lrms.submit(lrms.command("sleep 7200"), options, {}, home).number


def _runs(box: Box, job: str) -> bool:
    listed = box.lrms.listing().get(job)
    return listed is not None and listed.runs


def _files(box: Box, config: Config, node: str) -> Iterator[Path]:
    for folder in (config.bait.state_dir, config.bait.run_dir):
        path = box.seen(Path(folder.replace("%n", node)))
        yield path / "strangers" / "note"
        yield path / "machines" / "strangers" / "note"
        yield path / "machines" / "note"


def _virsh(command: str, xml: str, *options: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(xml)
        file.flush()
        subprocess.run(
            ["virsh", "--quiet", command, file.name, *options], check=True, capture_output=True
        )
