"""Who may use which image, and which image the site gives to jobs that ask for none.

The bait decides by these rules; submission applies them too, to refuse early. hooks/job_submit.lua
has the same rules in Lua; one table tests both.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
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


class DefaultRule(Protocol):
    """A [[default]] of the configuration: the keys that are set must all fit."""

    @property
    def image(self) -> str: ...
    @property
    def partition(self) -> str | None: ...
    @property
    def account(self) -> str | None: ...
    @property
    def qos(self) -> str | None: ...


@dataclass(frozen=True)
class Policy:
    """What submission must know: the catalogue's tags, the site's defaults, who may use what,
    and the users that leases may run as (a `*` at a name's end stands for any rest)."""

    tags: Collection[str]
    defaults: Sequence[DefaultRule] = ()
    allow: Sequence[AllowRule] = ()
    lease_users: Sequence[str] = ()


def default_image(
    rules: Iterable[DefaultRule], partition: str, account: str | None, qos: str | None = None
) -> str:
    """The image that the site gives to such a job that asks for none; empty: it gives none.

    The first rule counts of which all the keys fit that are set.
    """
    facts = {"partition": partition, "account": account, "qos": qos}
    for rule in rules:
        if all(getattr(rule, key) in (None, value) for key, value in facts.items()):
            return rule.image
    return ""


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
