"""Mixins that users add at the query interface, checked. Pure."""

import re
from dataclasses import replace

from occi_bridge.occi import schema
from occi_bridge.occi.messages import Body, Definition, OcciError
from occi_bridge.occi.model import Mixin, Model
from occi_bridge.occi.parse_common import shown

_TERM = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:[A-Za-z0-9._~:/?@!$&()*+=%-]{1,255}#")
_PARENT = re.compile(r"[A-Za-z0-9._~:/?@!$&()*+=%#-]{0,320}")
_TITLE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\"]{0,255}")
_LOCATION = 255  # characters
_TAKEN = ("/-/", "/.well-known/", "/whoami/", "/metrics/")


def added(model: Model, body: Body) -> list[Definition]:
    """The mixins that a request wants added, each with a location; not those that are there
    already, just so.

    Raises OcciError 400 (malformed), 403 (OCCI's own namespace), 409 (id or location is taken).
    """
    if not body.definitions:
        raise OcciError(
            400,
            'a mixin is needed, as in Category: term; scheme="…#"; class="mixin"; location="/…/"',
        )
    result = []
    for definition in body.definitions:
        checked = _checked(definition)
        if model.find(checked.id) != mixin(checked):
            _check_free(model, checked)
            model = model.with_mixins([mixin(checked)])
            result.append(checked)
    return result


def removed(model: Model, body: Body) -> list[str]:
    """The ids of the mixins that a request wants removed. Raises OcciError 400 (unknown), 403."""
    if not body.categories:
        raise OcciError(400, "which mixin? A Category is needed")
    for name in body.categories:
        found = model.find(name)
        if not found:
            raise OcciError(400, f"category «{shown(name)}» is not known here")
        if not isinstance(found, Mixin) or not (found.user or found.saved):
            raise OcciError(403, f"{found.id} is the service's own and can't be removed")
    return list(body.categories)


def mixin(definition: Definition) -> Mixin:
    """A user's mixin as the model has it."""
    return Mixin(
        definition.term,
        definition.scheme,
        definition.title or definition.term,
        parent=definition.rel,
        location=definition.location,
        user=True,
    )


def _checked(definition: Definition) -> Definition:
    """The definition, with a location. Raises OcciError 400, 403."""
    term, scheme = definition.term, definition.scheme
    if not _TERM.fullmatch(term):
        raise OcciError(400, f"term «{shown(term)}»: lower-case letters, digits, _, . and - only")
    if not _SCHEME.fullmatch(scheme):
        raise OcciError(400, f"scheme «{shown(scheme)}»: a URI that ends in # is needed")
    if scheme.startswith("http://schemas.ogf.org/"):
        raise OcciError(403, f"scheme «{shown(scheme)}»: belongs to OCCI itself")
    if scheme.startswith(schema.OWN):
        raise OcciError(403, f"scheme «{shown(scheme)}»: belongs to this service")
    if definition.rel == schema.OS_TPL or definition.rel.startswith(schema.OWN):
        raise OcciError(403, f"rel «{shown(definition.rel)}»: images and sizes are the site's own")
    if definition.rel == schema.RESOURCE_TPL:  # pOCCI, the conformance suite, wants it taken
        definition = replace(definition, rel="")  # but it is no size, and isn't listed as one
    if not _PARENT.fullmatch(definition.rel):
        raise OcciError(400, f"rel «{shown(definition.rel)}»: the id of a mixin is needed")
    if not _TITLE.fullmatch(definition.title):
        raise OcciError(400, "title: up to 255 characters, no quotes or control characters")
    if len(definition.location) > _LOCATION:
        raise OcciError(400, f"location: longer than {_LOCATION} characters")
    return replace(definition, location=definition.location or f"/mixin/{term}/")


def _check_free(model: Model, definition: Definition) -> None:
    if model.find(definition.id):
        raise OcciError(409, f"the category {definition.id} is there already")
    location = definition.location
    if location == "/" or location.startswith(_TAKEN):
        raise OcciError(409, f"location {location}: is the service's own")
    places = [kind.location for kind in model.kinds.values()]
    places += [other.location for other in model.mixins.values()]
    for place in places:
        if location.startswith(place) or place.startswith(location):
            raise OcciError(409, f"location {location}: {place} is there already")
