"""The end of a VM's serial console: what its guest wrote while it booted, and since.

A guest writes what it likes: escape codes and control characters are taken out.
"""

import logging
import re
from collections.abc import Awaitable, Callable

from starlette.concurrency import run_in_threadpool

from occi_bridge.identity.user import Capability
from occi_bridge.page import live, templates
from occi_bridge.page.exchange import Ask, Reply
from occi_bridge.page.vms import common
from occi_bridge.service.service import BridgeService
from wnodes_lrms.errors import AbsentError, WnodesError

Reader = Callable[[str, str], Awaitable[str]]  # a bait's URL, a VM's name there

# ECMA-48: control sequences; operating system commands and their like; other escapes.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?"
)
_LONGEST = 32768  # characters that are shown

log = logging.getLogger(__name__)


class Console:
    """The page of a console."""

    def __init__(self, service: BridgeService, reader: Reader) -> None:
        self._service = service
        self._reader = reader

    async def show(self, ask: Ask) -> Reply:
        """The whole page."""
        text, said = await self._read(ask)
        name = ask.names["id"]
        may = Capability.MODIFY in ask.known.user.identity.may
        return templates.page("console", id=name, text=text, said=said, may=may, **common(ask))

    async def now(self, ask: Ask) -> Reply:
        """The part of it that changes."""
        text, said = await self._read(ask)
        return live.same_or(ask, ask.known.user, templates.page("written", text=text, said=said))

    async def _read(self, ask: Ask) -> tuple[str, str]:
        """What was written, and a sentence where it can't be shown."""
        user = ask.known.user
        user.require(Capability.READ)
        place = await run_in_threadpool(self._service.place, user, f"/compute/{ask.names['id']}")
        if place is None:
            return "", "It is on no node yet, so there is nothing to read."
        try:
            return readable(await self._reader(*place)), ""
        except AbsentError:
            return "", "It is on no node any more, so there is nothing to read."
        except WnodesError as error:
            log.warning("console: %s", error)
            return "", "Its node does not answer now."


def readable(text: str) -> str:
    """What somebody would have read on a plain terminal, without what moved the cursor."""
    text = _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    kept = "".join(c for c in text if c in "\n\t" or c.isprintable())
    return kept[-_LONGEST:]
