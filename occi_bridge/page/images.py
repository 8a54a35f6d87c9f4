"""The images that VMs are made of: what each needs, and who may use it; saved ones are deleted."""

from dataclasses import replace

from starlette.concurrency import run_in_threadpool

from occi_bridge.identity.user import Capability, User
from occi_bridge.occi.messages import OcciError
from occi_bridge.page import live, templates
from occi_bridge.page.exchange import Ask, Reply, see
from occi_bridge.page.vms import common
from occi_bridge.service.service import BridgeService


class Images:
    """The page of the images."""

    def __init__(self, service: BridgeService) -> None:
        self._service = service
        self._parts = live.Parts(service)

    async def show(self, ask: Ask) -> Reply:
        """All that the user may have."""
        return await run_in_threadpool(self._page, ask)

    async def now(self, ask: Ask) -> Reply:
        """The part of it that changes."""
        return await self._parts.reply(ask, "images-now", self._shown)

    async def delete(self, ask: Ask) -> Reply:
        """One less, of those that they have saved."""
        return await run_in_threadpool(self._delete, ask)

    def _delete(self, ask: Ask) -> Reply:
        user, tag = ask.known.user, ask.form.one("tag")
        try:
            named = self._mixins(user, saved=True).get(tag)
            if named is None:
                raise OcciError(404, "it is not there any more")
            self._service.remove_mixin(user, named)
        except OcciError as fault:
            return self._page(ask, fault)
        return see("/images")

    def _page(self, ask: Ask, fault: OcciError | None = None) -> Reply:
        said = fault.message if fault else ""
        page = templates.page("images", **self._shown(ask.known.user), fault=said, **common(ask))
        return replace(page, status=fault.status if fault else 200)

    def _shown(self, user: User) -> dict[str, object]:
        user.require(Capability.READ)
        mixins = self._mixins(user, saved=False) | self._mixins(user, saved=True)
        return {"images": self._service.images(user), "mixins": mixins}

    def _mixins(self, user: User, *, saved: bool) -> dict[str, str]:
        """The ids by which requests name the images, by their tags."""
        found = self._service.model(user).mixins.values()
        return {each.value: each.id for each in found if each.value and each.saved is saved}
