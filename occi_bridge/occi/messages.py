"""What OCCI messages say, whatever their media type: the values between parser, service, renderer.

The parsers make a Body of a request, the renderers make a response of Entities. Nothing here knows
HTTP, and nothing is checked against the model yet (validate_new, validate_changes do).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

Value = str | int | float | bool
Attributes = Mapping[str, Value]


class OcciError(Exception):
    """A request that can't be served: the HTTP status it becomes and one sentence for the user.

    `retry_after` (seconds) is for 503 alone: when to ask again.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after


@contextmanager
def named_in(where: str) -> Iterator[None]:
    """Around a look for what a request's body names: 404 is for its own path alone, so that what is
    not there is a 400, as pyssf and erocci have it."""
    try:
        yield
    except OcciError as fault:
        if fault.status != 404:
            raise
        raise OcciError(400, f"{where}: {fault.message}") from fault


@dataclass(frozen=True, slots=True)
class LinkBody:
    """A link as a client wrote it inside the resource that is its source (a Link header).

    `target` is what stood there, a path or an absolute URL; `rel` the kind of the target ("" if
    not said); `category` the ids of the link's own kind and mixins, () if not said; `itself` where
    the link is, in a resource that the client has had rendered and sends back ("" if not said).
    """

    target: str
    rel: str = ""
    category: tuple[str, ...] = ()
    attributes: Attributes = field(default_factory=dict)
    itself: str = ""


@dataclass(frozen=True, slots=True)
class Definition:
    """A mixin that a user adds at the query interface.

    `location` is a path that begins and ends in "/"; `rel` the id of its parent mixin, or "".
    """

    term: str
    scheme: str
    title: str = ""
    location: str = ""
    rel: str = ""

    @property
    def id(self) -> str:
        """Scheme and term together, as everywhere in OCCI."""
        return self.scheme + self.term


@dataclass(frozen=True, slots=True)
class Body:
    """All that a request says, in its body or its headers, as the client wrote it.

    `categories` are ids (scheme + term) in the order given, kind, mixins and actions alike;
    `action` is the action's id where the media type tells it apart (JSON). `locations` are
    X-OCCI-Location values or the lines of a uri-list. `definitions` are the categories that carry
    enough to be added as a user's mixin (see Definition). `second` are values of those
    attributes that JSON has in two places, where they differ.
    """

    categories: tuple[str, ...] = ()
    attributes: Attributes = field(default_factory=dict)
    links: tuple[LinkBody, ...] = ()
    locations: tuple[str, ...] = ()
    definitions: tuple[Definition, ...] = ()
    action: str | None = None
    second: Attributes = field(default_factory=dict)

    def settled(self, before: Attributes) -> "Body":
        """The same with one value each: the one that differs from before, so that a rendering can
        be changed in either place. Raises OcciError 400 where both do."""
        attributes = dict(self.attributes)
        for name, value in self.second.items():
            if before.get(name) not in (value, attributes[name]):
                raise OcciError(400, f"{name}: given twice, with different values")
            if value != before[name]:
                attributes[name] = value
        return replace(self, attributes=attributes, second={})


@dataclass(frozen=True, slots=True)
class Entity:
    """A resource or a link as its owner sees it now.

    `path` is its place below the host, as "/compute/<id>"; `kind` and `mixins` are ids; `actions`
    the ids of those that apply in its present state. `attributes` always has occi.core.id, and on
    a link occi.core.source and occi.core.target, as paths. `links` are the links that start at a
    resource (none on a link). Attributes that nobody has set are absent, never empty.
    """

    id: str
    kind: str
    path: str
    mixins: tuple[str, ...] = ()
    attributes: Attributes = field(default_factory=dict)
    actions: tuple[str, ...] = ()
    links: tuple["Entity", ...] = ()
