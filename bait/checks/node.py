"""`wnodes-bait --check`: looks at all that a node needs, and changes nothing.

Only KVM's answer is kept, as the bait itself keeps it. Everything that may hang has a deadline, so
that one thing that is broken does not hide the others. Files are looked at in
bait/checks/files.py; what follows from what is seen is in verdicts.py, network_verdicts.py and
file_verdicts.py beside it.
"""

import ctypes
import importlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from bait.checks import api, file_verdicts, files, network_verdicts, storage, verdicts
from bait.checks.bounded import LIBVIRT, bounded
from bait.hypervisor import kvm
from bait.hypervisor.inventory import look
from bait.machine import topology
from bait.network import firewall, ruleset, shaper
from bait.network.surroundings import interfaces, tunnel_end
from bait.privileges import sandbox
from wnodes_lrms.config.load import Config
from wnodes_lrms.doctor import Check, fault, ok, unknown
from wnodes_lrms.errors import RejectedError, UnknownError, WnodesError
from wnodes_lrms.images import catalogue
from wnodes_lrms.lrms.systems import SYSTEMS
from wnodes_lrms.resources import share_server
from wnodes_lrms.run import LOCAL, run

_PROGRAMS = {
    "qemu-img": "install qemu-utils (Debian) or qemu-img (EL)",
    kvm.QEMU: "install qemu-system-x86 (Debian) or qemu-kvm (EL)",
    "ssh": "install openssh-client (Debian) or openssh-clients (EL)",
    "tar": "install tar",
}


def report(config: Config, config_file: Path, node: str) -> None:
    """Print every check of this node as a list of JSON objects. Raises RejectedError to users.

    `config` is as it holds on the node, read from `config_file`.
    """
    if os.geteuid() != 0:
        raise RejectedError("only root sees all that is to be checked: run it as root")
    print(json.dumps([asdict(check) for check in checks(config, config_file, node)], indent=2))


def checks(config: Config, config_file: Path, node: str) -> Iterator[Check]:
    """Every check of this node. What goes wrong in one is no reason to leave out the others."""
    looks: dict[str, Callable[[], Iterable[Check]]] = {
        "kvm": lambda: [_kvm(config)],
        "libvirt": lambda: _libvirt(config),
        "guests' firewall": lambda: [_firewall(node)],
        "tunnels of private networks": lambda: _tunnels(config),
        "networks of the site": lambda: network_verdicts.site_networks(
            config.cloud.network, config.batch, interfaces(), node
        ),
        "tuning": lambda: _tuning(config),
        "throughput": lambda: [
            network_verdicts.throughput(shaper.trouble(), config.network.unshaped)
        ],
        "programs": _programs,
        "shared folders": lambda: _shares(config),
        "guestfs": lambda: [_guestfs(config)],
        "sfq": lambda: [network_verdicts.sfq(_sfq_trouble())],
        "images": lambda: files.images(config),
        "disk space": lambda: files.space(config),
        "charge": lambda: _charge(config),
        "api": lambda: api.checks(config),
        "volumes": lambda: storage.checks(config),
        "permissions": lambda: files.permissions(config, config_file),
        "clock": lambda: [verdicts.clock(_clock_state())],
    }
    for name, seen in looks.items():
        try:
            yield from seen()
        except (WnodesError, OSError) as error:
            yield unknown(name, f"can't be looked at: {error}")


def _kvm(config: Config) -> Check:
    accel = config.machine.accel
    if accel == "tcg":
        return verdicts.kvm(accel, works=False, why="")
    kept = Path(config.bait.state_dir) / "kvm.json"
    if not kept.parent.is_dir():  # no bait has run here yet
        return verdicts.kvm(accel, *kvm.run_guest("kvm"))
    works = kvm.kvm_works(kept)
    return verdicts.kvm(accel, works, json.loads(kept.read_text())["why"])


def _libvirt(config: Config) -> Iterator[Check]:
    uri = config.bait.libvirt_uri
    try:
        found = bounded(LIBVIRT, lambda: look(uri))
    except UnknownError as error:
        yield fault(
            "libvirt",
            str(error),
            "start it (`systemctl start libvirtd`, or virtqemud and virtnetworkd where it is"
            " modular), and see libvirt_uri in [bait]",
        )
        return
    yield ok("libvirt", f"{found.version} at {uri}")
    yield network_verdicts.network(found, config.network)
    if "apparmor" in found.confined_by:
        server = share_server()
        allowed = not config.share.directories or files.apparmor_lets_start(server)
        yield verdicts.apparmor(server, allowed)
    uid, gid = found.qemu or (None, None)
    folders = (config.bait.state_dir, config.bait.run_dir, config.images.cache_dir)
    closed = [] if uid is None or gid is None else files.closed_to(uid, gid, map(Path, folders))
    yield file_verdicts.traversal(uid, closed)


def _firewall(node: str) -> Check:
    try:
        there = firewall.there(node)
    except WnodesError as error:
        return network_verdicts.firewall(ruleset.table(node), str(error))
    return network_verdicts.firewall(ruleset.table(node), None if there else "it has none")


def _tunnels(config: Config) -> Iterator[Check]:
    network = config.network.tunnels
    if network is None:
        return
    trouble = None
    try:  # in a network of its own, which ends with the program
        device = ["ip", "link", "add", "wnodes", "type", "vxlan", "id", "1", "dstport", "4789"]
        run(["unshare", "--net", *device], deadline=LOCAL)
    except WnodesError as error:
        trouble = str(error)
    end = tunnel_end(network)
    yield network_verdicts.tunnels(network, end.address if end else "", trouble)


def _tuning(config: Config) -> Iterator[Check]:
    machine = topology.read()
    yield verdicts.pinning(SYSTEMS[config.lrms].names_cpus)
    yield verdicts.placement(machine)
    yield verdicts.huge_pages(machine)
    yield verdicts.devices()


def _programs() -> Iterator[Check]:
    for name, remedy in _PROGRAMS.items():
        path = shutil.which(name)
        yield ok(name, path) if path else fault(name, "not found in PATH", remedy)


def _shares(config: Config) -> Iterator[Check]:
    if not config.share.directories:
        return
    try:
        said = run([str(share_server()), "--try"], deadline=LOCAL)
        yield ok("virtiofsd", said.strip().partition("\n")[0])
    except WnodesError as error:
        yield fault(
            "virtiofsd",
            f"no VM of a trusted image can have its shared folders: {error}",
            "install qemu-system-common (Debian 12) or virtiofsd; allow root user namespaces"
            " (user.max_user_namespaces); or empty [share] directories",
        )
    for directory in config.share.directories:
        if not Path(directory).is_dir():
            yield fault(
                "shared folders",
                f"{directory} is not there: no VM of a trusted image starts",
                "mount or make it, or take it out of [share] directories",
            )


def _charge(config: Config) -> Iterator[Check]:
    if config.machine.charge == "cgroup":
        yield verdicts.charge(SYSTEMS[config.lrms].charging.trouble())


def _guestfs(config: Config) -> Check:
    """Only images with context = guestfs need it: without any, nothing lacks."""
    needed = any(
        image.context == "guestfs" for image in catalogue.images(Path(config.images.catalogue))
    )
    try:
        importlib.import_module("guestfs")
        sandbox.guestfs_user()
    except (ImportError, WnodesError) as error:
        if not needed:
            return ok("guestfs", f"no image here needs it, and it can't be used: {error}")
        return fault(
            "guestfs",
            f"no VM of an image with context = guestfs can be made: {error}",
            "install python3-guestfs; a virtual environment needs --system-site-packages",
        )
    return ok("guestfs", f"the binding can be imported, and {sandbox.GUESTFS_USER} is there")


def _sfq_trouble() -> str | None:
    """What is in the way of an sfq queue, tried where it touches nothing: a network namespace
    that is gone when tc ends."""
    try:
        run(
            ["unshare", "--net", "--", "tc", "qdisc", "add", "dev", "lo", "root", "sfq"],
            deadline=LOCAL,
        )
    except WnodesError as error:
        return str(error)
    return None


def _clock_state() -> int:
    """What adjtimex(2) returns when asked to change nothing; -1 where there is no such call."""
    try:
        asked = ctypes.create_string_buffer(1024)  # struct timex, which is smaller, all zero
        return int(ctypes.CDLL(None).adjtimex(asked))
    except (OSError, AttributeError):
        return -1
