"""A libvirt of the site's own: its daemons, and putting back what they change on the machine."""

import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path

from .errors import SiteError
from .layout import NODES, Layout, Memory
from .part import Part, listens
from .ports import TUNNELS
from .process import Processes, pids, run, succeeds, this_boot, wait_until

IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
TABLES = ("filter", "nat", "mangle")

DAEMON = """\
unix_sock_group = "root"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
"""
# No security driver: the machine's AppArmor profiles know the usual folders only. No namespaces a
# machine: then all its processes stay in the site's. No cgroups: they would be beside the
# machine's own libvirt's, under the same names.
QEMU = """\
security_driver = "none"
namespaces = []
cgroup_controllers = []
"""


def configure(site: Layout, memory: Memory) -> None:
    """Write the daemons' configuration; remember what they are about to change on the machine."""
    etc = site.etc / "libvirt"
    etc.mkdir(parents=True, exist_ok=True)
    (etc / "libvirtd.conf").write_text(DAEMON)
    (etc / "virtlogd.conf").write_text("")
    (etc / "qemu.conf").write_text(QEMU)
    if memory.get("before") is None:
        memory.set(
            "before",
            {"ip_forward": IP_FORWARD.read_text().strip(), "firewall": bool(_firewall_chains())},
        )
    if memory.get("subnets") is None:
        memory.set("subnets", free_subnets(json.loads(run(["ip", "-json", "-4", "route"]))))


def free_subnets(routes: Sequence[dict[str, str]]) -> list[str]:
    """For each node a /24 that no route of the machine touches.

    Raises SiteError if there is none in 192.168.190.0 to 192.168.254.0.
    """
    taken = [ipaddress.ip_network(r["dst"]) for r in routes if r["dst"] != "default"]
    nets = [ipaddress.ip_network(f"192.168.{third}.0/24") for third in range(190, 255)]
    free = [str(net) for net in nets if not any(net.overlaps(other) for other in taken)]
    if len(free) < len(NODES):
        raise SiteError("no network is free for the machines", "look at `ip route`")
    return free[: len(NODES)]


def parts(site: Layout) -> list[Part]:
    """The daemons, in the order in which they start."""
    etc, run_dir = site.etc / "libvirt", site.run / "libvirt"
    return [
        Part(
            "virtlogd",
            ["virtlogd", "-f", f"{etc}/virtlogd.conf", "-p", f"{run_dir}/virtlogd.pid"],
            ready=lambda: listens(run_dir / "virtlogd-sock"),
        ),
        Part(
            "libvirtd",
            ["libvirtd", "-f", f"{etc}/libvirtd.conf", "-p", f"{run_dir}/libvirtd.pid"],
            ready=lambda: succeeds([*_virsh(site), "version"]),
            patience=60,  # its first start asks QEMU for all that it can do
        ),
    ]


def left_behind(site: Layout, memory: Memory) -> bool:
    """Whether libvirt's own notes tell of machines or networks, which only a libvirtd can end."""
    notes = site.run / "libvirt"
    if memory.get("boot") != this_boot():
        return False
    return any(notes.glob("qemu/*.xml")) or any(notes.glob("network/*.xml"))


def destroy_all(site: Layout) -> None:
    """End every machine and network of this libvirtd. Raises SiteError if some live on."""
    if not wait_until(lambda: not _end_each(site), 30):
        raise SiteError(
            f"machines or networks do not end: {' '.join(_end_each(site))}",
            f"virsh --connect '{site.libvirt_uri}' list --all, and net-list --all",
        )


def _end_each(site: Layout) -> list[str]:
    """Try to end each that is there; some may end by themselves meanwhile."""
    found: list[str] = []
    for kind in ("", "net-"):
        for argv, end in ((["--name"], "destroy"), (["--all", "--name"], "undefine")):
            for name in run([*_virsh(site), f"{kind}list", *argv]).split():
                found.append(name)
                succeeds([*_virsh(site), f"{kind}{end}", name])
    return found


def restore(memory: Memory, processes: Processes) -> None:
    """Put firewall and forwarding back as `up` found them, unless another libvirt needs them."""
    for node in NODES:  # the baits' own, which they leave for the machines that outlive them
        for family in ("bridge", "inet"):
            succeeds(["nft", "delete", "table", family, f"wnodes-{node}"])
    for device in _tunnels():
        succeeds(["ip", "link", "delete", device])
    before = memory.get("before")
    if before is None or _other_daemons(processes):
        return
    if not before["firewall"]:
        for command in ("iptables", "ip6tables"):
            for table in TABLES:
                _remove_chains(command, table)
    if before["ip_forward"] == "0":
        IP_FORWARD.write_text("0")


def _tunnels() -> list[str]:
    """The VXLAN devices of this site's nodes, whose bridges have gone with the networks."""
    shown = json.loads(run(["ip", "-json", "-details", "link", "show", "type", "vxlan"]) or "[]")
    ports = range(TUNNELS, TUNNELS + len(NODES))
    links = [link for link in shown if link]
    return [x["ifname"] for x in links if x["linkinfo"]["info_data"]["port"] in ports]


def _virsh(site: Layout) -> list[str]:
    return ["virsh", "--quiet", "--connect", site.libvirt_uri]


def _rules(command: str, table: str) -> list[str]:
    return run([command, "--wait", "-t", table, "--list-rules"]).splitlines()


def _firewall_chains() -> list[str]:
    rules = [rule for table in TABLES for rule in _rules("iptables", table)]
    return [rule for rule in rules if rule.startswith("-N LIBVIRT_")]


def _remove_chains(command: str, table: str) -> None:
    rules = _rules(command, table)
    edit = [command, "--wait", "-t", table]
    chains = [rule.split()[1] for rule in rules if rule.startswith("-N LIBVIRT_")]
    for rule in rules:
        words = rule.split()
        if words[0] == "-A" and words[1] not in chains and words[-1] in chains:
            run([*edit, "-D", *words[1:]])
    for chain in chains:
        run([*edit, "-F", chain])
    for chain in chains:
        run([*edit, "-X", chain])


def _other_daemons(processes: Processes) -> bool:
    ours = processes.pid("libvirtd")
    for pid in pids():
        try:
            comm = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            continue
        if comm in ("libvirtd", "virtnetworkd", "virtqemud") and pid != ours:
            return True
    return False
