"""The SSH keys that a user has the page remember."""

from starlette.concurrency import run_in_threadpool

from occi_bridge.page import templates
from occi_bridge.page.exchange import Ask, Reply, see
from occi_bridge.page.vms import common
from occi_bridge.store.ssh_keys import SshKeys


class Keys:
    """The page of the keys."""

    def __init__(self, keys: SshKeys) -> None:
        self._keys = keys

    async def show(self, ask: Ask) -> Reply:
        """All of them."""
        found = await run_in_threadpool(self._keys.of, ask.known.user.key)
        return templates.page("keys", keys=found, **common(ask))

    async def forget(self, ask: Ask) -> Reply:
        """One less."""
        await run_in_threadpool(self._keys.forget, ask.known.user.key, ask.form.one("name"))
        return see("/keys")
