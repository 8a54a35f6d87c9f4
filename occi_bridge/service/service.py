"""The OCCI application's service (ports.Service): users' requests in, the state of things out.

Nothing here asks a node. A request becomes rows; the driver is woken and carries it out.
"""

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from occi_bridge.identity.authenticator import User
from occi_bridge.occi.messages import Definition, Entity, OcciError, Value
from occi_bridge.occi.mixins import site_model
from occi_bridge.occi.model import Mixin, Model
from occi_bridge.occi.validate_changes import Changes
from occi_bridge.occi.validate_new import New
from occi_bridge.service import create as making
from occi_bridge.service import entities as view
from occi_bridge.service import quota
from occi_bridge.service import update as changing
from occi_bridge.service.links import check_tags
from occi_bridge.service.offer import Site
from occi_bridge.service.quota import Amount
from occi_bridge.service.transaction import Transaction
from occi_bridge.store import heard, queries, tables
from occi_bridge.store.database import Database
from occi_bridge.store.networks import Net
from occi_bridge.store.rows import Network, Row
from wnodes_lrms.errors import UnknownError

log = logging.getLogger(__name__)
Result = TypeVar("Result")

_UNHEARD = 30.0  # seconds without any bait's answer after which changes are refused
_RETRY = 30  # seconds after which clients are told to ask again
_MODELS = 256  # kept, for as many users

_BY_ID = {name: kind for kind, name in view.KIND_IDS.items()}


class BridgeService:
    """See ports.Service, which says what each method does. Safe to use from many threads."""

    def __init__(self, db: Database, site: Site, wake: Callable[[], None]) -> None:
        """`wake` tells the driver, if it is near, that there is a new request."""
        self._db = db
        self._site = site
        self._wake = wake
        self._model = functools.lru_cache(_MODELS)(self._made_model)

    def revision(self) -> int:
        return self._db.revision() * 0x10000 + self._site.edition() % 0x10000

    def model(self, user: User) -> Model:
        return self._model(user, self.revision())

    def used(self, user: User) -> Amount:
        """What the user has, of what their quota limits."""
        with self._transaction(user) as tx:
            return tx.used(user.key)

    def locations(self, user: User, category: str | None) -> Sequence[str]:
        with self._transaction(user) as tx:
            if category is None or category in _BY_ID:
                return tx.locations(_BY_ID[category] if category else None)
            return [entity.path for entity in _having(tx, category)]

    def entities(self, user: User, category: str | None) -> Sequence[Entity]:
        with self._transaction(user) as tx:
            if category is None or category in _BY_ID:
                return tx.entities(_BY_ID[category] if category else None)
            return _having(tx, category)

    def entity(self, user: User, path: str) -> Entity:
        with self._transaction(user) as tx:
            return tx.entity(tx.find(path))

    def create(self, user: User, new: New) -> Entity:
        model = self.model(user)

        def work(tx: Transaction) -> Entity:
            if new.kind != view.KIND_IDS[Network]:
                _check_heard(tx)
            return tx.entity(making.make(tx, model, new))

        return self._write(user, work)

    def update(self, user: User, path: str, changes: Changes) -> Entity:
        def work(tx: Transaction) -> Entity:
            row = _own(tx, path)
            if changes.links:
                _check_heard(tx)
            kept = [mixin for mixin in row.mixins if mixin not in changes.removed]
            mixins = [*kept, *(mixin for mixin in changes.added if mixin not in kept)]
            changing.change(tx, row, changes.attributes, mixins, changes.links, whole=False)
            return tx.entity(tx.find(path))

        return self._write(user, work)

    def replace(self, user: User, path: str, new: New) -> Entity:
        def work(tx: Transaction) -> Entity:
            row = _own(tx, path)
            if new.links:
                _check_heard(tx)
            mixins = list(new.mixins)
            changing.change(tx, row, new.attributes, mixins, new.links, whole=True)
            return tx.entity(tx.find(path))

        return self._write(user, work)

    def delete(self, user: User, path: str) -> None:
        def work(tx: Transaction) -> None:
            row = _own(tx, path)
            if not isinstance(row, Network):
                _check_heard(tx)
            changing.delete(tx, row)

        self._write(user, work)

    def delete_all(self, user: User, paths: Sequence[str]) -> None:
        def work(tx: Transaction) -> None:
            for path in paths:
                with _at(path):
                    try:
                        row = _own(tx, path)
                    except OcciError as fault:
                        if fault.status == 404:  # it went with another of them
                            continue
                        raise
                    if not isinstance(row, Network):
                        _check_heard(tx)
                    changing.delete(tx, row)

        self._write(user, work)

    def fixed(self, user: User) -> frozenset[str]:
        return frozenset(f"/network/{net.name}" for net in self._site.granted(user.grant))

    def act_all(
        self, user: User, paths: Sequence[str], action: str, attributes: Mapping[str, Value]
    ) -> None:
        def work(tx: Transaction) -> None:
            for path in paths:
                with _at(path):
                    row = tx.find(path)
                    if not isinstance(row, Net | Network):
                        _check_heard(tx)
                    changing.act(tx, row, action, attributes)

        self._write(user, work)

    def act(self, user: User, path: str, action: str, attributes: Mapping[str, Value]) -> Entity:
        def work(tx: Transaction) -> Entity:
            row = tx.find(path)
            if not isinstance(row, Net | Network):
                _check_heard(tx)
            changing.act(tx, row, action, attributes)
            return tx.entity(tx.find(path))

        return self._write(user, work)

    def add_mixin(self, user: User, definition: Definition) -> None:
        table = tables.mixin

        def work(tx: Transaction) -> None:
            same = sa.or_(
                sa.and_(table.c.scheme == definition.scheme, table.c.term == definition.term),
                table.c.location == definition.location,
            )
            tx.db.lock(tx.link, f"owner {user.key}")
            where = (table.c.owner == user.key, same)
            if tx.link.execute(sa.select(table.c.term).where(*where)).first():
                raise OcciError(409, f"{definition.id} or its location is there already")
            fault = quota.full("mixins", tx.count(table, where[0]), quota.MIXINS)
            if fault:
                raise OcciError(403, fault)
            tx.link.execute(
                sa.insert(table).values(
                    owner=user.key,
                    scheme=definition.scheme,
                    term=definition.term,
                    title=definition.title,
                    location=definition.location,
                    parent=definition.rel,
                )
            )

        self._write(user, work)

    def remove_mixin(self, user: User, mixin: str) -> None:
        named = self.model(user).mixins.get(mixin)

        def work(tx: Transaction) -> None:
            if named and named.saved:
                stands = (tables.compute.c.image == named.value, tables.compute.c.saved)
                if tx.link.execute(sa.select(tables.compute.c.uid).where(*stands)).first():
                    raise OcciError(409, f"{mixin}: there are machines made from it: delete them")
                image = tables.saved.c
                mine = (image.owner == user.key, image.tag == named.value, image.state == "ready")
                changed = sa.update(tables.saved).where(*mine).values(state="gone")
                if not tx.link.execute(changed).rowcount:
                    raise OcciError(403, f"{mixin} is not yours")
                return
            table = tables.mixin.c
            own = (table.owner == user.key, table.scheme.concat(table.term) == mixin)
            if not tx.link.execute(sa.delete(tables.mixin).where(*own)).rowcount:
                raise OcciError(404, f"you have no mixin {mixin}")
            _tag(tx, mixin, set(), among=None)

        self._write(user, work)

    def tag(
        self, user: User, mixin: str, paths: Sequence[str], how: Literal["add", "remove", "set"]
    ) -> None:
        def work(tx: Transaction) -> None:
            named = {_own(tx, path).uid for path in paths}
            if how == "set":
                _tag(tx, mixin, named, among=None)
            else:
                _tag(tx, mixin, named if how == "add" else set(), among=named)

        self._write(user, work)

    @contextmanager
    def _transaction(self, user: User) -> Iterator[Transaction]:
        with _away(), self._db.reading() as link:
            yield Transaction(link, self._db, self._site, user)

    def _write(self, user: User, work: Callable[[Transaction], Result]) -> Result:
        def in_transaction(link: Connection) -> Result:
            return work(Transaction(link, self._db, self._site, user))

        with _away():
            try:
                result = self._db.write(in_transaction)
            except IntegrityError as error:
                raise OcciError(409, "somebody else changed the same; try again") from error
        self._wake()
        return result

    def _made_model(self, user: User, _revision: int) -> Model:
        saved, own = tables.saved, tables.mixin
        with self._transaction(user) as tx:
            images = tx.link.execute(
                sa.select(saved.c.tag, saved.c.title)
                .where(tx.visible(saved), saved.c.state == "ready")
                .order_by(saved.c.created)
            )
            mine = tx.link.execute(
                sa.select(own).where(own.c.owner == user.key).order_by(own.c.scheme, own.c.term)
            )
            model = site_model(
                [(image.tag, "") for image in self._site.images(user.grant)],
                self._site.templates,
                [(image.tag, image.title) for image in images],
            )
            return model.with_own(
                Mixin(
                    row.term,
                    row.scheme,
                    row.title or row.term,
                    parent=row.parent,
                    location=row.location,
                    user=True,
                )
                for row in mine
            )


@contextmanager
def _at(path: str) -> Iterator[None]:
    """Say of which of several the fault is."""
    try:
        yield
    except OcciError as fault:
        said = f"{path}: {fault.message}; nothing was changed"
        raise OcciError(fault.status, said, fault.retry_after) from fault


def _having(tx: Transaction, mixin: str) -> list[Entity]:
    return [entity for entity in tx.entities(None) if mixin in entity.mixins]


def _own(tx: Transaction, path: str) -> Row:
    """A row that this user may change. Raises OcciError 403, 404."""
    row = tx.find(path)
    if isinstance(row, Net):
        raise OcciError(403, f"network {row.name} is the site's")
    return row


def _tag(tx: Transaction, mixin: str, bearing: set[str], *, among: set[str] | None) -> None:
    """Let just these rows have a mixin, of all that the user sees or of those in `among`."""
    for kind in view.PATHS:
        for row in tx.read(kind):
            if (among is None or row.uid in among) and (mixin in row.mixins) != (
                row.uid in bearing
            ):
                others = [name for name in row.mixins if name != mixin]
                mixins = [*others, mixin] if row.uid in bearing else others
                if row.uid in bearing:
                    check_tags(mixins)
                queries.change(tx.link, row, mixins=mixins)


def _check_heard(tx: Transaction) -> None:
    """Raises OcciError 503 where no bait has answered for long: a change could only wait."""
    if heard.out_of_reach(tx.link, tx.db.now(tx.link), _UNHEARD):
        raise OcciError(503, "no node answers at present; nothing was changed", _RETRY)


@contextmanager
def _away() -> Iterator[None]:
    try:
        yield
    except UnknownError as error:
        log.error("%s", error)
        raise OcciError(503, f"{error.told or error}; nothing was changed", _RETRY) from error
