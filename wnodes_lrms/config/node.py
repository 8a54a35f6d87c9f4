"""The tables of the configuration file for the nodes, and what their settings may be.

Docstrings, descriptions, defaults and limits are also the reference manual
(contrib/docs/reference.py writes it). Those of the cloud service are in config/cloud.py and
config/bridge.py.
"""

import ipaddress
from typing import Literal

from pydantic import (
    Field,
    model_validator,
)

from wnodes_lrms.config.values import OpeningText, PathText, Section, Subnet, Tag, TagOrAll
from wnodes_lrms.rates import Mbits


class Bait(Section):
    """The daemon on each node. In the paths, %n stands for the node's name in the LRMS."""

    socket: PathText = Field(
        "/run/wnodes/%n/bait.sock", description="control socket, for hooks, starters and `wnodes`"
    )
    state_dir: PathText = Field(
        "/var/lib/wnodes/%n", description="ledger and VMs' disks; room for every overlay"
    )
    run_dir: PathText = Field(
        "/run/wnodes/%n", description="keys and seeds of the VMs that run now; best on a tmpfs"
    )
    libvirt_uri: str = Field("qemu:///system", description="the libvirt that runs the VMs")
    grace: int = Field(
        60,
        ge=1,
        description="seconds for which the batch system must not list a job, and none of its "
        "processes be heard, before its VM is ended; an epilog is obeyed at once",
    )


class Images(Section):
    """The catalogue of images, and each node's cache of them."""

    catalogue: PathText = Field(
        "/etc/wnodes/images", description="one `<tag>.toml` for each image, the same on all nodes"
    )
    credentials: PathText | None = Field(
        None,
        description="names and passwords for the web servers that images come from, as in netrc(5)"
        " (`machine HOST login NAME password WORD`); root's, mode 0600. A URL with a password in it"
        " is refused: everybody reads the catalogue",
    )
    cache_dir: PathText = Field("/var/cache/wnodes/%n", description="verified copies")
    cache_limit: int = Field(
        51200,
        gt=0,
        description="MiB; above it the images used least recently go, never one in use",
    )


class Machine(Section):
    """How a VM is made from an allocation."""

    memory_overhead: int = Field(
        128, ge=0, description="MiB of each allocation that are QEMU's own, not the guest's"
    )
    min_free_disk: int = Field(
        512, ge=0, description="MiB that must be free in state_dir before a VM is made"
    )
    ready_timeout: int = Field(
        300, gt=0, description="seconds in which its SSH server must answer, or the VM has failed"
    )
    accel: Literal["auto", "kvm", "tcg"] = Field(
        "auto", description="auto: KVM if a guest has really booted in it, else emulation"
    )
    charge: Literal["none", "cgroup"] = Field(
        "none",
        description="cgroup: QEMU is put into its batch job's control groups, so that its CPU"
        " time and memory are the job's in Slurm's accounting; what that needs is in"
        " docs/accounting.md. Cloud VMs never are",
    )


class Network(Section):
    """The network of a node's guests: a libvirt network that the bait makes, with NAT."""

    name: str = Field(
        "wnodes",
        pattern=r"^[a-z0-9][a-z0-9-]{0,11}$",
        description="name of the libvirt network; its bridge is called wn-<name>",
    )
    subnet: Subnet = Field(
        ipaddress.IPv4Network("192.168.190.0/24"), description="addresses of the guests"
    )
    closed: tuple[ipaddress.IPv4Network, ...] = Field(
        tuple(
            ipaddress.IPv4Network(net)
            for net in ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16")
        ),
        description="networks that guests may not reach. Those that the node itself is on, the"
        " node, and 169.254.0.0/16 are closed too, whatever stands here",
    )
    tunnels: ipaddress.IPv4Network | None = Field(
        None,
        description="the network by which nodes reach each other: with it users' private networks"
        " span the nodes, by VXLAN between each node's own address in it. It is for nodes alone:"
        " whoever can send there under a node's address is on all private networks. Without it VMs"
        " of one private network share a node",
    )
    tunnel_port: int = Field(
        4789,
        ge=1,
        le=65535,
        description="UDP port of those tunnels, the same on all nodes; nothing else may use it",
    )
    open: tuple[OpeningText, ...] = Field(
        (),
        description="what guests may reach though it is closed: `node:3128/tcp` (a service of the"
        " node itself), `10.0.0.5:2049/tcp`, `10.1.0.0/16`",
    )
    throughput: Mbits | None = Field(
        None,
        description="Mbit/s that each card on this network may carry each way, whatever is asked"
        " for; without it there is no such limit",
    )
    unshaped: Literal["refuse", "warn"] = Field(
        "refuse",
        description="what a node does whose kernel can't limit throughput: refuse VMs that are to"
        " have a limit, or warn, and run them without",
    )


class Hooks(Section):
    """Where the hooks of the batch system go: the same on all nodes."""

    folder: PathText = Field(
        "/usr/local/libexec/wnodes", description="prolog, epilog, starter; never a shared folder"
    )
    slurm_conf: PathText = Field(
        "/etc/slurm/slurm.conf", description="Slurm's configuration; only ever read"
    )
    torque_home: PathText = Field(
        "/var/spool/torque",
        description="Torque's own folder, with mom_priv, torque.cfg, server_name",
    )


class Share(Section):
    """What VMs from trusted images see of the node."""

    directories: tuple[PathText, ...] = Field(
        (),
        max_length=16,
        description="given by virtiofs, under the same path, to VMs whose image is trusted",
    )


class Default(Section):
    """An image for jobs that ask for none: those that fit all keys given here get it."""

    image: Tag = Field(description="what such jobs run in")
    partition: str | None = Field(None, description="only jobs in this partition")
    account: str | None = Field(None, description="only jobs that charge this account")
    qos: str | None = Field(None, description="only jobs of this quality of service")


class Allow(Section):
    """Who may use an image. An image that no rule names (by tag or "*") is for everybody."""

    image: TagOrAll = Field(description='a tag, or "*" for all')
    users: tuple[str, ...] = Field((), description="these users may")
    groups: tuple[str, ...] = Field((), description="whoever is in one of these groups may")
    accounts: tuple[str, ...] = Field((), description="whoever charges one of these accounts may")


class Batch(Section):
    """What the VMs of some batch jobs get beside cores, memory and image: those that fit image,
    partition and account, where these are given. The first rule that fits counts, and no other.
    What cloud VMs get is in the networks and grants of the bridge."""

    image: Tag | None = Field(None, description="only VMs of this image")
    partition: str | None = Field(None, description="only jobs in this partition or queue")
    account: str | None = Field(
        None,
        description="only jobs that charge this account (Slurm), or are of this project (Grid"
        " Engine); the other batch systems vouch for neither",
    )
    network: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9-]{0,30}$",
        description="the `[[cloud.network]]` on which they have a second card, by which they reach"
        " the world. The node gives it one of its addresses there (`batch`); where the network has"
        " no `subnet`, the guest asks by DHCP",
    )
    inbound: Mbits | None = Field(None, description="Mbit/s toward the guest, of each card")
    outbound: Mbits | None = Field(None, description="Mbit/s from the guest, of each card")
    scratch: int = Field(
        0, ge=0, le=10_000, description="GiB of the scratch disk of a job that asks for none"
    )
    scratch_most: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="GiB that a job may ask for, by WNODES_SCRATCH; without it as much as"
        " `scratch`",
    )
    disk_rate: int = Field(
        0,
        ge=0,
        le=1 << 20,
        description="MiB a second that such a VM reads from and writes to each of its disks at"
        " most, together; 0: no limit",
    )
    disk_iops: int = Field(
        0, ge=0, le=1 << 24, description="the same for requests a second; 0: no limit"
    )

    @model_validator(mode="after")
    def _gives(self) -> "Batch":
        gifts = {"network", "inbound", "outbound", "scratch", "scratch_most"}
        gifts |= {"disk_rate", "disk_iops"}
        if not gifts & self.model_fields_set:
            raise ValueError(f"one of {', '.join(sorted(gifts))} is needed")
        if self.scratch_most is not None and self.scratch_most < self.scratch:
            raise ValueError(f"scratch_most: {self.scratch_most} is less than scratch")
        return self
