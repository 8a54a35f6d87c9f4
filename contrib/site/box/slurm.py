"""A Slurm of the site's own: munge, one controller, two nodes on this machine."""

import secrets
from pathlib import Path
from string import Template

from . import cgroups
from .errors import SiteError
from .layout import NODES, Layout, Memory
from .part import Part
from .ports import port
from .process import run, succeeds

# A node that an administrator drains is as it should be.
IN_SERVICE = ("idle", "mixed", "allocated", "completing", "draining", "drained")
TEMPLATE = Path(__file__).parent / "slurm.conf.in"


def configure(site: Layout, memory: Memory) -> None:
    """Write slurm.conf and munge's key."""
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
    if cgroups.usable():
        site.slurm_conf.with_name("cgroup.conf").write_text(cgroups.CONFIGURATION)
    key = _munge_key(site)
    if not key.exists():
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))


def munge(site: Layout) -> Part:
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


def parts(site: Layout) -> list[Part]:
    """The controller, then the nodes."""
    controller = Part(
        "slurmctld", ["slurmctld", "-D"], lambda: controller_answers(site), env=_env(site)
    )
    return [controller, *(_node(site, node) for node in NODES)]


def _node(site: Layout, node: str) -> Part:
    return Part(
        f"slurmd-{node}",
        ["slurmd", "-D", "-N", node],
        lambda: node_state(site, node) in IN_SERVICE,
        env=_env(site),
        remedy=f"see its log, and `scontrol show node {node}`",
    )


def controller_answers(site: Layout) -> bool:
    """Whether the controller is up."""
    return succeeds(["scontrol", "ping"], _env(site))


def node_state(site: Layout, node: str) -> str:
    """The node's state in Slurm's words, with `*` if it does not answer; else `unknown`."""
    argv = ["sinfo", "--noheader", f"--nodes={node}", "--partition=main", "--format=%T"]
    try:
        return run(argv, _env(site), timeout=15).strip()
    except SiteError:
        return "unknown"


def cancel_all(site: Layout) -> list[str]:
    """Cancel every job; the numbers of those that had not wholly ended, with their epilog."""
    try:
        numbers = run(["squeue", "--noheader", "--array", "--format=%i"], _env(site)).split()
    except SiteError:
        return []  # without a controller there is nothing to cancel
    if numbers:
        succeeds(["scancel", *numbers], _env(site))  # not for those that end already
    return numbers


def _munge_key(site: Layout) -> Path:
    return site.etc / "munge.key"


def _env(site: Layout) -> dict[str, str]:
    return {"SLURM_CONF": str(site.slurm_conf)}
