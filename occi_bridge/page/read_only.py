"""Pages that are only looked at: what there is for a user, in a template."""

from collections.abc import Callable, Mapping

from starlette.concurrency import run_in_threadpool

from occi_bridge.identity.user import Capability, User
from occi_bridge.page import live, templates
from occi_bridge.page.exchange import Ask, Reply
from occi_bridge.page.vms import common


class ReadOnly:
    """Such a page."""

    def __init__(self, template: str, find: Callable[[User], Mapping[str, object]]) -> None:
        """`find` tells what the template shows to a user; it may block."""
        self._template = template
        self._find = find

    async def show(self, ask: Ask) -> Reply:
        """The whole page."""
        return await self._reply(ask, self._template, common(ask))

    async def _reply(self, ask: Ask, template: str, more: Mapping[str, object]) -> Reply:
        def work() -> Reply:
            user = ask.known.user
            user.require(Capability.READ)
            return templates.page(template, **self._find(user), **more)

        return await run_in_threadpool(work)


class Followed(ReadOnly):
    """One that follows by itself: what changes of it is in a template of its own. It does so also
    while the service's revision stays, which does not tell when a bait answered last."""

    async def now(self, ask: Ask) -> Reply:
        """The part of it that changes."""
        found = await self._reply(ask, f"{self._template}-now", {})
        return live.same_or(ask, ask.known.user, found)
