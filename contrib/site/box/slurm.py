"""A Slurm of the site's own: munge, one controller, two nodes on this machine."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Template

from . import accounting, cgroups
from .errors import SiteError
from .layout import NODES, Layout, Memory
from .part import Part
from .ports import port
from .process import Processes, run, succeeds

# A node that an administrator drains is as it should be.
IN_SERVICE = ("idle", "mixed", "allocated", "completing", "draining", "drained")
TEMPLATE = Path(__file__).parent / "slurm.conf.in"


def configure(site: Layout, memory: Memory) -> None:
    """Write slurm.conf, munge's key, and what the accounting needs."""
    site.munge_socket.parent.mkdir(parents=True, exist_ok=True)
    site.slurm_conf.parent.mkdir(parents=True, exist_ok=True)
    for folder in (site.spool / "slurmctld", *(site.spool / f"slurmd-{n}" for n in NODES)):
        folder.mkdir(parents=True, exist_ok=True)
    text = Template(TEMPLATE.read_text()).substitute(
        munge_socket=site.munge_socket,
        controller_port=port(memory, "slurmctld"),
        accounting_port=port(memory, "slurmdbd"),
        node_ports=",".join(str(port(memory, f"slurmd-{node}")) for node in NODES),
        nodes=",".join(NODES),
        hooks=site.hooks,
        run=site.run,
        spool=site.spool,
        metering=cgroups.metering(),
    )
    site.slurm_conf.write_text(text)
    groups = cgroups.configuration(run(["slurmd", "-V"]))
    site.slurm_conf.with_name("cgroup.conf").write_text(groups)
    key = _munge_key(site)
    if not key.exists():
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
    accounting.configure(site, memory)


def settings(site: Layout) -> Mapping[str, str]:  # noqa: ARG001 (one of those of batch.py)
    """What it fills into wnodes.toml."""
    charge = "cgroup" if cgroups.usable() else "none"
    return {"lrms": "slurm", "charge": charge, "drmaa": ""}


def covers(site: Layout) -> Mapping[Path, Path]:  # noqa: ARG001
    """It needs nothing of the machine's to be another."""
    return {}


def foundations(site: Layout) -> Sequence[Part]:
    """munge, and the accounting."""
    return (_munge(site), accounting.database(site), accounting.daemon(site))


def _munge(site: Layout) -> Part:
    """The daemon that vouches for who sends what."""
    run_dir = site.munge_socket.parent
    return Part(
        "munged",
        [
            *("munged", "--foreground", f"--socket={site.munge_socket}"),
            *(f"--key-file={_munge_key(site)}", f"--pid-file={run_dir}/pid"),
            *(f"--seed-file={run_dir}/seed", f"--log-file={run_dir}/log"),
        ],
        ready=lambda: succeeds(["munge", "--no-input", f"--socket={site.munge_socket}"]),
    )


def controller(site: Layout, memory: Memory) -> Part:
    """slurmctld."""
    return Part(
        "slurmctld",
        ["slurmctld", "-D"],
        lambda: answers(site, memory),
        env=environment(site, memory),
    )


def admit(site: Layout, memory: Memory, inside: Sequence[str]) -> None:  # noqa: ARG001
    """Accounts: who may charge which."""
    accounting.admit(site)


def nodes(site: Layout, memory: Memory, processes: Processes) -> Iterator[Part]:  # noqa: ARG001
    """The nodes' daemons."""
    return (_node(site, memory, node) for node in NODES)


def _node(site: Layout, memory: Memory, node: str) -> Part:
    return Part(
        f"slurmd-{node}",
        ["slurmd", "-D", "-N", node],
        lambda: node_state(site, memory, node) in IN_SERVICE,
        env=environment(site, memory),
        remedy=f"see its log, and `scontrol show node {node}`",
    )


def answers(site: Layout, memory: Memory) -> bool:
    """Whether the controller is up."""
    return succeeds(["scontrol", "ping"], environment(site, memory))


def node_state(site: Layout, memory: Memory, node: str) -> str:
    """The node's state in Slurm's words, with `*` if it does not answer; else `unknown`."""
    if not site.slurm_conf.exists():  # there is no site: sinfo would look for it, for a minute
        return "unknown"
    argv = ["sinfo", "--noheader", f"--nodes={node}", "--partition=main", "--format=%T"]
    try:
        return run(argv, environment(site, memory), timeout=15).strip()
    except SiteError:
        return "unknown"


def cancel_all(site: Layout, memory: Memory) -> list[str]:
    """Cancel every job; the numbers of those that had not wholly ended, with their epilog."""
    try:
        numbers = run(
            ["squeue", "--noheader", "--array", "--format=%i"], environment(site, memory)
        ).split()
    except SiteError:
        return []  # without a controller there is nothing to cancel
    if numbers:
        succeeds(["scancel", *numbers], environment(site, memory))  # not for those that end already
    return numbers


def environment(site: Layout, memory: Memory) -> Mapping[str, str]:  # noqa: ARG001
    """Where its configuration is."""
    return {"SLURM_CONF": str(site.slurm_conf)}


def clear(memory: Memory) -> None:  # noqa: ARG001
    """Remove the control groups that it has left."""
    cgroups.clear()


def _munge_key(site: Layout) -> Path:
    return site.etc / "munge.key"
