"""Who somebody is, what they may do here, and why somebody may do nothing: values."""

from dataclasses import dataclass
from enum import StrEnum

from wnodes_lrms.config.load import Grant


class Kind(StrEnum):
    """What somebody is known by."""

    CERTIFICATE = "certificate"
    TOKEN = "token"  # noqa: S105 (no password)


class Capability(StrEnum):
    """What a token's scopes may be limited to: WLCG Common JWT Profile 1.3, 2.2.1."""

    READ = "compute.read"
    CREATE = "compute.create"
    MODIFY = "compute.modify"
    CANCEL = "compute.cancel"


ALL = frozenset(Capability)


@dataclass(frozen=True)
class Identity:
    """Who somebody is, as their certificate or token says. It has been verified.

    `subject` is the DN of their own certificate in one line, never a proxy's; or a token's issuer
    and subject, `https://issuer#subject`. No two people have one subject.
    """

    kind: Kind
    subject: str
    groups: tuple[str, ...] = ()  # in the form of FQANs, the primary one first
    may: frozenset[Capability] = ALL
    passed_over: tuple[str, ...] = ()  # groups that give them nothing, but may be banned
    for_us_alone: bool = True  # False: a token that other services took, or could have taken, too


@dataclass(frozen=True)
class User:
    """A user of the service, known and granted something."""

    identity: Identity
    account: str  # the local user that their leases run as
    grant: Grant
    key: str  # the owner of what they make: their subject, or the DN that it is linked to

    @property
    def subject(self) -> str:
        """The name that they came with."""
        return self.identity.subject

    @property
    def groups(self) -> tuple[str, ...]:
        """Their groups, the primary one first."""
        return self.identity.groups

    @property
    def group(self) -> str:
        """Their primary group; empty without any."""
        return self.groups[0] if self.groups else ""

    def require(self, capability: Capability) -> None:
        """Raises DeniedError where they came with a token that is not for that."""
        if capability not in self.identity.may:
            has = " ".join(sorted(self.identity.may))
            raise DeniedError(
                403,
                f"the token is for {has} only: {capability} is needed",
                self.identity,
                error="insufficient_scope",
            )


class DeniedError(Exception):
    """The client may not use the service, with the HTTP status and the reason in a sentence.

    400: what they came with makes no sense; 401: nobody can tell who it is; 403: it is known, and
    has no right; 503: it can't be told now. `identity` is what is known of them, `error` what
    RFC 6750 calls the fault of a token; `tokens` tells whether they could have come with one.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        identity: Identity | None = None,
        *,
        error: str = "",
        tokens: bool = False,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.identity = identity
        self.error = error
        self.tokens = tokens

    def again(self) -> "DeniedError":
        """The same, to be raised once more: an exception collects where it has been."""
        return DeniedError(
            self.status, self.reason, self.identity, error=self.error, tokens=self.tokens
        )
