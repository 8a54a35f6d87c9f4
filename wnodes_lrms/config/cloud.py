"""The tables of the configuration file for cloud users' VMs, as the baits make them."""

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from wnodes_lrms.config.hosts import Host
from wnodes_lrms.config.values import (
    NodeText,
    PathText,
    Section,
    Subnet,
    Subnet6,
    each_name_once,
)
from wnodes_lrms.opening import opening
from wnodes_lrms.rates import Mbits
from wnodes_lrms.tls.oneline import normal


class Api(Section):
    """The bait's HTTPS service, for bridges and administrators. Off unless `clients` names any."""

    listen: str = Field(
        "0.0.0.0:8445",
        pattern=r"^\S+:[0-9]{1,5}$",
        description="address and port",
    )
    certificate: PathText = Field(
        "/etc/grid-security/hostcert.pem", description="the node's host certificate"
    )
    key: PathText = Field("/etc/grid-security/hostkey.pem", description="its private key")
    ca_dir: PathText = Field(
        "/etc/grid-security/certificates", description="certificates and CRLs of trusted CAs"
    )
    clients: tuple[Annotated[str, AfterValidator(normal)], ...] = Field(
        (), description="names of those who may call, as /C=…/CN=…: the bridges, administrators"
    )
    order_keys: tuple[PathText, ...] = Field(
        (), description="public keys (PEM, Ed25519) of the bridges whose orders are obeyed"
    )


LeaseAccount = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_.-]{0,31}\*?$")]


def _place(text: str) -> str:
    if opening(text).network is None:
        raise ValueError(f"«{text}»: the node is opened in [network] alone")
    return text


PlaceText = Annotated[str, AfterValidator(_place)]


class Offer(Section):
    """A bridge of the node's that orders of cloud VMs may name; they may name no other."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]{0,30}$", description="as its `[[bridge.network]]` is called"
    )
    bridge: str = Field(
        pattern=r"^[A-Za-z0-9._-]{1,15}$", description="the bridge that its cards are plugged into"
    )
    vlan: int | None = Field(
        None,
        ge=1,
        le=4094,
        description="VLAN (802.1Q) that its cards are in, untagged for guests; the bridge has to"
        " filter VLANs (vlan_filtering), with libvirt 11.0 or later, or to be Open vSwitch's",
    )
    openvswitch: bool = Field(
        False,
        description="the bridge is one of Open vSwitch's. nftables does not see what passes there:"
        " nothing of ours holds its guests, the switch's own rules have to",
    )
    subnet: Subnet | None = Field(
        None,
        description="cards have an address of it, and can't use another; without it guests ask by"
        " DHCP, and what addresses they use is not held",
    )
    gateway: ipaddress.IPv4Address | None = Field(
        None, description="its router: no card has this address"
    )
    subnet6: Subnet6 | None = Field(
        None,
        description="IPv6: each card has the one address of it that follows from its MAC, and can't"
        " use another; a /64. Without it nothing of IPv6 leaves a guest",
    )
    gateway6: ipaddress.IPv6Address | None = Field(
        None, description="its router by IPv6; without it guests listen to what routers advertise"
    )
    batch: dict[NodeText, ipaddress.IPv4Network] = Field(
        {},
        description="which addresses of `subnet` each node has for VMs of batch jobs, by the nodes'"
        " names in the batch system; no two have the same, and the bridge gives none of them",
    )
    host: tuple[Host, ...] = ()
    closed: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = Field(
        (), description="networks that VMs may not reach by it, such as those of the site"
    )
    open: tuple[PlaceText, ...] = Field(
        (), description="what they may reach though it is closed: `10.0.0.5:2049/tcp`"
    )
    throughput: Mbits | None = Field(
        None,
        description="Mbit/s that each card on it may carry each way, whatever an order says;"
        " without it there is no such limit",
    )


class Pool(Section):
    """Where users' volumes are."""

    kind: Literal["directory", "rbd", "lvm"] = Field(
        "directory",
        description="directory: files in `[cloud] volumes`; rbd: images in Ceph; lvm: logical"
        " volumes of a thin pool, which each node has for itself",
    )
    shared: bool = Field(
        True,
        description="directory: all nodes share the folder; false: each has its own, and a volume"
        " stays on the node where it was made",
    )
    group: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9+_.-]{0,63}$",
        description="lvm: the volume group that has the thin pool",
    )
    name: str = Field(
        "volumes",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
        description="rbd: Ceph's pool; lvm: the thin pool. It is for nothing else",
    )
    user: str = Field(
        "wnodes",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
        description="rbd: Ceph's user, without `client.`",
    )
    secret: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
        description="rbd: UUID of the secret in each node's libvirt that has the user's key, for"
        " QEMU; without it the cluster is one that asks for no key",
    )
    conf: PathText = Field("/etc/ceph/ceph.conf", description="rbd: Ceph's configuration")

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        if not self.shared and self.kind != "directory":
            raise ValueError(f"shared is of kind directory alone, and kind is {self.kind}")
        if self.kind == "lvm" and self.group is None:
            raise ValueError("kind lvm needs `group`: the volume group that has the thin pool")
        if self.kind != "lvm" and self.group is not None:
            raise ValueError(f"group is of kind lvm alone, and kind is {self.kind}")
        return self


class Cloud(Section):
    """VMs of cloud users, as the baits make them."""

    accounts: tuple[LeaseAccount, ...] = Field(
        (),
        description="local users that lease jobs may run as, such as `cloud*`: a `*` at the end "
        "stands for any rest; never root or a system user",
    )
    drmaa_library: PathText | None = Field(
        None, description="libdrmaa of the batch system; without it its own commands do the same"
    )
    shutdown_time: int = Field(
        60, ge=1, description="seconds that a guest has to shut down before it is ended"
    )
    volumes: PathText = Field(
        "/var/lib/wnodes/volumes",
        description="users' volumes; a folder that all nodes share, unless `[cloud.pool]` says"
        " otherwise",
    )
    saved: PathText = Field(
        "/var/lib/wnodes/saved", description="images that users save; a folder that all nodes share"
    )
    wipe: bool = Field(
        False,
        description="volumes that users delete are overwritten with zeroes before their room is"
        " free. File systems that write elsewhere than where the data was, and SSDs, keep it. In"
        " LVM they are discarded instead, down to the disk, which then forgets them if it can",
    )
    disk_rate: int = Field(
        0,
        ge=0,
        le=1 << 20,
        description="MiB a second that a cloud VM reads from and writes to each of its disks at"
        " most, together; 0: no limit",
    )
    disk_iops: int = Field(
        0, ge=0, le=1 << 24, description="the same for requests a second; 0: no limit"
    )
    pool: Pool = Pool()
    network: Annotated[tuple[Offer, ...], AfterValidator(each_name_once)] = ()

    @model_validator(mode="after")
    def _wipes_files(self) -> Self:
        if self.wipe and self.pool.kind == "rbd":
            raise ValueError(
                "wipe is for files: Ceph writes elsewhere than where the data was, so nothing would"
                " be overwritten; leave it out, and encrypt Ceph's disks"
            )
        return self


class Accounting(Section):
    """What of the cloud VMs' wallclock is published to APEL, see accounting.md."""

    site: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$",
        description="the site's name in GOCDB; without it nothing is published",
    )
    service: str = Field(
        "", pattern=r"^[ -~]{0,255}$", description="name of this cloud, where the site has several"
    )
    queue: PathText = Field(
        "/var/spool/apel/outgoing",
        description="folder that APEL's SSM sends from; it must be there, and be SSM's",
    )
