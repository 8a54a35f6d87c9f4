"""The one configuration file: TOML, checked as a whole, every fault named with its place."""

import ipaddress
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from wnodes_lrms.errors import ConfigError

DEFAULT_PATH = Path("/etc/wnodes/wnodes.toml")
NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}")
TAG = re.compile(r"[a-z0-9][a-z0-9.-]*_[a-z0-9.-]+_[a-z0-9_]+")


def _absolute(path: str) -> str:
    if not path.startswith("/") or any(c.isspace() for c in path):
        raise ValueError("an absolute path without spaces is needed")
    return path


def _roomy(subnet: ipaddress.IPv4Network) -> ipaddress.IPv4Network:
    if subnet.prefixlen > 30:
        raise ValueError("a /30 or larger is needed: the node itself takes the first address")
    return subnet


def _tag(tag: str) -> str:
    if not TAG.fullmatch(tag):
        raise ValueError(f"«{tag}» is not of the form <name>_<os>_<arch>, in lower case")
    return tag


def _tag_or_all(tag: str) -> str:
    return tag if tag == "*" else _tag(tag)


PathText = Annotated[str, AfterValidator(_absolute)]
Tag = Annotated[str, AfterValidator(_tag)]


class Section(BaseModel):
    """A table of the file. An unknown key is a fault; nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Bait(Section):
    """The daemon on each node. In the paths, %n stands for the node's name in the LRMS."""

    socket: PathText = Field(
        "/run/wnodes/%n/bait.sock", description="control socket, for hooks, starters and `wnodes`"
    )
    state_dir: PathText = Field(
        "/var/lib/wnodes/%n", description="ledger and machines' disks; room for every overlay"
    )
    run_dir: PathText = Field(
        "/run/wnodes/%n", description="keys and seeds of the machines that live now; best a tmpfs"
    )
    libvirt_uri: str = Field("qemu:///system", description="the libvirt that runs the machines")


class Images(Section):
    """The catalogue of images, and each node's cache of them."""

    catalogue: PathText = Field(
        "/etc/wnodes/images", description="one `<tag>.toml` an image, the same on all nodes"
    )
    cache_dir: PathText = Field("/var/cache/wnodes/%n", description="verified copies")
    cache_limit: int = Field(
        51200,
        gt=0,
        description="MiB; above it the images used least recently go, never one in use",
    )


class Machine(Section):
    """How a machine is made from an allocation."""

    memory_overhead: int = Field(
        128, ge=0, description="MiB of each allocation that are QEMU's own, not the guest's"
    )
    min_free_disk: int = Field(
        512, ge=0, description="MiB that must be free in state_dir before a machine is made"
    )
    ready_timeout: int = Field(
        300, gt=0, description="seconds from start to an SSH answer; then the machine has failed"
    )
    accel: Literal["auto", "kvm", "tcg"] = Field(
        "auto", description="auto: KVM if a probe guest really ran in it, emulation otherwise"
    )


class Network(Section):
    """The network of a node's guests: a libvirt network that the bait makes, with NAT."""

    name: str = Field(
        "wnodes",
        pattern=r"^[a-z0-9][a-z0-9-]{0,11}$",
        description="name of the libvirt network; its bridge is called wn-<name>",
    )
    subnet: Annotated[ipaddress.IPv4Network, AfterValidator(_roomy)] = Field(
        ipaddress.IPv4Network("192.168.190.0/24"), description="addresses of the guests"
    )


class Hooks(Section):
    """Where the hooks of the batch system go: the same on all nodes."""

    folder: PathText = Field(
        "/usr/local/libexec/wnodes", description="prolog, epilog, starter; never a shared folder"
    )
    slurm_conf: PathText = Field(
        "/etc/slurm/slurm.conf", description="Slurm's configuration; only ever read"
    )


class Share(Section):
    """What machines from trusted images see of the node."""

    directories: tuple[PathText, ...] = Field(
        (),
        max_length=16,
        description="given by virtiofs, same path, to machines whose image is trusted",
    )


class Default(Section):
    """The site's own wish: jobs that ask for nothing, match all keys given here, get this image."""

    image: Tag = Field(description="what such jobs run in")
    partition: str | None = Field(None, description="only jobs in this partition")
    account: str | None = Field(None, description="only jobs that charge this account")
    qos: str | None = Field(None, description="only jobs of this quality of service")


class Allow(Section):
    """Who may use an image. An image that no rule names (by tag or "*") is for everybody."""

    image: Annotated[str, AfterValidator(_tag_or_all)] = Field(description='a tag, or "*" for all')
    users: tuple[str, ...] = Field((), description="these users may")
    groups: tuple[str, ...] = Field((), description="whoever is in one of these groups may")
    accounts: tuple[str, ...] = Field((), description="whoever charges one of these accounts may")


class Config(Section):
    """The whole file, as it holds on one node."""

    cluster: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="the site's name for the pool; part of each machine's identity",
    )
    lrms: Literal["slurm"] = Field(description="the batch system")
    retries: int = Field(
        2, ge=0, description="requeues of a job whose machine failed; after them it is held"
    )
    bait: Bait = Bait()
    images: Images = Images()
    machine: Machine = Machine()
    network: Network = Network()
    share: Share = Share()
    hooks: Hooks = Hooks()
    default: tuple[Default, ...] = ()
    allow: tuple[Allow, ...] = ()


def path_in_use(given: Path | None = None) -> Path:
    """The file that is read: the one given, $WNODES_CONFIG, or /etc/wnodes/wnodes.toml."""
    return given or Path(os.environ.get("WNODES_CONFIG") or DEFAULT_PATH)


def load(path: Path, node: str | None = None) -> Config:
    """Read and check the file, as it holds on `node` (its `[nodes.<name>]` tables on top).

    Without a node the paths keep their %n. Raises ConfigError with every fault: unreadable
    file, wrong TOML, unknown keys, wrong values, in the common part and for each node named.
    """
    try:
        tables = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(str(path), [f"can't be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"is not TOML: {error}"]) from error
    nodes = tables.pop("nodes", {})
    faults = _faults(tables, "")
    if not isinstance(nodes, dict):
        faults.append("nodes: a table a node is needed, as [nodes.<name>.network]")
        nodes = {}
    for name, own in nodes.items():
        if not isinstance(own, dict):
            faults.append(f"nodes.{name}: a table is needed, as [nodes.{name}.network]")
        common = set(faults)
        prefix = f"nodes.{name}."
        here = _faults(_merge(tables, own), prefix)
        faults += [fault for fault in here if fault.removeprefix(prefix) not in common]
    if faults:
        raise ConfigError(str(path), faults)
    merged = _merge(tables, nodes.get(node, {}))
    return Config.model_validate(merged if node is None else _for_node(merged, node))


def _faults(tables: dict[str, Any], prefix: str) -> list[str]:
    try:
        Config.model_validate(tables)
    except ValidationError as error:
        return [f"{prefix}{_place(fault['loc'])}: {_said(fault)}" for fault in error.errors()]
    return []


def _place(location: tuple[int | str, ...]) -> str:
    place = ""
    for part in location:
        place += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if place else part
    return place


def _said(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        return "unknown key"
    if fault["type"] == "missing":
        return "is missing"
    text: str = fault["msg"].removeprefix("Value error, ")
    return text[0].lower() + text[1:]


def _merge(common: dict[str, Any], own: object) -> dict[str, Any]:
    if not isinstance(own, dict):
        return common
    return common | {
        key: _merge(common.get(key, {}), value) if isinstance(value, dict) else value
        for key, value in own.items()
    }


def _for_node(value: Any, node: str) -> Any:
    """The same tables with %n put in. Defaults have %n too, so they are spelled out first."""
    if not NODE_NAME.fullmatch(node):
        raise ConfigError("node name", [f"«{node}» can't be a node's name"])
    whole = Config.model_validate(value).model_dump()
    return _substitute(whole, node)


def _substitute(value: Any, node: str) -> Any:
    if isinstance(value, dict):
        return {key: _substitute(item, node) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_substitute(item, node) for item in value]
    return value.replace("%n", node) if isinstance(value, str) else value
