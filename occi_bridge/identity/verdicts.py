"""What was decided about credentials, for as long as that holds, and the log of it."""

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from occi_bridge.identity.user import DeniedError, Kind, User

LIFE = 300.0  # seconds that a verdict holds at most
_MOST = 10_000

log = logging.getLogger(__name__)


@dataclass
class Verdict:
    """What was decided, until when (epoch seconds), and to which addresses it was told."""

    outcome: User | DeniedError
    until: float
    told: set[str] = field(default_factory=set)

    def tell(self, address: str) -> User:
        """The user; it is logged once for each address. Raises DeniedError."""
        if address not in self.told:
            self.told.add(address)
            log_decision(self.outcome, address)
        if isinstance(self.outcome, DeniedError):
            raise self.outcome.again()
        return self.outcome


class Verdicts:
    """Verdicts by the SHA-256 of what they are about: the credentials themselves are not kept."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Verdict] = OrderedDict()

    def get(self, digest: bytes) -> Verdict | None:
        """The one that still holds."""
        verdict = self._kept.get(digest)
        return verdict if verdict and time.time() < verdict.until else None

    def put(self, digest: bytes, verdict: Verdict) -> None:
        """Keep one; the oldest goes where there are too many."""
        self._kept[digest] = verdict
        self._kept.move_to_end(digest)
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)


def log_decision(outcome: User | DeniedError, address: str) -> None:
    """One line for it."""
    identity = outcome.identity
    groups = ",".join(identity.groups) if identity else ""
    kind = "sub" if identity and identity.kind is Kind.TOKEN else "dn"
    who = f'{kind}="{identity.subject if identity else ""}" fqans="{groups}"'
    if isinstance(outcome, DeniedError):
        text = 'refused: %s address=%s status=%d reason="%s"'
        log.warning(text, who, address, outcome.status, outcome.reason)
    else:
        linked = f' owner="{outcome.key}"' if outcome.key != outcome.subject else ""
        text = 'allowed: %s%s address=%s account=%s grant="%s"'
        log.info(text, who, linked, address, outcome.account, outcome.grant.match)
