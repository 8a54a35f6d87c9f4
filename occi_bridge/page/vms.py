"""A user's VMs: all of them, one, and what can be done to it."""

from collections.abc import Mapping

from starlette.concurrency import run_in_threadpool

from occi_bridge.identity.user import Capability, User
from occi_bridge.occi import schema, validate_new
from occi_bridge.occi.messages import Body, OcciError, Value
from occi_bridge.occi.resolve import action
from occi_bridge.page import cookies, live, offers, templates, views
from occi_bridge.page.exchange import Ask, Fault, Form, Reply, see
from occi_bridge.service.service import BridgeService

_ACTIONS = f"{schema.INFRA}/compute/action#"
# What is done, and what the page says of it.
VERBS: Mapping[str, str] = {
    "start": "It takes a new lease, and starts with the disk that it has.",
    "stop": "It is shut down and its cores are given back; its disk is kept.",
    "restart": "It is shut down and started again, in the same lease.",
    "suspend": "It stands still, and keeps its cores.",
    "save": "Its disk becomes an image that you can make VMs of.",
}


class Vms:
    """The pages about VMs."""

    def __init__(self, service: BridgeService) -> None:
        self._service = service
        self._parts = live.Parts(service)

    async def show(self, ask: Ask) -> Reply:
        """All VMs, and the quota."""
        visitor = ask.known
        return await run_in_threadpool(
            lambda: templates.page("vms", **self._all(visitor.user), **common(ask), fragment="/vms")
        )

    async def rows(self, ask: Ask) -> Reply:
        """The part of it that changes."""
        return await self._parts.reply(ask, "rows", self._all)

    async def one(self, ask: Ask) -> Reply:
        """One VM."""
        visitor, name = ask.known, ask.names["id"]
        return await run_in_threadpool(
            lambda: templates.page(
                "vm", **self._one(visitor.user, name), fragment=f"/vm/{name}/now", **common(ask)
            )
        )

    async def now(self, ask: Ask) -> Reply:
        """The part of it that changes."""
        return await self._parts.reply(ask, "now", lambda user: self._one(user, ask.names["id"]))

    async def act(self, ask: Ask) -> Reply:
        """Do something to it."""
        user, verb, form = ask.known.user, ask.names["verb"], ask.form
        path = f"/compute/{ask.names['id']}"
        if verb == "delete":
            await run_in_threadpool(self._service.delete, user, path)
            return see("/")
        done = {"attach": self._attach, "detach": self._detach}.get(verb, self._act)
        await run_in_threadpool(done, user, path, verb, form)
        return see(f"/vm/{ask.names['id']}")

    def _act(self, user: User, path: str, verb: str, form: Form) -> None:
        if verb not in VERBS:
            raise Fault(404, "there is nothing here")
        user.require(Capability.MODIFY)
        model = self._service.model(user)
        given: dict[str, Value] = {"name": form.one("name")} if form.one("name") else {}
        name = _ACTIONS + verb
        kind = model.kinds[schema.COMPUTE]
        checked = action(model, kind, verb, Body((name,), given))
        self._service.act(user, path, *checked)

    def _attach(self, user: User, path: str, _verb: str, form: Form) -> None:
        user.require(Capability.CREATE)
        model = self._service.model(user)
        target = form.one("target")
        if not target:
            raise Fault(400, "nothing was chosen")
        there = model.kind_of(target)
        kind = {schema.NETWORK: schema.NETWORKINTERFACE, schema.STORAGE: schema.STORAGELINK}.get(
            there.id if there else ""
        )
        if not kind:
            raise Fault(400, "a network or a volume is needed")
        asked = Body((kind,), {schema.SOURCE: path, schema.TARGET: target})
        self._service.create(user, validate_new.create(model, asked), model)

    def _detach(self, user: User, path: str, _verb: str, form: Form) -> None:
        found = self._service.entity(user, path)
        links = {link.id: link.path for link in found.links}
        if form.one("link") not in links:
            raise OcciError(404, "it is not attached any more")
        self._service.delete(user, links[form.one("link")])

    def _all(self, user: User) -> dict[str, object]:
        user.require(Capability.READ)
        model, standings = self._service.model(user), self._service.standings(user)
        found = self._service.entities(user, schema.COMPUTE)
        vms = [views.vm(each, standings.get(each.path), model, {}) for each in found]
        return {"vms": vms, "quotas": offers.quotas(user, self._service.used(user))}

    def _one(self, user: User, name: str) -> dict[str, object]:
        user.require(Capability.READ)
        path = f"/compute/{name}"
        found = self._service.entity(user, path)
        entities = self._service.entities(user, None)
        standing, model = self._service.standings(user).get(path), self._service.model(user)
        vm = views.vm(found, standing, model, views.titles(entities))
        attached = {link.path for link in vm.cards}
        return {
            "vm": vm,
            "steps": views.steps(vm),
            "verbs": VERBS,
            "networks": [each for each in offers.networks(entities) if each.id not in attached],
            "volumes": offers.free_volumes(entities),
        }


def common(ask: Ask) -> dict[str, object]:
    """What the frame of each page needs."""
    visitor = ask.known
    return {
        "who": visitor.user.subject,
        "token": cookies.form_token(visitor.secret),
        "here": ask.path,
        "sees_site": visitor.user.grant.site,
    }
