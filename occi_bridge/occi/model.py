"""The OCCI model: categories, and the set of them that one user sees.

From OCCI 1.2, GFD.221 (core). What the categories of this service are stands in occi/schema.py.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from occi_bridge.occi.messages import Value


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute that a category defines.

    `set_by` tells who gives it its value: "client" at any time; "creator" the client, but only
    when the entity is made; "service" never the client; "nobody": OCCI has it, and here is nothing
    of the kind. All but the first are immutable in OCCI's terms. `values` are the only ones
    allowed, () for any; `form` is a regular expression that a string must match as a whole, and
    `meaning` says in words what is wanted then. Numbers lie between `least` and `most`, both
    included; a string has at most `longest` characters.
    """

    name: str
    type: Literal["string", "integer", "number"] = "string"
    set_by: Literal["client", "creator", "service", "nobody"] = "client"
    required: bool = False
    values: tuple[str, ...] = ()
    default: Value | None = None
    form: str = ""
    meaning: str = ""
    least: float | None = None
    most: float | None = None
    longest: int = 1024

    @property
    def immutable(self) -> bool:
        """Whether a client can't change it once the entity is there."""
        return self.set_by != "client"


@dataclass(frozen=True)
class Category:
    """What kinds, mixins and actions have in common: a name, and attributes by their name."""

    term: str
    scheme: str  # ends in "#"
    title: str
    attributes: tuple[Attribute, ...] = ()

    @cached_property
    def id(self) -> str:
        """Scheme and term together: what entities name their categories by."""
        return self.scheme + self.term


@dataclass(frozen=True)
class Action(Category):
    """Something that can be done to an entity; its attributes are the parameters."""


@dataclass(frozen=True)
class Kind(Category):
    """What an entity is. An abstract kind only serves to collect: nothing is made of it.

    `attributes` are all of them, the inherited ones first. A link has a `source` and a `target`.
    """

    parent: str = ""  # a kind's id; only core's entity has none
    location: str = ""  # "/compute/": the collection of all entities of this kind
    actions: tuple[str, ...] = ()
    abstract: bool = False
    target: str = ""  # a link: the kind that it can point to
    source: str = ""  # a link: the kind that it can start at


@dataclass(frozen=True)
class Mixin(Category):
    """What an entity may have besides its kind.

    `applies` are the kinds it is for, () for any. `set_by` tells who can put it on an entity, as
    with attributes: "creator" only the one who makes it, "service" never a client. A template has
    its group in `parent` (os_tpl or resource_tpl), its name in the site's configuration in `value`
    (the image's tag, the size's name), and in `sets` the attributes it gives. A mixin with an
    `alias` is another spelling of the mixin named there: requests may use it, entities never bear
    it. `renames` maps other names of attributes, as requests may have them, to those meant; ""
    drops one.
    """

    parent: str = ""
    location: str = ""
    applies: tuple[str, ...] = ()
    set_by: Literal["client", "creator", "service"] = "client"
    value: str = ""
    saved: bool = False  # an os_tpl: the image is one that a user saved
    sets: Mapping[str, Value] = field(default_factory=dict)
    user: bool = False  # a user's own, who can remove it
    alias: str = ""
    renames: Mapping[str, str] = field(default_factory=dict)


class Model:
    """The categories that one user sees. Never changes; a changed one is another Model."""

    def __init__(
        self, kinds: Iterable[Kind], mixins: Iterable[Mixin], actions: Iterable[Action]
    ) -> None:
        self.kinds = {kind.id: kind for kind in kinds}
        self.mixins = {mixin.id: mixin for mixin in mixins}
        self.actions = {action.id: action for action in actions}
        self._places: dict[str, Kind | Mixin] = {
            **{kind.location: kind for kind in self.kinds.values()},
            **{mixin.location: mixin for mixin in self.mixins.values()},
        }

    def find(self, category: str) -> Kind | Mixin | Action | None:
        """The category of an id, or None."""
        return self.kinds.get(category) or self.mixins.get(category) or self.actions.get(category)

    def at(self, location: str) -> Kind | Mixin | None:
        """The kind or mixin whose collection is at a path, with or without the last slash."""
        return self._places.get(location if location.endswith("/") else f"{location}/")

    def kind_of(self, path: str) -> Kind | None:
        """The kind of the entity that is, or would be, at a path as "/compute/<id>"."""
        found = self._places.get(path[: path.rfind("/") + 1])
        return found if isinstance(found, Kind) and not found.abstract else None

    def canonical(self, mixin: str) -> str:
        """The mixin that is meant by an id, which may be another spelling of it."""
        found = self.mixins.get(mixin)
        return (found.alias if found else "") or mixin

    def with_own(self, mixins: Iterable[Mixin]) -> "Model":
        """The same with a user's own mixins. None of them takes the place of the site's, which may
        have come later."""
        free = [
            mixin
            for mixin in mixins
            if not self.find(mixin.id) and mixin.location not in self._places
        ]
        return self.with_mixins(free)

    def with_mixins(self, mixins: Iterable[Mixin]) -> "Model":
        """The same with more mixins."""
        return Model(self.kinds.values(), [*self.mixins.values(), *mixins], self.actions.values())
