"""From who somebody is to what they may have: ban file, then grants, then maps."""

import threading
from collections.abc import Mapping

from occi_bridge.identity import grants, pools
from occi_bridge.identity.gridfiles import Bans, Maps
from occi_bridge.identity.user import Identity, User
from wnodes_lrms.config.load import Bridge
from wnodes_lrms.errors import ConfigError, RejectedError


class Authorization:
    """The site's policy. Safe to use from many threads."""

    def __init__(self, bridge: Bridge) -> None:
        """Raises ConfigError for a grant that is malformed."""
        try:
            for grant in bridge.grant:
                grants.pattern(grant.match)
        except ValueError as error:
            raise ConfigError("bridge.grant", [f"match: {error}"]) from error
        self._bridge = bridge
        self._bans = Bans(bridge.ban_file)
        self._by_name = Maps(bridge.grid_mapfile)
        self._by_group = Maps(bridge.voms_mapfile)
        for each in (self._bans, self._by_name, self._by_group):
            each.look()  # what is wrong with them is to be in the log before anybody comes
        self._files = threading.Lock()

    def user(self, identity: Identity, links: Mapping[str, str]) -> User:
        """The user that somebody is here. Raises RejectedError, UnknownError.

        `links` has the DN that a token's subject is linked to. Then it is one person: a ban of one
        name is for all of them, and what is for the DN is for the subject, if nothing else is.
        """
        owner = links.get(identity.subject, identity.subject)
        names = tuple(dict.fromkeys((identity.subject, owner)))
        person = {*names, *(name for name, of in links.items() if of == owner)}
        groups = identity.groups
        with self._files:
            for name in sorted(person):
                if banned := self._bans.refusal(name, (*groups, *identity.passed_over)):
                    raise RejectedError(banned)
            grant = grants.granted(self._bridge.grant, names, groups)
            if not grant:
                raise RejectedError("no [[bridge.grant]] is for this user")
            account = self._account(names, groups, owner)
        return User(identity, account, grant, owner)

    def _account(self, names: tuple[str, ...], groups: tuple[str, ...], owner: str) -> str:
        """The local account of these groups, or of the first of these names that has one."""
        by_group = self._by_group.account("", groups)
        by_name = (self._by_name.account(name, ()) for name in names)
        mapping = by_group or next(filter(None, by_name), None)
        if not mapping:
            files = f"{self._by_name.path}, {self._by_group.path}"
            raise RejectedError(f"no local account for this user in {files}")
        if not mapping.account:
            raise RejectedError(f"{mapping.where} is broken")
        if not mapping.account.startswith("."):
            return mapping.account
        pool = mapping.account.removeprefix(".")
        return pools.account(self._bridge.pool_dir, pool, owner, by_vo=by_group is not None)
