"""The one configuration file: TOML, checked as a whole, every fault named with its place."""

import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from wnodes_lrms.config import networks
from wnodes_lrms.config.bridge import Bridge, CloudNetwork, Grant, Template
from wnodes_lrms.config.cloud import Accounting, Api, Cloud, Offer, Pool
from wnodes_lrms.config.hosts import Host
from wnodes_lrms.config.issuer import Issuer
from wnodes_lrms.config.node import (
    Allow,
    Bait,
    Batch,
    Default,
    Hooks,
    Images,
    Machine,
    Network,
    Share,
)
from wnodes_lrms.config.page import Page
from wnodes_lrms.config.values import NODE_NAME, TAG, PathText, Section, Tag
from wnodes_lrms.errors import ConfigError

__all__ = [
    "TAG",
    "Accounting",
    "Allow",
    "Api",
    "Bait",
    "Batch",
    "Bridge",
    "Cloud",
    "CloudNetwork",
    "Config",
    "Default",
    "Grant",
    "Hooks",
    "Host",
    "Images",
    "Issuer",
    "Machine",
    "Network",
    "Offer",
    "Page",
    "PathText",
    "Pool",
    "Section",
    "Share",
    "Tag",
    "Template",
    "load",
    "path_in_use",
]

DEFAULT_PATH = Path("/etc/wnodes/wnodes.toml")


class Config(Section):
    """The whole file, as it holds on one node."""

    cluster: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="the site's name for the pool; part of each VM's identity",
    )
    lrms: Literal["slurm", "gridengine", "torque", "openpbs"] = Field(
        description="the batch system"
    )
    retries: int = Field(
        2, ge=0, description="requeues of a job whose VM failed; after them it is held"
    )
    bait: Bait = Bait()
    images: Images = Images()
    machine: Machine = Machine()
    network: Network = Network()
    share: Share = Share()
    hooks: Hooks = Hooks()
    api: Api = Api()
    cloud: Cloud = Cloud()
    accounting: Accounting = Accounting()
    bridge: Bridge | None = None
    default: tuple[Default, ...] = ()
    allow: tuple[Allow, ...] = ()
    batch: tuple[Batch, ...] = ()


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
    whole, faults = _checked(tables, "")
    offers = [*whole.cloud.network] if whole else []
    if not isinstance(nodes, dict):
        faults.append("nodes: a table a node is needed, as [nodes.<name>.network]")
        nodes = {}
    for name, own in nodes.items():
        if not isinstance(own, dict):
            faults.append(f"nodes.{name}: a table is needed, as [nodes.{name}.network]")
        common = set(faults)
        prefix = f"nodes.{name}."
        there, here = _checked(_merge(tables, own), prefix)
        offers += there.cloud.network if there else ()
        faults += [fault for fault in here if fault.removeprefix(prefix) not in common]
    faults += networks.batch_faults(whole.batch, offers) if whole else []
    if faults:
        raise ConfigError(str(path), faults)
    merged = _merge(tables, nodes.get(node, {}))
    return Config.model_validate(merged if node is None else _for_node(merged, node))


def _checked(tables: dict[str, Any], prefix: str) -> tuple[Config | None, list[str]]:
    """The tables as values, if each is right by itself, and all that is wrong."""
    try:
        whole = Config.model_validate(tables)
    except ValidationError as error:
        return None, [f"{prefix}{_place(fault['loc'])}: {_said(fault)}" for fault in error.errors()]
    found = networks.faults(whole.network, whole.cloud, whole.bridge)
    return whole, [prefix + fault for fault in found]


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
