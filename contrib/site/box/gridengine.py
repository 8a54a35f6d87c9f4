"""A Grid Engine of the site's own: one qmaster, and two execution hosts on this machine.

Grid Engine knows a host by its name, by the address that this has, and by the name that the address
has. So each execution host gets a name, an address on the loopback device and a table of hosts of
its own, in which the qmaster's name has that same address: what connects to an address of the
machine's own comes from that address.
"""

import pwd
import re
import socket
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from . import private
from .errors import SiteError
from .layout import NODES, Layout, Memory
from .part import Part
from .ports import port
from .process import Processes, run, succeeds

IN_SERVICE = ("idle", "in use", "disabled")
ADDRESSES = dict(zip(NODES, ("127.83.71.1", "127.83.71.2"), strict=True))
ADMIN = "sgeadmin"  # of the package; the daemons give root up for it
PACKAGED = Path("/usr/share/gridengine")
PROGRAMS = Path("/var/lib/gridengine")  # what the package has there is links, by architecture
LIBRARY = Path("/usr/lib/gridengine-drmaa/lib/libdrmaa.so.1.0")
QUEUES = ("main", "grid")
PARALLEL = {"smp": "$pe_slots", "wide": "1"}  # cores of one host; one of each of several
CORES, MEMORY = 2, 4096  # of each node; MiB

# As a site has it for machines: memory is given to jobs, and the two complexes of wnodes-lrms.
COMPLEXES = """\
mem_free mf MEMORY <= YES YES 1G 0
wnodes wnodes BOOL == YES NO 0 0
vm vm STRING != YES NO NONE 0
"""
HOST = f"""\
hostname {{node}}
load_scaling NONE
complex_values slots={CORES},mem_free={MEMORY}M,wnodes=true,vm=none
user_lists NONE
xuser_lists NONE
projects NONE
xprojects NONE
usage_scaling NONE
report_variables NONE
"""
# A job's processes are known by a group of its own: on one machine, no two may have the same.
GROUPS = dict(zip(NODES, ("65400-65449", "65450-65499"), strict=True))
SCHEDULER = {"schedule_interval": "0:0:2", "flush_submit_sec": "1", "flush_finish_sec": "1"}
CONFIGURATION = {
    "load_report_time": "0:0:5",
    "mailer": "/bin/true",
    "loglevel": "log_info",
    "reporting_params": "accounting=true reporting=false flush_time=00:00:01 joblog=false"
    " sharelog=00:00:00",
}


def configure(site: Layout, memory: Memory) -> None:
    """Make the cell and an empty spool, where there are none; the tables of hosts each time."""
    common, spool = _root(site) / "default" / "common", _spool(site)
    if not common.exists():
        common.mkdir(parents=True)
        for folder in ("qmaster/job_scripts", "execd", "database"):
            (spool / folder).mkdir(parents=True, exist_ok=True)
        for name in ("bin", "lib", "util", "utilbin"):
            (_root(site) / name).symlink_to(PROGRAMS / name)
        bootstrap = (PACKAGED / "default-bootstrap").read_text()
        bootstrap = re.sub("/var/spool/gridengine/spooldb", f"{spool}/database", bootstrap)
        bootstrap = re.sub("/var/spool/gridengine/qmaster", f"{spool}/qmaster", bootstrap)
        (common / "bootstrap").write_text(bootstrap)
        host = socket.gethostname()
        (common / "act_qmaster").write_text(f"{host}\n")
        # Where this machine's own name has the address of localhost.
        (common / "host_aliases").write_text(f"{host} localhost\n")
        for owned in (_root(site), spool):
            run(["chown", "--recursive", f"{ADMIN}:", str(owned)])
        _as_admin(site, str(PACKAGED / "scripts/init_cluster"))
    _write_hosts(site)
    for address in ADDRESSES.values():
        run(["ip", "address", "replace", f"{address}/32", "dev", "lo"])
    memory.set("addresses", list(ADDRESSES.values()))


def _as_admin(site: Layout, script: str) -> None:
    admin = pwd.getpwnam(ADMIN)
    arguments = (str(_root(site)), "default", f"{_spool(site)}/database", ADMIN)
    who = ["setpriv", f"--reuid={admin.pw_uid}", f"--regid={admin.pw_gid}", "--clear-groups"]
    run([*who, script, *arguments])


def _write_hosts(site: Layout) -> None:
    own = "".join(f"{address} {node}\n" for node, address in ADDRESSES.items())
    (site.etc / "hosts").write_text(Path("/etc/hosts").read_text() + "\n" + own)
    for node, address in ADDRESSES.items():
        text = f"{address} {node}\n{address} {socket.gethostname()}\n127.0.0.1 localhost\n"
        (site.etc / f"hosts-{node}").write_text(text)


def settings(site: Layout) -> Mapping[str, str]:  # noqa: ARG001 (one of those of batch.py)
    """What it fills into wnodes.toml."""
    return {"lrms": "gridengine", "charge": "none", "drmaa": f'drmaa_library = "{LIBRARY}"'}


def covers(site: Layout) -> Mapping[Path, Path]:
    """The table of hosts that knows the nodes."""
    return {site.etc / "hosts": Path("/etc/hosts")}


def foundations(site: Layout) -> Sequence[Part]:  # noqa: ARG001
    """Nothing has to run before."""
    return ()


def controller(site: Layout, memory: Memory) -> Part:
    """The qmaster."""
    return Part(
        "qmaster",
        ["sge_qmaster"],
        lambda: answers(site, memory),
        env={**environment(site, memory), "SGE_ND": "1"},
    )


def nodes(site: Layout, memory: Memory, processes: Processes) -> Iterator[Part]:
    """For each node what keeps its name and its table of hosts, then its execd."""
    for node in NODES:
        keeper = private.host(node, {site.etc / f"hosts-{node}": Path("/etc/hosts")}, processes)
        yield keeper
        yield Part(
            f"execd-{node}",
            [*private.enter_host(keeper.name, processes), "sge_execd"],
            lambda node=node: node_state(site, memory, node) in IN_SERVICE,  # type: ignore[misc]
            env={
                **environment(site, memory),
                "SGE_ND": "1",
                "SGE_EXECD_PORT": str(port(memory, f"execd-{node}")),
            },
            remedy=f"see its log, and `qhost -h {node}`",
        )


def admit(site: Layout, memory: Memory, inside: Sequence[str]) -> None:
    """Hosts, complexes, parallel environment, queues with our hooks; said each time anew."""

    def qconf(*arguments: str) -> str:
        return run([*inside, "qconf", *arguments], environment(site, memory))

    def load(option: str, name: str, text: str) -> None:
        path = site.run / "qconf" / name  # for qconf, too, its name says what it is about
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        qconf(option, str(path))

    names = ",".join(NODES)
    for option, what in (("-ah", names), ("-as", f"{names},{socket.gethostname()}")):
        succeeds([*inside, "qconf", option, what], environment(site, memory))  # known ones fail
    own = {line.split()[0] for line in COMPLEXES.splitlines()}
    known = [line for line in qconf("-sc").splitlines() if line.split()[0] not in own]
    load("-Mc", "complexes", "\n".join([*known, COMPLEXES]))
    load("-Msconf", "scheduler", _changed(qconf("-ssconf"), SCHEDULER))
    here = {
        **CONFIGURATION,
        "execd_spool_dir": f"{_spool(site)}/execd",
        "jsv_url": f"script:{site.hooks}/jsv",
    }
    load("-Mconf", "global", _changed(qconf("-sconf"), here))
    known_hosts = _names(inside, "-sel", site, memory)
    for node in (node for node in NODES if node not in known_hosts):
        load("-Ae", node, HOST.format(node=node))
        load("-Aconf", node, f"gid_range {GROUPS[node]}\n")
    environments = _names(inside, "-spl", site, memory)
    packaged = (PACKAGED / "util/resources/pe/smp").read_text()
    for name, rule in PARALLEL.items():
        if name not in environments:
            load("-Ap", name, _changed(packaged, {"pe_name": name, "allocation_rule": rule}))
    present = _names(inside, "-sql", site, memory)
    for queue in QUEUES:
        wanted = {
            "qname": queue,
            "hostlist": " ".join(NODES),
            "slots": str(CORES),
            "pe_list": " ".join(PARALLEL),
            "rerun": "TRUE",
            "load_thresholds": "NONE",  # a machine whose cores are shared with the tests
            "shell": "/bin/bash",
            "shell_start_mode": "unix_behavior",
            "notify": "0:0:20",
            "prolog": f"root@{site.hooks}/prolog",
            "epilog": f"root@{site.hooks}/epilog",
            "starter_method": f"{site.hooks}/starter",
        }
        template = qconf("-sq", queue) if queue in present else qconf("-sq")
        load("-Mq" if queue in present else "-Aq", queue, _changed(template, wanted))


def _changed(text: str, values: Mapping[str, str]) -> str:
    """A listing of qconf's, long lines joined, with other values for some of its keys."""
    lines = []
    for line in text.replace("\\\n", " ").splitlines():
        key = line.split(None, 1)[0] if line.strip() else ""
        lines.append(f"{key} {values[key]}" if key in values else line)
    return "\n".join([*lines, ""])


def _names(inside: Sequence[str], option: str, site: Layout, memory: Memory) -> list[str]:
    """What there is of a kind; qconf fails where there is nothing of it."""
    try:
        return run([*inside, "qconf", option], environment(site, memory)).split()
    except SiteError:
        return []


def answers(site: Layout, memory: Memory) -> bool:
    """Whether the qmaster is up."""
    return succeeds(["qconf", "-sh"], environment(site, memory))


def node_state(site: Layout, memory: Memory, node: str) -> str:
    """`idle`, `in use` or `disabled`; else the letters of its queues' states, or `unknown`."""
    try:
        listing = run(
            ["qstat", "-f", "-xml", "-q", f"*@{node}"], environment(site, memory), timeout=15
        )
    except SiteError:
        return "unknown"
    said = ElementTree.fromstring(listing)  # noqa: S314 (the site's own qmaster said it)
    queues = said.findall("queue_info/Queue-List")
    if len(queues) < len(QUEUES) or any(queue.find("arch") is None for queue in queues):
        return "unknown"
    letters = "".join(queue.findtext("state", "") for queue in queues)
    if letters:
        return "disabled" if set(letters) == {"d"} else letters
    used = sum(int(queue.findtext("slots_used", "0")) for queue in queues)
    return "in use" if used else "idle"


def cancel_all(site: Layout, memory: Memory) -> Sequence[str]:
    """Cancel every job; the numbers of those that had not wholly ended."""
    try:
        rows = run(["qstat", "-u", "*"], environment(site, memory)).splitlines()[2:]
    except SiteError:
        return []  # without a qmaster there is nothing to cancel
    numbers = sorted({row.split()[0] for row in rows})
    if numbers:
        succeeds(["qdel", *numbers], environment(site, memory))
    return numbers


def environment(site: Layout, memory: Memory) -> Mapping[str, str]:
    """The cell, and where its qmaster listens."""
    return {
        "SGE_ROOT": str(_root(site)),
        "SGE_CELL": "default",
        "SGE_QMASTER_PORT": str(port(memory, "qmaster")),
    }


def clear(memory: Memory) -> None:
    """Take the nodes' addresses away."""
    for address in memory.get("addresses", ()):
        succeeds(["ip", "address", "delete", f"{address}/32", "dev", "lo"])


def _root(site: Layout) -> Path:
    return site.etc / "gridengine"


def _spool(site: Layout) -> Path:
    return site.spool / "gridengine"
