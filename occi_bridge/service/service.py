"""The service behind the OCCI application: takes users' requests, shows the state of things.

Nothing here asks a node. A request becomes rows; the driver is woken and carries it out.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from occi_bridge.identity.user import Capability, User
from occi_bridge.occi import schema
from occi_bridge.occi.messages import Definition, Entity, OcciError, Value
from occi_bridge.occi.model import Model
from occi_bridge.occi.validate_changes import Changes
from occi_bridge.occi.validate_new import New
from occi_bridge.service import create as making
from occi_bridge.service import entities as view
from occi_bridge.service import images, user_model
from occi_bridge.service import update as changing
from occi_bridge.service.images import Offered
from occi_bridge.service.offer import Site
from occi_bridge.service.overview import Overview, overview
from occi_bridge.service.quota import Amount
from occi_bridge.service.requests import RETRY, Requests
from occi_bridge.service.standing import Standing, standing
from occi_bridge.service.transaction import Transaction
from occi_bridge.service.usage import Day, by_day
from occi_bridge.store import heard, usage
from occi_bridge.store.database import Database
from occi_bridge.store.networks import Net
from occi_bridge.store.rows import Compute, Network, Row
from wnodes_lrms.model import Room

_UNHEARD = 30.0  # seconds without any bait's answer after which changes are refused
_MODELS = 256  # kept, for as many users

_BY_ID = {name: kind for kind, name in view.KIND_IDS.items()}


class BridgeService:
    """web/interfaces.Service says what each method does. Safe to use from many threads."""

    def __init__(self, db: Database, site: Site, wake: Callable[[], None]) -> None:
        """`wake` tells the driver, if it is near, that there is a new request."""
        self._db = db
        self._site = site
        self._requests = Requests(db, site, wake)
        self._model = functools.lru_cache(_MODELS)(self._made_model)

    @property
    def remote(self) -> bool:
        return not self._db.sqlite

    def revision(self) -> int:
        return self._db.revision() * 0x10000 + self._site.edition() % 0x10000

    def model(self, user: User) -> Model:
        return self._model(user, self.revision())

    def used(self, user: User) -> Amount:
        """What the user has, of what their quota limits."""
        with self._requests.reading(user) as tx:
            return tx.used(user.key)

    def standings(self, user: User) -> Mapping[str, Standing]:
        """How far each VM of the user is, by its path."""
        with self._requests.reading(user) as tx:
            return {f"/compute/{row.id}": standing(row) for row in tx.read(Compute)}

    def images(self, user: User) -> list[Offered]:
        """The images that the user may have: their own and their group's first."""
        with self._requests.reading(user) as tx:
            return [*images.saved(tx), *images.of_site(self._site.images(user.grant))]

    def rooms(self, user: User) -> list[Room]:
        """What is free of each node, as was told within the last minutes."""
        with self._requests.reading(user) as tx:
            return heard.rooms(self._db, tx.link)

    def overview(self, user: User) -> Overview:
        """The whole site. Raises OcciError 403 for those whose grant does not have that."""
        if not user.grant.site:
            raise OcciError(403, "your grant does not show you the whole site")
        with self._requests.reading(user) as tx:
            return overview(tx)

    def usage(self, user: User, now: float) -> list[Day]:
        """The core hours of the user's own VMs, by day, as accounting has them."""
        with self._requests.reading(user) as tx:
            return by_day(usage.of(tx.link, {user.key, user.subject}), now)

    def place(self, user: User, path: str, *, own: bool = False) -> tuple[str, str] | None:
        """Where a VM's bait is, and the name that it has there; None where it is on no node.

        own: it is asked for what nobody may do but who made the VM. Raises OcciError 404, and 403
        for others of their group.
        """
        with self._requests.reading(user) as tx:
            row = tx.find(path)
            if not isinstance(row, Compute):
                raise OcciError(404, f"there is no VM at {path}")
            if own and row.owner != user.key:
                raise OcciError(403, "only who made the VM may do that")
            url = heard.url(tx.link, row.node) if row.state else None
            return (url, row.uid) if url else None

    def locations(self, user: User, category: str | None) -> Sequence[str]:
        with self._requests.reading(user) as tx:
            if category is None or category in _BY_ID:
                return tx.locations(_BY_ID[category] if category else None)
            return [entity.path for entity in _having(tx, category)]

    def entities(self, user: User, category: str | None) -> Sequence[Entity]:
        with self._requests.reading(user) as tx:
            if category is None or category in _BY_ID:
                return tx.entities(_BY_ID[category] if category else None)
            return _having(tx, category)

    def entity(self, user: User, path: str) -> Entity:
        with self._requests.reading(user) as tx:
            return tx.entity(tx.find(path))

    def create(self, user: User, new: New, model: Model) -> Entity:
        def work(tx: Transaction) -> Entity:
            if new.kind != view.KIND_IDS[Network]:
                _check_heard(tx)
            return making.make(tx, model, new)

        return self._requests.write(user, Capability.CREATE, work)

    def update(self, user: User, path: str, changes: Changes) -> Entity:
        def mixins(row: Row) -> list[str]:
            kept = [mixin for mixin in row.mixins if mixin not in changes.removed]
            return [*kept, *(mixin for mixin in changes.added if mixin not in kept)]

        return self._change(user, path, changes.attributes, mixins, changes.links, whole=False)

    def replace(self, user: User, path: str, new: New) -> Entity:
        def mixins(_row: Row) -> list[str]:
            return list(new.mixins)

        return self._change(user, path, new.attributes, mixins, new.links, whole=True)

    def _change(
        self,
        user: User,
        path: str,
        attributes: Mapping[str, Value],
        mixins: Callable[[Row], list[str]],
        links: Sequence[New],
        *,
        whole: bool,
    ) -> Entity:
        if links:
            user.require(Capability.CREATE)

        def work(tx: Transaction) -> Entity:
            row = _own(tx, path)
            if links:
                _check_heard(tx)
            changing.change(tx, row, attributes, mixins(row), links, whole=whole)
            return tx.entity(tx.find(path))

        return self._requests.write(user, Capability.MODIFY, work)

    def delete(self, user: User, path: str) -> None:
        def work(tx: Transaction) -> None:
            _delete(tx, path)

        self._requests.write(user, Capability.CANCEL, work)

    def delete_all(self, user: User, paths: Sequence[str]) -> None:
        def work(tx: Transaction) -> None:
            for path in paths:
                with _at(path):
                    try:
                        _delete(tx, path)
                    except OcciError as fault:
                        if fault.status != 404:  # it went with another of them
                            raise

        self._requests.write(user, Capability.CANCEL, work)

    def fixed(self, user: User) -> frozenset[str]:
        return frozenset(f"/network/{net.name}" for net in self._site.granted(user.grant))

    def act_all(
        self, user: User, paths: Sequence[str], action: str, attributes: Mapping[str, Value]
    ) -> None:
        def work(tx: Transaction) -> None:
            for path in paths:
                with _at(path):
                    _act(tx, path, action, attributes)

        _check_may(user, action)
        self._requests.write(user, Capability.MODIFY, work)

    def act(self, user: User, path: str, action: str, attributes: Mapping[str, Value]) -> Entity:
        def work(tx: Transaction) -> Entity:
            return tx.entity(_act(tx, path, action, attributes) or tx.find(path))

        _check_may(user, action)
        return self._requests.write(user, Capability.MODIFY, work)

    def add_mixin(self, user: User, definition: Definition) -> None:
        self._requests.write(
            user, Capability.MODIFY, lambda tx: user_model.add_mixin(tx, definition)
        )

    def remove_mixin(self, user: User, mixin: str) -> None:
        named = self.model(user).mixins.get(mixin)
        needed = Capability.CANCEL if named and named.saved else Capability.MODIFY

        def work(tx: Transaction) -> None:
            if named and named.saved:
                user_model.remove_image(tx, named)
            else:
                user_model.remove_mixin(tx, mixin)

        self._requests.write(user, needed, work)

    def tag(
        self, user: User, mixin: str, paths: Sequence[str], how: Literal["add", "remove", "set"]
    ) -> None:
        def work(tx: Transaction) -> None:
            named = {_own(tx, path).uid for path in paths}
            bearing = set() if how == "remove" else named
            user_model.tag(tx, mixin, bearing, among=None if how == "set" else named)

        self._requests.write(user, Capability.MODIFY, work)

    def _made_model(self, user: User, _revision: int) -> Model:
        with self._requests.glancing(user) as tx:
            return user_model.model(tx)


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


def _delete(tx: Transaction, path: str) -> None:
    row = _own(tx, path)
    if not isinstance(row, Network):
        _check_heard(tx)
    changing.delete(tx, row)


def _check_may(user: User, action: str) -> None:
    """Raises DeniedError where an action makes something, and the user's token is not for that."""
    if action in schema.COPIES:
        user.require(Capability.CREATE)


def _act(tx: Transaction, path: str, action: str, attributes: Mapping[str, Value]) -> Row | None:
    row = tx.find(path)
    if not isinstance(row, Net | Network):
        _check_heard(tx)
    return changing.act(tx, row, action, attributes)


def _check_heard(tx: Transaction) -> None:
    """Raises OcciError 503 where no bait has answered for long: a change could only wait."""
    if heard.out_of_reach(tx.db, tx.link, _UNHEARD):
        raise OcciError(503, "no node answers at present; nothing was changed", RETRY)
