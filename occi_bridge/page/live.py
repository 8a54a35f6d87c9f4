"""Parts of the page that are asked for again and again: what has not changed costs little.

The entity tag has the service's revision: while that is the same, nothing at all has changed. It
has a digest of the part as well, as what has changed may be somewhere else.
"""

import functools
import hashlib
import re
from collections.abc import Callable, Mapping

from starlette.concurrency import run_in_threadpool

from occi_bridge.identity.user import User
from occi_bridge.page import cookies, templates
from occi_bridge.page.exchange import Ask, Reply
from occi_bridge.service.service import BridgeService
from occi_bridge.web.revisions import Revisions
from wnodes_lrms.version import VERSION

_TAG = re.compile(r'"(-?[0-9]{1,20})\.([0-9a-f]{16})\.([0-9a-f]{16})"')


class Parts:
    """The parts of pages that change, each a template of its own."""

    def __init__(self, service: BridgeService) -> None:
        self._revisions = Revisions(service)

    async def reply(
        self, ask: Ask, template: str, find: Callable[[User], Mapping[str, object]]
    ) -> Reply:
        """A part as it is now, or 304 where the browser has it so. `find` tells what the template
        shows to a user; it may block."""
        user, secret = ask.known.user, ask.known.secret

        def render() -> Reply:
            return templates.page(template, **find(user), token=cookies.form_token(secret))

        return await _as_of(ask, user, await self._revisions.now(), render)


async def _as_of(ask: Ask, user: User, revision: int, render: Callable[[], Reply]) -> Reply:
    whose = _whose(ask.path, user)
    has = _TAG.fullmatch(ask.header(b"if-none-match"))
    if has and (int(has[1]), has[2]) == (revision, whose):
        return _tagged(Reply(status=304), has[0])
    found = await run_in_threadpool(render)
    now = f'"{revision}.{whose}.{_digest(found.body)}"'
    if has and (has[2], has[3]) == (whose, _digest(found.body)):
        return _tagged(Reply(status=304), now)
    return _tagged(found, now)


def same_or(ask: Ask, user: User, found: Reply) -> Reply:
    """A part that changes while the service's revision stays, or 304 for the same once more."""
    now = f'"0.{_whose(ask.path, user)}.{_digest(found.body)}"'
    same = ask.header(b"if-none-match") == now
    return _tagged(Reply(status=304) if same else found, now)


@functools.lru_cache(4096)  # the same is asked for every three seconds
def _whose(path: str, user: User) -> str:
    return _digest(repr((VERSION, path, user.key, user.groups, user.account, user.grant)))


def _tagged(reply: Reply, tag: str) -> Reply:
    return Reply(reply.body, reply.status, reply.media, (*reply.headers, ("etag", tag)))


def _digest(what: str | bytes) -> str:
    data = what.encode() if isinstance(what, str) else what
    return hashlib.sha256(data).hexdigest()[:16]
