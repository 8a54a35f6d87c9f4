"""A page that is only looked at: what there is for a user, in a template."""

from collections.abc import Callable, Mapping

from starlette.concurrency import run_in_threadpool

from occi_bridge.identity.user import Capability, User
from occi_bridge.page import templates
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
        return await run_in_threadpool(self._page, ask)

    def _page(self, ask: Ask) -> Reply:
        user = ask.known.user
        user.require(Capability.READ)
        return templates.page(self._template, **self._find(user), **common(ask))
