"""The whole site, for those whom their grant lets see it. Read only."""

import time

from starlette.concurrency import run_in_threadpool

from occi_bridge.identity.user import Capability
from occi_bridge.page import templates
from occi_bridge.page.exchange import Ask, Reply
from occi_bridge.page.vms import common
from occi_bridge.service.service import BridgeService


class WholeSite:
    """The page of the nodes, and of whose VMs are on them."""

    def __init__(self, service: BridgeService) -> None:
        self._service = service

    async def show(self, ask: Ask) -> Reply:
        """All of it."""
        return await run_in_threadpool(self._page, ask)

    def _page(self, ask: Ask) -> Reply:
        user = ask.known.user
        user.require(Capability.READ)
        found = self._service.overview(user)
        return templates.page("site", site=found, now=time.time(), **common(ask))
