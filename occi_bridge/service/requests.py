"""Users' requests at the database: each is one transaction, as that user.

A database that does not answer is OcciError 503, and nothing was changed then.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from occi_bridge.identity.user import Capability, Kind, User
from occi_bridge.occi.messages import OcciError
from occi_bridge.service.offer import Site
from occi_bridge.service.transaction import Transaction
from occi_bridge.store import links
from occi_bridge.store.database import Database
from wnodes_lrms.errors import UnknownError

RETRY = 30  # seconds after which clients are told to ask again

log = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Requests:
    """The transactions of one bridge. `wake` tells the driver that there is something new."""

    db: Database
    site: Site
    wake: Callable[[], None]

    @contextmanager
    def reading(self, user: User) -> Iterator[Transaction]:
        """A transaction that changes nothing."""
        with _away(), self.db.reading() as link:
            yield Transaction(link, self.db, self.site, user)

    @contextmanager
    def glancing(self, user: User) -> Iterator[Transaction]:
        """The same for a question that is asked often: see Database.glancing()."""
        with _away(), self.db.glancing() as link:
            yield Transaction(link, self.db, self.site, user)

    def write(
        self, user: User, needed: Capability, work: Callable[[Transaction], Result]
    ) -> Result:
        """Do the work in a transaction. Raises DeniedError where the user's token is not for it."""
        user.require(needed)

        def in_transaction(link: Connection) -> Result:
            if user.identity.kind is Kind.TOKEN:
                self._check_owner(link, user)
            return work(Transaction(link, self.db, self.site, user))

        with _away():
            try:
                result = self.db.write(in_transaction)
            except IntegrityError as error:
                raise OcciError(409, "somebody else changed the same; try again") from error
        self.wake()
        return result

    def _check_owner(self, link: Connection, user: User) -> None:
        """Raises OcciError 409 where what they have is kept under another name by now.

        Nobody links or parts their names until the transaction is over, or what it makes would be
        nobody's.
        """
        self.db.lock(link, *{f"owner {user.subject}", f"owner {user.key}"})
        if links.owner(link, user.subject) != user.key:
            raise OcciError(409, "your names have just been linked, or parted; try again")


@contextmanager
def _away() -> Iterator[None]:
    try:
        yield
    except UnknownError as error:
        log.error("%s", error)
        raise OcciError(503, f"{error.told or error}; nothing was changed", RETRY) from error
