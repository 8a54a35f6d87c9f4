"""A user's volumes and networks: listed, made, deleted."""

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from starlette.concurrency import run_in_threadpool

from occi_bridge.identity.user import Capability, User
from occi_bridge.occi import schema, validate_new
from occi_bridge.occi.messages import Body, Entity, OcciError, Value
from occi_bridge.occi.resolve import action
from occi_bridge.page import fields, live, templates, views
from occi_bridge.page.exchange import ANOTHER, Ask, Fault, Form, Reply, see
from occi_bridge.page.vms import common
from occi_bridge.service.service import BridgeService

_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,3})?")


@dataclass(frozen=True)
class Sort:
    """What there is of them: the page's name, the kind, what a form asks for, and its fields.

    `verbs`: what can be done to one, and the attributes that a form has for that.
    """

    page: str
    kind: str
    asked: Callable[[Form], Body]
    fields: frozenset[str]
    verbs: Mapping[str, Callable[[Form], Mapping[str, Value]]] = field(default_factory=dict)


def _volume(form: Form) -> Body:
    return Body((schema.STORAGE,), {**_named(form), "occi.storage.size": _size(form)})


def _size(form: Form) -> Value:
    """As a number, if it is one."""
    size = form.one("size")
    return float(size) if _NUMBER.fullmatch(size) else size


def _name(form: Form) -> dict[str, Value]:
    return {"name": form.one("name")} if form.one("name") else {}


def _network(form: Form) -> Body:
    words = form.one("address").replace(",", " ").split()
    kinds, own = [schema.NETWORK], _named(form)
    for mixin, name, six in (
        (schema.IPNETWORK, schema.NETWORK_ADDRESS, False),
        (schema.IPV6NETWORK, schema.NETWORK_ADDRESS6, True),
    ):
        if found := " ".join(word for word in words if (":" in word) is six):
            kinds.append(mixin)
            own[name] = found
    return Body(tuple(kinds), own)


def _named(form: Form) -> dict[str, Value]:
    own = {schema.ID: form.one("id"), "occi.core.title": form.one("title")}
    return {name: value for name, value in own.items() if value}


VOLUMES = Sort(
    "volumes",
    schema.STORAGE,
    _volume,
    frozenset({"title", "size"}),
    {"resize": lambda form: {"size": _size(form)}, "snapshot": _name},
)
NETWORKS = Sort("networks", schema.NETWORK, _network, frozenset({"title", "address"}))


class Belongings:
    """The page of all of a sort."""

    def __init__(self, service: BridgeService, sort: Sort) -> None:
        self._service = service
        self._sort = sort
        self._parts = live.Parts(service)

    async def show(self, ask: Ask) -> Reply:
        """All of them, and a form for one more."""
        return await run_in_threadpool(self._page, ask, Form(f"id={uuid.uuid4()}"))

    async def now(self, ask: Ask) -> Reply:
        """The part of it that changes."""
        name = f"{self._sort.page}-now"
        return await self._parts.reply(ask, name, lambda user: {"all": self._shown(user)})

    async def make(self, ask: Ask) -> Reply:
        """One more."""
        return await run_in_threadpool(self._make, ask)

    async def again(self, ask: Ask) -> Reply:
        """The form as it was filled in, which nobody has looked at."""
        said = OcciError(403, f"{ANOTHER}look at it, and send it once more")
        return await run_in_threadpool(self._page, ask, ask.form, said)

    async def delete(self, ask: Ask) -> Reply:
        """One less."""
        return await run_in_threadpool(self._delete, ask)

    async def act(self, ask: Ask) -> Reply:
        """Do something to one."""
        return await run_in_threadpool(self._act, ask)

    def _make(self, ask: Ask) -> Reply:
        user, form = ask.known.user, ask.form
        try:
            user.require(Capability.CREATE)
            asked = self._sort.asked(form)
            model = self._service.model(user)
            new = validate_new.create(model, asked)
            if form.one("id") not in {each.id for each in self._all(user)}:  # a second click
                self._service.create(user, new, model)
        except OcciError as fault:
            return self._page(ask, form, fault, self._sort.fields)
        return see(f"/{self._sort.page}")

    def _delete(self, ask: Ask) -> Reply:
        return self._done(ask, lambda path: self._service.delete(ask.known.user, path))

    def _act(self, ask: Ask) -> Reply:
        verb, kind, user = ask.names["verb"], self._sort.kind, ask.known.user
        if verb not in self._sort.verbs:
            raise Fault(404, "there is nothing here")
        user.require(Capability.MODIFY)
        given = dict(self._sort.verbs[verb](ask.form))
        name = f"{kind.replace('#', '/')}/action#{verb}"

        def work(path: str) -> None:
            model = self._service.model(user)
            checked = action(model, model.kinds[kind], verb, Body((name,), given))
            self._service.act(user, path, *checked)

        return self._done(ask, work)

    def _done(self, ask: Ask, work: Callable[[str], object]) -> Reply:
        """What a form asks for is done to the one that it names."""
        try:
            paths = {each.id: each.path for each in self._all(ask.known.user)}
            if ask.form.one("id") not in paths:
                raise OcciError(404, "it is not there any more")
            work(paths[ask.form.one("id")])
        except OcciError as fault:
            return self._page(ask, Form(f"id={uuid.uuid4()}"), fault)
        return see(f"/{self._sort.page}")

    def _page(
        self,
        ask: Ask,
        form: Form,
        fault: OcciError | None = None,
        of: frozenset[str] = frozenset(),
    ) -> Reply:
        """All of it; a fault may be about fields `of` the form for one more."""
        said = fault.message if fault else ""
        page = templates.page(
            self._sort.page,
            all=self._shown(ask.known.user),
            form=form,
            fault=said,
            field=fields.about(said, of),
            **common(ask),
        )
        return replace(page, status=fault.status if fault else 200)

    def _shown(self, user: User) -> list[views.Belonging]:
        user.require(Capability.READ)
        vms = self._service.entities(user, schema.COMPUTE)
        return [views.belonging(each, vms) for each in self._all(user)]

    def _all(self, user: User) -> list[Entity]:
        return list(self._service.entities(user, self._sort.kind))
