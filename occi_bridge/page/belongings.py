"""A user's volumes and networks: listed, made, deleted."""

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

from starlette.concurrency import run_in_threadpool

from occi_bridge.identity.user import Capability, User
from occi_bridge.occi import schema, validate_new
from occi_bridge.occi.messages import Body, Entity, OcciError, Value
from occi_bridge.page import templates, views
from occi_bridge.page.exchange import ANOTHER, Ask, Form, Reply, see
from occi_bridge.page.vms import common
from occi_bridge.service.service import BridgeService

_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,3})?")


@dataclass(frozen=True)
class Sort:
    """What there is of them: the page's name, the kind, and what a form asks for."""

    page: str
    kind: str
    asked: Callable[[Form], Body]


def _volume(form: Form) -> Body:
    size = form.one("size")
    value: Value = float(size) if _NUMBER.fullmatch(size) else size
    return Body((schema.STORAGE,), {**_named(form), "occi.storage.size": value})


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


VOLUMES = Sort("volumes", schema.STORAGE, _volume)
NETWORKS = Sort("networks", schema.NETWORK, _network)


class Belongings:
    """The page of all of a sort."""

    def __init__(self, service: BridgeService, sort: Sort) -> None:
        self._service = service
        self._sort = sort

    async def show(self, ask: Ask) -> Reply:
        """All of them, and a form for one more."""
        return await run_in_threadpool(self._page, ask, Form(f"id={uuid.uuid4()}"))

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
            return self._page(ask, form, fault)
        return see(f"/{self._sort.page}")

    def _delete(self, ask: Ask) -> Reply:
        user = ask.known.user
        try:
            paths = {each.id: each.path for each in self._all(user)}
            if ask.form.one("id") not in paths:
                raise OcciError(404, "it is not there any more")
            self._service.delete(user, paths[ask.form.one("id")])
        except OcciError as fault:
            return self._page(ask, Form(f"id={uuid.uuid4()}"), fault)
        return see(f"/{self._sort.page}")

    def _page(self, ask: Ask, form: Form, fault: OcciError | None = None) -> Reply:
        user = ask.known.user
        user.require(Capability.READ)
        vms = self._service.entities(user, schema.COMPUTE)
        page = templates.page(
            self._sort.page,
            all=[views.belonging(each, vms) for each in self._all(user)],
            form=form,
            fault=fault.message if fault else "",
            **common(ask),
        )
        return replace(page, status=fault.status if fault else 200)

    def _all(self, user: User) -> list[Entity]:
        return list(self._service.entities(user, self._sort.kind))
