"""Who may use which image: the rule that holds at submission and, with authority, in the bait.

hooks/job_submit.lua has the same rule in Lua, to refuse early; one table tests both.
"""

from collections.abc import Collection, Iterable
from typing import Protocol


class AllowRule(Protocol):
    """An [[allow]] of the configuration."""

    @property
    def image(self) -> str: ...
    @property
    def users(self) -> Collection[str]: ...
    @property
    def groups(self) -> Collection[str]: ...
    @property
    def accounts(self) -> Collection[str]: ...


def may_use(
    rules: Iterable[AllowRule],
    image: str,
    user: str | None,
    groups: Collection[str],
    account: str | None,
) -> bool:
    """Whether this user, in these groups, charging this account, may run jobs in this image.

    An image that no rule names, by tag or by "*", is for everybody. Otherwise one rule that names
    the image must name the user, one of the groups or the account: rules add up, and a rule that
    names nobody lets nobody in.
    """
    about = [rule for rule in rules if rule.image in (image, "*")]
    return not about or any(
        user in rule.users or account in rule.accounts or not set(groups).isdisjoint(rule.groups)
        for rule in about
    )
