"""What the settings of all tables of the configuration file are made of: values with a grammar."""

import ipaddress
import re
from typing import Annotated, Protocol, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from wnodes_lrms.addresses import fault6
from wnodes_lrms.opening import opening

NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}")
# At most 239 characters: with a suffix it is a file's name.
TAG = re.compile(r"[a-z0-9][a-z0-9.-]{0,78}_[a-z0-9.-]{1,79}_[a-z0-9_]{1,79}")


def _absolute(path: str) -> str:
    if not path.startswith("/") or any(c.isspace() for c in path):
        raise ValueError("an absolute path without spaces is needed")
    return path


def _roomy(subnet: ipaddress.IPv4Network) -> ipaddress.IPv4Network:
    if subnet.prefixlen > 30:
        raise ValueError("a /30 or larger is needed: the node itself takes the first address")
    return subnet


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Table = TypeVar("_Table", bound=_Named)


def each_name_once(tables: tuple[_Table, ...]) -> tuple[_Table, ...]:
    """The tables themselves. Raises ValueError where two have one name."""
    names = [table.name for table in tables]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"the name {', '.join(twice)} is there more than once")
    return tables


def _of_hosts(subnet: ipaddress.IPv6Network) -> ipaddress.IPv6Network:
    if fault := fault6(subnet):
        raise ValueError(fault)
    return subnet


def _opening(text: str) -> str:
    opening(text)
    return text


def _tag(tag: str) -> str:
    if not TAG.fullmatch(tag):
        raise ValueError(f"«{tag}» is not of the form <name>_<os>_<arch>, in lower case")
    return tag


def _tag_or_all(tag: str) -> str:
    return tag if tag == "*" else _tag(tag)


PathText = Annotated[str, AfterValidator(_absolute)]
Tag = Annotated[str, AfterValidator(_tag)]
TagOrAll = Annotated[str, AfterValidator(_tag_or_all)]
OpeningText = Annotated[str, AfterValidator(_opening)]
Subnet = Annotated[ipaddress.IPv4Network, AfterValidator(_roomy)]
Subnet6 = Annotated[ipaddress.IPv6Network, AfterValidator(_of_hosts)]
NodeText = Annotated[str, StringConstraints(pattern=f"^{NODE_NAME.pattern}$")]


class Section(BaseModel):
    """A table of the file. An unknown key is a fault; nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)
