"""What a form asks for, as a request of OCCI's: to be carried out, or to be copied. Pure."""

import base64
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from occi_bridge.occi import schema
from occi_bridge.occi.messages import Body, LinkBody, Value
from occi_bridge.occi.model import Model
from occi_bridge.occi.render_text import quoted


@dataclass(frozen=True)
class Wanted:
    """A VM that somebody wants. `image` and `size` are ids of mixins, "" for the site's choice."""

    id: str = ""
    title: str = ""
    image: str = ""
    size: str = ""
    key: str = ""
    data: str = ""  # for the first boot, as text
    networks: Sequence[str] = field(default=())  # paths
    volumes: Sequence[str] = field(default=())


def body(wanted: Wanted) -> Body:
    """The request, as the service takes it from everybody."""
    attributes: dict[str, Value] = {}
    categories = [schema.COMPUTE, *filter(None, (wanted.image, wanted.size))]
    if wanted.id:
        attributes[schema.ID] = wanted.id
    if wanted.title:
        attributes |= {"occi.core.title": wanted.title, "occi.compute.hostname": wanted.title}
    if wanted.key:
        categories.append(schema.SSH_KEY)
        attributes[schema.PUBLIC_KEY] = wanted.key
    if wanted.data:
        categories.append(schema.USER_DATA)
        attributes[schema.USERDATA] = base64.b64encode(wanted.data.encode()).decode()
    links = [LinkBody(path, schema.NETWORK) for path in wanted.networks]
    links += [LinkBody(path, schema.STORAGE) for path in wanted.volumes]
    return Body(tuple(categories), attributes, tuple(links))


def occi(request: Body, model: Model) -> str:
    """The same in OCCI's text rendering, as the body of a POST to /compute/; without the id."""
    return "".join(f"{line}\n" for line in _occi(request, model))


def _occi(request: Body, model: Model) -> Iterator[str]:
    for name in request.categories:
        found = model.find(name)
        if found:
            kind = "kind" if name in model.kinds else "mixin"
            yield f'Category: {found.term}; scheme="{found.scheme}"; class="{kind}"'
    for link in request.links:
        yield f'Link: <{link.target}>; rel="{link.rel}"'
    for attribute, value in request.attributes.items():
        if attribute != schema.ID:
            yield f"X-OCCI-Attribute: {attribute}={quoted(str(value))}"


def command(wanted: Wanted, model: Model, service: str) -> str:
    """The same as a line for the shell; key and data are files there. `service`: its URL, or ""."""
    words = ["wnodes", "cloud", *(("--url", service) if service else ()), "create"]
    for option, name in (("--image", wanted.image), ("--size", wanted.size)):
        found = model.find(name) if name else None
        words += [option, found.term] if found else []
    words += ["--key", "KEY.pub"] if wanted.key else []
    words += ["--user-data", "FILE"] if wanted.data else []
    for option, paths in (("--network", wanted.networks), ("--volume", wanted.volumes)):
        for path in paths:
            words += [option, path.rpartition("/")[2]]
    words += ["--wait", *(("--", wanted.title) if wanted.title[:1] == "-" else (wanted.title,))]
    return shlex.join(word for word in words if word)
