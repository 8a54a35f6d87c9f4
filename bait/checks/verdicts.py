"""What a node's checks conclude of its hardware and its kernel. Pure: bait/checks/node.py does the
looking."""

from pathlib import Path

from bait.machine.topology import Topology
from bait.machine.tuning import QUEUES
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
