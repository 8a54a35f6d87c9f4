"""The whole site, for those whom their grant lets see it. Read only."""

import time

from starlette.concurrency import run_in_threadpool

from occi_bridge.identity.user import Capability, User
from occi_bridge.page import live, templates
from occi_bridge.page.exchange import Ask, Reply
from occi_bridge.page.vms import common
from occi_bridge.service.service import BridgeService


class WholeSite:
    """The page of the nodes, and of whose VMs are on them."""

    def __init__(self, service: BridgeService) -> None:
        self._service = service

    async def show(self, ask: Ask) -> Reply:
        """All of it."""
        return await run_in_threadpool(
            lambda: templates.page("site", **self._shown(ask.known.user), **common(ask))
        )

    async def now(self, ask: Ask) -> Reply:
        """The part of it that changes; the revision does not tell when a bait answered last."""
        user = ask.known.user
        found = await run_in_threadpool(lambda: templates.page("site-now", **self._shown(user)))
        return live.same_or(ask, user, found)

    def _shown(self, user: User) -> dict[str, object]:
        user.require(Capability.READ)
        return {"site": self._service.overview(user), "now": time.time()}
