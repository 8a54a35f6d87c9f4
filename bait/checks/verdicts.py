"""What a node's checks conclude from what was seen. Pure: bait/checks/node.py and
bait/checks/files.py do the looking."""

import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network
from pathlib import Path

from bait.cloud.lvm import Contents
from bait.hypervisor.domain import Inventory
from bait.machine.topology import Topology
from bait.machine.tuning import QUEUES
from wnodes_lrms.config.load import Batch, Network, Offer
from wnodes_lrms.doctor import Check, fault, ok, unknown, warning

_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronized


def kvm(accel: str, works: bool, why: str) -> Check:
    """`accel` is the configuration's word; `works` and `why` are the probe's answer."""
    if accel == "tcg":
        return ok("kvm", "not used: the configuration says emulation (accel = 'tcg')")
    if works:
        return ok("kvm", f"works, and VMs have the node's own CPU model: {why}")
    remedy = (
        "switch virtualization on in the firmware and load kvm_intel or kvm_amd; where that"
        " can't be, set accel = 'tcg' in [machine]"
    )
    if accel == "kvm":
        return fault("kvm", f"forced by accel = 'kvm', and does not work: {why}", remedy)
    return warning("kvm", f"VMs are emulated, which is slow: {why}", remedy)


def network(found: Inventory, wanted: Network) -> Check:
    """Whether the guests' network is active."""
    remedy = "restart wnodes-bait: it makes the network, or its log says why not"
    if wanted.name in found.networks:
        return ok("network", f"{wanted.name} is active, {wanted.subnet}")
    return fault("network", f"{wanted.name} is not active in libvirt", remedy)


def firewall(table: str, trouble: str | None) -> Check:
    """`trouble` is why nftables does not hold the guests by the tables of this name."""
    name = "guests' firewall"
    if trouble is None:
        return ok(name, f"nftables has the tables {table}")
    return fault(
        name,
        f"nftables has no tables {table}: guests reach the node and its networks, under any"
        f" address: {trouble}",
        "install nftables, with a kernel that has its families bridge and inet, and restart"
        " wnodes-bait: it makes the tables, or its log says why not",
    )


def tunnels(network: IPv4Network, end: str, trouble: str | None) -> Check:
    """`end` is the node's own address in the network of the tunnels; `trouble` is why the kernel
    can't make any."""
    name = "tunnels of private networks"
    if trouble is not None:
        remedy = "use a kernel with VXLAN (module vxlan), or leave [network] tunnels out"
        return fault(name, f"the kernel makes none: {trouble}", remedy)
    if not end:
        seen = f"this node has no address in {network}: it takes no VM on a private network"
        return fault(name, seen, "give it one, or see [network] tunnels")
    return ok(name, f"from {end}")


def site_networks(
    offers: Sequence[Offer], rules: Sequence[Batch], interfaces: Collection[str]
) -> Iterator[Check]:
    """Whether this node has the networks that it offers, and those that batch jobs' VMs are to be
    on; `interfaces` are the node's."""
    for offer in offers:
        name = f"network {offer.name}"
        if offer.bridge in interfaces:
            yield ok(name, f"by the bridge {offer.bridge}")
        else:
            yield fault(
                name,
                f"this node has no bridge {offer.bridge}: it takes no VM on that network",
                "make the bridge, or take the network out of this node's [[cloud.network]]",
            )
    for missing in sorted(
        {rule.network for rule in rules if rule.network} - {o.name for o in offers}
    ):
        yield warning(
            f"network {missing}",
            "this node does not offer it: jobs whose VMs are to be on it are tried elsewhere, and"
            " held after some tries",
            "keep such jobs off this node (partition, feature), or add a [[cloud.network]]",
        )


def throughput(trouble: str, unshaped: str) -> Check:
    """`trouble` is why the kernel can't limit what cards carry, `unshaped` what the node then does
    with VMs that are to be limited."""
    name = "throughput"
    if not trouble:
        return ok(name, "the kernel can limit it")
    remedy = "load the modules ifb, sch_tbf, sch_ingress, cls_u32 and act_mirred; install iproute2"
    if unshaped == "warn":
        seen = f"not limited, VMs run without (unshaped = 'warn'): {trouble}"
        return warning(name, seen, remedy)
    return warning(name, f"VMs that are to have a limit are refused here: {trouble}", remedy)


def apparmor(server: Path, allowed: bool) -> Check:
    """`allowed`: whether libvirt's daemon may start this server of shared folders, if any are
    shared."""
    if allowed:
        return ok("apparmor", "libvirt confines each VM to its own files by it")
    return fault(
        "apparmor",
        f"keeps libvirt from starting {server}: no VM of a trusted image starts",
        f"install the package wnodes-node, or write `{server} PUx,` into"
        " /etc/apparmor.d/local/usr.sbin.libvirtd (or usr.sbin.virtqemud) and `systemctl reload"
        " apparmor`",
    )


def pinning(named: bool) -> Check:
    """`named`: whether the batch system tells which CPUs a job has."""
    if named:
        return ok("pinning", "each vCPU has a CPU of its job's, where the batch system binds jobs")
    return ok("pinning", "none: this batch system does not tell which CPUs a job has")


def placement(machine: Topology) -> Check:
    """Where VMs have their memory on this machine."""
    name, count = "memory placement", sum(node.memory > 0 for node in machine.nodes)
    if count < 2:
        return ok(name, "nothing to choose: all memory is equally far from all CPUs")
    return ok(name, f"{count} NUMA nodes: a pinned VM's memory is on those of its CPUs, if free")


def huge_pages(machine: Topology) -> Check:
    """Which huge pages are there for VMs."""
    sizes = sorted({size for node in machine.nodes for size in node.free}, reverse=True)
    free = {size: sum(node.free.get(size, 0) for node in machine.nodes) for size in sizes}
    free = {size: count - machine.reserved.get(size, 0) for size, count in free.items()}
    pools = [f"{count} of {size // 1024} MiB" for size, count in free.items() if count > 0]
    if not pools:
        return ok("huge pages", "none are free: VMs have pages as other processes have")
    return ok("huge pages", f"free, for VMs that fit into them: {', '.join(pools)}")


def devices() -> Check:
    """What follows from a VM's cores alone."""
    return ok(
        "VMs' devices",
        "with several cores: a thread of its own for the disk, a queue of each card for each core"
        f" (at most {QUEUES})",
    )


class Copy(Enum):
    """A node's own copy of an image file, held against the checksum that is its name."""

    ABSENT = "absent"
    RIGHT = "right"
    WRONG = "wrong"
    UNREAD = "unread"  # it would have taken too long


@dataclass(frozen=True)
class PartSeen:
    """A file of an image: what is wrong with its source (nothing: None), and the node's copy."""

    source: str
    trouble: str | None
    copy: Copy
    path: Path


def image(tag: str, parts: Sequence[PartSeen], unfit: str | None = None) -> Check:
    """Whether VMs can be made from an image. `unfit` is why none starts from what its files have,
    whoever has them."""
    name = f"image {tag}"
    for part in parts:
        if part.copy is Copy.WRONG:
            return fault(
                name,
                f"the node's copy of {part.source} is damaged",
                f"`rm {part.path}`: the next job fetches it again",
            )
    for part in parts:
        if part.trouble and part.copy is Copy.ABSENT:
            return fault(
                name,
                f"{part.source}: {part.trouble}",
                f"bring the file back, or name another with `wnodes image add {tag} …`",
            )
    for part in parts:
        if part.trouble:
            return warning(
                name,
                f"only the node's copy is left; {part.source}: {part.trouble}",
                "bring the file back before the copy is evicted, or other nodes need it",
            )
    if unfit:
        return fault(name, unfit, f"name another with `wnodes image add {tag} …`")
    unread = [part for part in parts if part.copy is Copy.UNREAD]
    if unread:
        return unknown(
            name,
            f"reachable; {len(unread)} of its cached files take too long to verify here",
            f"`sha256sum {unread[0].path}` must say the file's own name",
        )
    cached = sum(part.copy is Copy.RIGHT for part in parts)
    copies = f"{cached} of them cached and verified" if cached else "none cached yet"
    return ok(name, f"{len(parts)} files reachable, {copies}")


def space(folder: Path, free: int, needed: int) -> Check:
    """Room for overlays, without what is promised to scratch disks; both numbers are MiB."""
    if free < needed:
        return fault(
            "disk space",
            f"{folder} has {free} MiB free, min_free_disk asks for {needed}: no VM is made",
            "make room there, or move state_dir in [bait] to a larger disk",
        )
    return ok("disk space", f"{folder} has {free} MiB free")


def scratch(largest: int, room: int, able: bool) -> Check:
    """What there is for scratch disks: `largest` is the GiB of the largest that a job can have,
    `room` the MiB that are left beside min_free_disk, `able` whether there is a mkfs.ext4."""
    name = "scratch disks"
    if not able:
        return fault(name, "mkfs.ext4 is not found: none is made", "install e2fsprogs")
    if room < largest << 10:
        return warning(
            name,
            f"there is room for {max(0, room) >> 10} GiB, and a job may have {largest}: such a job"
            " is tried again, maybe elsewhere",
            "make room in state_dir, or see scratch and scratch_most in [[batch]]",
        )
    return ok(name, f"the largest, {largest} GiB, has room")


def ceph(pool: str, free: int, written: int, promised: int) -> Check:
    """Room for users' volumes in a pool of Ceph's: bytes that are free, that volumes take, and that
    they have in all."""
    owed = max(0, promised - written)
    said = f"Ceph's pool {pool} has {free >> 30} GiB free, of which {owed >> 30} are promised"
    if free <= owed:
        return warning("volumes", f"{said}: no new one is made", "give the pool more room")
    return ok("volumes", said)


def thin_pool(name: str, found: Contents, *, wipe: bool) -> Iterator[Check]:
    """A thin pool for users' volumes, and what is in it. `wipe`: the site wants what is deleted to
    be gone."""
    pool, what = found.pool, "volumes"
    said = f"thin pool {name} has {pool.size >> 30} GiB, of which {found.promised >> 30}"
    said += f" are promised and {pool.size - pool.free >> 30} are taken"
    if pool.size <= found.promised:
        yield warning(what, f"{said}: no new one is made", "give it more: lvextend")
    else:
        yield ok(what, said)
    if not pool.zeroes:
        yield fault(
            what,
            f"{name} does not zero what it gives away: users would read each other's data",
            f"lvchange --zero y {name}; what was given away before stays as it is",
        )
    if not pool.fails:
        yield warning(
            what,
            f"{name} lets those who write hang for a minute when it is full",
            f"lvchange --errorwhenfull y {name}: then their VMs are held at once",
        )
    if pool.metadata >= 80:
        yield warning(
            what,
            f"the metadata of {name} is full to {pool.metadata:g} %; at 90 % no new one is made",
            f"lvextend --poolmetadatasize +1g {name}",
        )
    if wipe and pool.discards != "passdown":
        yield warning(
            what,
            f"wipe does nothing to the disks: {name} does not pass discards down to them",
            f"lvchange --discards passdown {name}, if the disks can discard; else encrypt them",
        )


def cache_space(folder: Path, free: int, used: int, limit: int) -> Check:
    """Room for the image cache to reach its limit; all numbers are MiB."""
    if free + used < limit:
        return warning(
            "cache space",
            f"{folder} has room for {free + used} MiB: the disk is full before cache_limit"
            f" ({limit} MiB) evicts anything",
            f"set cache_limit in [images] below {free + used}, or move cache_dir",
        )
    return ok("cache space", f"{folder} holds {used} of {limit} MiB")


@dataclass(frozen=True)
class Mode:
    """Who may write to a file or folder."""

    path: Path
    uid: int
    gid: int
    mode: int


def open_to_others(lineage: Sequence[Mode], owner: int) -> str | None:
    """What lets anybody but `owner` change a file, given it and all folders above it.

    A folder with the sticky bit lets others add, but not take the place of what is there.
    """
    for at in lineage:
        if at.uid not in (0, owner):
            return f"{at.path} belongs to uid {at.uid}"
        sticky = at is not lineage[-1] and at.mode & stat.S_ISVTX
        if at.mode & stat.S_IWOTH and not sticky:
            return f"{at.path} is writable by everybody"
        if at.mode & stat.S_IWGRP and at.gid != 0 and not sticky:
            return f"{at.path} is writable by group {at.gid}"
    return None


def permissions(troubles: Collection[str]) -> list[Check]:
    """One check where all is well, otherwise one for each trouble."""
    if not troubles:
        return [ok("permissions", "configuration, catalogue and the bait's folders are root's")]
    remedy = "`chown root` it and `chmod go-w` it: its writer could take over the node"
    return [fault("permissions", trouble, remedy) for trouble in troubles]


def control_socket(path: Path, mode: int) -> Check:
    """The socket is for everybody; who may do what is decided by the caller's uid."""
    if mode & 0o666 != 0o666:
        return fault(
            "socket",
            f"{path} has mode {stat.S_IMODE(mode):o}: starters can't reach the bait",
            "`systemctl restart wnodes-bait` makes it anew",
        )
    return ok("socket", f"{path} is open to jobs' starters")


def traversal(uid: int | None, closed: Sequence[Path]) -> Check:
    """Whether libvirt's QEMU comes to the VMs' files; `closed`: folders that stop it."""
    if uid is None:
        return unknown("qemu access", "libvirt does not tell which user its QEMU is")
    if closed:
        return fault(
            "qemu access",
            f"{closed[0]} is closed to QEMU, which libvirt runs as uid {uid}",
            f"`chmod o+x {closed[0]}`, or put state_dir, run_dir and cache_dir elsewhere",
        )
    return ok("qemu access", f"uid {uid} comes through to disks, seeds and images")


def charge(trouble: str | None) -> Check:
    """`trouble` is what keeps VMs from being charged to their jobs on this node."""
    if trouble is None:
        return ok("charge", "the control groups that the batch system reads are there")
    return warning(
        "charge",
        f"VMs' CPU time and memory are not charged to their jobs: {trouble}",
        "have the kernel's control groups meter CPU and memory, as systemd does by default, or set"
        " charge = 'none' in [machine]",
    )


def clock(state: int) -> Check:
    """The kernel's word on its own clock, as adjtimex(2) returns it."""
    if state == _TIME_ERROR:
        return warning(
            "clock",
            "the kernel knows of nothing that keeps its clock right",
            "run an NTP client such as chrony, unless the hypervisor sets this clock; batch"
            " systems refuse messages when clocks differ by minutes",
        )
    if state < 0:
        return unknown("clock", "the kernel does not tell whether its clock is synchronized")
    return ok("clock", "synchronized")


def sfq(trouble: str | None) -> Check:
    """`trouble` is what tc said when asked for an sfq queue."""
    if trouble is None:
        return ok("sfq", "the kernel has it")
    if "unknown" not in trouble.lower():
        return unknown("sfq", f"can't be tried: {trouble}", "install iproute2 and util-linux")
    return ok(
        "sfq",
        "the kernel lacks the queue discipline sfq: only throughput limits of a site's own"
        " (libvirt's <bandwidth>) need it",
    )
