"""The tables of the configuration file for the bridge: what cloud users see, and may have."""

import ipaddress
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from wnodes_lrms.config.hosts import Host
from wnodes_lrms.config.issuer import Issuer, each_url_once
from wnodes_lrms.config.page import Page
from wnodes_lrms.config.values import PathText, Section, Subnet, Subnet6, each_name_once
from wnodes_lrms.rates import Mbits


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
    subnet: Subnet | None = Field(
        None, description="addresses to give out; without it the guest asks by DHCP"
    )
    gateway: ipaddress.IPv4Address | None = Field(None, description="its router, never given out")
    reserved: tuple[ipaddress.IPv4Network, ...] = Field(
        (),
        description="addresses of `subnet` that are never given out: those that nodes have for VMs"
        " of batch jobs (`batch` in `[[cloud.network]]`), those of other hosts",
    )
    host: tuple[Host, ...] = ()
    subnet6: Subnet6 | None = Field(
        None,
        description="IPv6: each card has the one address of it that follows from its MAC; a /64. Of"
        " a network of kind bridge as the nodes have it: it lets users see their addresses",
    )
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
    consumable: str = Field(
        "",
        pattern=r"^([A-Za-z][A-Za-z0-9_]{0,30})?$",
        description="what the batch system counts of each node for it, in Mbit/s (a gres, a"
        " consumable complex, a resource): leases ask for as many as the cards of their VM may send"
        " on it, so no node gets more VMs than its link carries, and each can send what it was"
        " given. It needs `throughput_most`. Without it nothing is counted",
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
    throughput: Mbits | None = Field(
        None,
        description="Mbit/s each way of each of its cards for which nothing is asked, within what"
        " network and grant allow; without it, what the network has for such cards",
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
    network: Annotated[tuple[CloudNetwork, ...], AfterValidator(each_name_once)] = ()
    template: Annotated[tuple[Template, ...], AfterValidator(each_name_once)] = ()
    grant: tuple[Grant, ...] = ()
    issuer: Annotated[tuple[Issuer, ...], AfterValidator(each_url_once)] = ()
    page: Page | None = None
