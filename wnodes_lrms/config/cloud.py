"""The tables of the configuration file of the cloud service: the bait's side and the bridge."""

import ipaddress
import re
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from wnodes_lrms.config.issuer import Issuer, each_url_once
from wnodes_lrms.config.node import PathText, Section, roomy
from wnodes_lrms.config.page import Page
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


_Named = TypeVar("_Named", "CloudNetwork", "Offer", "Template")


def _each_name_once(tables: tuple[_Named, ...]) -> tuple[_Named, ...]:
    names = [table.name for table in tables]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"the name {', '.join(twice)} is there more than once")
    return tables


def _whole(subnet: ipaddress.IPv6Network) -> ipaddress.IPv6Network:
    if subnet.prefixlen != 64:
        raise ValueError("a /64 is needed: addresses follow from MACs")
    return subnet


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
    subnet: Annotated[ipaddress.IPv4Network, AfterValidator(roomy)] | None = Field(
        None,
        description="cards have an address of it, and can't use another; without it guests ask by"
        " DHCP, and what addresses they use is not held",
    )
    gateway: ipaddress.IPv4Address | None = Field(
        None, description="its router: no card has this address"
    )
    subnet6: Annotated[ipaddress.IPv6Network, AfterValidator(_whole)] | None = Field(
        None,
        description="IPv6: each card has the one address of it that follows from its MAC, and can't"
        " use another; a /64. Without it nothing of IPv6 leaves a guest",
    )
    gateway6: ipaddress.IPv6Address | None = Field(
        None, description="its router by IPv6; without it guests listen to what routers advertise"
    )
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
    network: Annotated[tuple[Offer, ...], AfterValidator(_each_name_once)] = ()

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


def _without_password(url: str) -> str:
    """A database's URL that everybody may read, as they may this file."""
    userinfo, at, rest = url.partition("://")[2].rpartition("@")
    if not url.startswith("sqlite:") and (
        (at and ":" in userinfo) or re.search(r"[?&](password|sslpassword)=", rest)
    ):
        raise ValueError(
            "has a password, and everybody reads this file: use a client certificate, or name a"
            " file of the bridge's user, mode 0600, as in ?passfile=/etc/wnodes/pgpass"
        )
    return url


DatabaseUrl = Annotated[
    str,
    StringConstraints(pattern=r"^(sqlite|postgresql\+psycopg)://"),
    AfterValidator(_without_password),
]


class CloudNetwork(Section):
    """A network that cloud users see and link to."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$", description="its name for users")
    kind: Literal["nat", "bridge", "isolated"] = Field(
        description="nat: the node's own `[network]`; bridge: one that the nodes offer by this"
        " name, in `[[cloud.network]]`; isolated: between VMs only"
    )
    title: str = Field("", description="a sentence for users")
    public: bool = Field(False, description="reachable from outside; new VMs get the first")
    subnet: Annotated[ipaddress.IPv4Network, AfterValidator(roomy)] | None = Field(
        None, description="addresses to give out; without it the guest asks by DHCP"
    )
    gateway: ipaddress.IPv4Address | None = Field(None, description="its router, never given out")
    vni: int | None = Field(
        None,
        ge=1,
        le=(1 << 23) - 1,
        description="of an isolated one: its number, under which it spans nodes that have"
        " `[network] tunnels`; without it, it is between VMs of one node. Users' own networks get"
        " theirs by themselves",
    )
    feature: str = Field(
        "",
        pattern=r"^([A-Za-z][A-Za-z0-9_]{0,30})?$",
        description="what nodes that have it are called in the batch system, beside `wnodes`"
        " (a feature, complex, property or resource): leases of VMs on it ask for it, so that they"
        " come to no other node. Without it such a VM may come to a node that refuses it",
    )
    throughput: Mbits | None = Field(
        None,
        description="Mbit/s each way of a card for which nothing is asked; without it"
        " `throughput_most`",
    )
    throughput_least: Mbits = Field(1, description="Mbit/s: the least that can be asked for")
    throughput_most: Mbits | None = Field(
        None, description="Mbit/s: the most of a card each way; without it there is no limit"
    )

    @model_validator(mode="before")
    @classmethod
    def _without_bridge(cls, values: Any) -> Any:
        if isinstance(values, dict) and "bridge" in values:
            raise ValueError(
                "`bridge` is for the nodes to say: name the bridge in [[cloud.network]] there"
            )
        return values


class Template(Section):
    """A size of VM that cloud users choose by name (resource_tpl)."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,30}$", description="its name for users")
    title: str = Field("", description="a sentence for users")
    cores: int = Field(ge=1, description="virtual CPUs")
    memory: int = Field(ge=64, description="MiB of the guest")
    disk: int = Field(
        0, ge=0, le=65536, description="GiB of its root disk, at least; 0: as large as the image"
    )


class Grant(Section):
    """What a cloud user may have: the first one that fits them holds."""

    match: str = Field(
        description="a DN (/C=…/CN=…), a token's issuer#subject, a group or FQAN"
        " (/vo/group/Role=x; /vo/* for all below), or *"
    )
    lrms_account: str = Field("", description="account that the user's leases charge")
    partition: str = Field("", description="partition or queue of the user's leases")
    walltime: int = Field(86400, ge=60, description="seconds of the longest lease")
    machines: int = Field(10, ge=0, description="quota: VMs")
    cores: int = Field(20, ge=0, description="quota: cores of the user's VMs together")
    memory: int = Field(40960, ge=0, description="quota: MiB of the user's VMs together")
    storage: int = Field(100, ge=0, description="quota: GiB of the user's volumes together")
    images: tuple[str, ...] = Field(("*",), description='tags of the images they may use, or "*"')
    networks: tuple[str, ...] = Field(("*",), description='networks they may link to, or "*"')
    network: str | None = Field(
        None,
        description="the one of them that a new VM is linked to if its user names none; without it"
        " the first that is public",
    )
    throughput: Mbits | None = Field(
        None, description="Mbit/s: the most of each of their cards each way; without it no limit"
    )
    share: bool = Field(
        False, description="a group (the first FQAN) sees and uses what its members have"
    )
    site: bool = Field(
        False, description="they see the page's Site: all nodes, and whose VMs are on them"
    )


class Bridge(Section):
    """The OCCI service. Where there is no such table, there is no cloud service."""

    listen: str = Field(
        "0.0.0.0:11443",
        pattern=r"^\S+:[0-9]{1,5}$",
        description="address and port",
    )
    certificate: PathText = Field(
        "/etc/grid-security/hostcert.pem", description="its host certificate"
    )
    key: PathText = Field("/etc/grid-security/hostkey.pem", description="its private key")
    ca_dir: PathText = Field(
        "/etc/grid-security/certificates", description="certificates and CRLs of trusted CAs"
    )
    voms_dir: PathText = Field(
        "/etc/grid-security/vomsdir", description="LSC files of the VOs' servers"
    )
    grid_mapfile: PathText = Field(
        "/etc/grid-security/grid-mapfile", description="DN → local account"
    )
    voms_mapfile: PathText = Field(
        "/etc/grid-security/voms-mapfile", description="FQAN → local account, first match"
    )
    pool_dir: PathText = Field(
        "/etc/grid-security/gridmapdir", description="who has which account of a pool (.name)"
    )
    ban_file: PathText = Field(
        "/etc/grid-security/ban_users.db", description="names and FQANs that are refused"
    )
    database: DatabaseUrl = Field(
        "sqlite:////var/lib/wnodes/bridge/bridge.sqlite",
        description="SQLAlchemy's URL, without a password; several bridges share one PostgreSQL",
    )
    order_key: PathText = Field(
        "/etc/wnodes/order.key", description="private key (PEM, Ed25519) that signs orders"
    )
    baits: tuple[str, ...] = Field(
        description="the baits' services, as https://node:8445", min_length=1
    )
    issuer_dir: PathText = Field(
        "/var/lib/wnodes/bridge/issuers",
        description="folder of the bridge's own, for the issuers' keys as they were got last",
    )
    workers: int = Field(2, ge=1, le=64, description="processes that answer")
    network: Annotated[tuple[CloudNetwork, ...], AfterValidator(_each_name_once)] = ()
    template: Annotated[tuple[Template, ...], AfterValidator(_each_name_once)] = ()
    grant: tuple[Grant, ...] = ()
    issuer: Annotated[tuple[Issuer, ...], AfterValidator(each_url_once)] = ()
    page: Page | None = None
