"""A whole OCCI service in memory, and users for it: what the application is tried on.

VMs need no time to start, and nothing is behind them; all else is as a Service has to be.
"""

import itertools
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from starlette.types import ASGIApp, Receive, Scope, Send

from occi_bridge.identity.user import DeniedError, Identity, Kind, User
from occi_bridge.occi import mixins, schema, user_mixins
from occi_bridge.occi.messages import Definition, Entity, OcciError, Value, named_in
from occi_bridge.occi.model import Model
from occi_bridge.occi.schema import (
    COMPUTE,
    ID,
    NETWORK,
    OBSERVED,
    OBSERVED_TIME,
    SOURCE,
    STORAGE,
    TARGET,
    USERDATA,
)
from occi_bridge.occi.validate_changes import Changes
from occi_bridge.occi.validate_new import New
from occi_bridge.web.app import application
from wnodes_lrms.config.load import Grant, Template

NET = "00000000-0000-4000-8000-000000000001"
IMAGES = [("small_linux_x86_64", "Small Linux"), ("sl.7_linux_x86_64", "")]
SIZES = [
    Template(name="small", title="", cores=1, memory=512),
    Template(name="large", title="Four; or, so", cores=4, memory=4096),
]
_STATE = {
    COMPUTE: {"occi.compute.state": "active"},
    NETWORK: {"occi.network.state": "active"},
    STORAGE: {"occi.storage.state": "online"},
    schema.STORAGELINK: {"occi.storagelink.state": "active"},
    schema.NETWORKINTERFACE: {"occi.networkinterface.state": "active"},
}
_BECOMES = {
    "start": "active",
    "stop": "inactive",
    "restart": "active",
    "suspend": "suspended",
    "up": "active",
    "down": "inactive",
    "online": "online",
    "offline": "offline",
}


def user(name: str = "Ada") -> User:
    known = Identity(Kind.CERTIFICATE, f"/C=IT/O=Box/CN={name}", ("/box",))
    return User(known, "box", Grant(match="*"), known.subject)


class Users:
    """Knows a user by a chain that is just their name; without one there is no user."""

    async def user(
        self, chain: tuple[bytes, ...], address: str, token: bytes | None = None
    ) -> User:
        if token is not None:
            raise DeniedError(401, f"no token of {len(token)} bytes", error="invalid_token")
        if not chain:
            raise DeniedError(401, f"no certificate from {address or 'nowhere'}")
        if chain[0] == b"Mallory":
            raise DeniedError(403, "/CN=Mallory is banned")
        if chain[0] == b"Trent":
            raise DeniedError(503, "the verifier does not answer")
        return user(chain[0].decode())


class Anyone:
    """An application whose clients are all the same user, as if by certificate."""

    def __init__(self, app: ASGIApp, name: str = "Ada") -> None:
        self._app = app
        self._chain = (name.encode(),) if name else ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        extensions = {"wnodes.chain": self._chain}
        await self._app({**scope, "extensions": extensions}, receive, send)


def served() -> ASGIApp:
    """The service for `uvicorn --factory --no-server-header`, to try OCCI clients on."""
    return Anyone(application(Memory(), Users()))


class Memory:
    """The service. `calls` counts what the application has asked for."""

    def __init__(self) -> None:
        self.machines_allowed = 1_000_000
        self.away = False
        self.broken = False
        self.calls: list[str] = []
        self._base = mixins.site_model(IMAGES, SIZES)
        self._lock = threading.RLock()
        self._revisions = itertools.count(1)
        self._revision = 0
        self._entities: dict[str, dict[str, Entity]] = {}
        self._mixins: dict[str, dict[str, Definition]] = {}

    remote = False

    def revision(self) -> int:
        return self._revision

    def model(self, user: User) -> Model:
        self.calls.append("model")
        own = self._mixins.get(user.key, {}).values()
        return self._base.with_mixins(map(user_mixins.mixin, own))

    def locations(self, user: User, category: str | None) -> Sequence[str]:
        self.calls.append("locations")
        with self._lock:
            return [
                entity.path
                for entity in self._of(user).values()
                if category in (None, entity.kind, *entity.mixins)
            ]

    def entities(self, user: User, category: str | None) -> Sequence[Entity]:
        self.calls.append("entities")
        with self._lock:
            return [
                self._whole(user, entity)
                for entity in self._of(user).values()
                if category in (None, entity.kind, *entity.mixins)
            ]

    def entity(self, user: User, path: str) -> Entity:
        self.calls.append("entity")
        if self.broken:
            raise RuntimeError("the table is gone")
        with self._lock:
            return self._whole(user, self._at(user, path))

    def create(self, user: User, new: New, model: Model) -> Entity:  # noqa: ARG002
        with self._lock:
            self._changing()
            machines = [entity for entity in self._of(user).values() if entity.kind == COMPUTE]
            if new.kind == COMPUTE and len(machines) >= self.machines_allowed:
                raise OcciError(403, f"quota of machines: {self.machines_allowed} of them used")
            for link in new.links:
                with named_in("a link"):
                    self._at(user, str(link.attributes[TARGET]))
            for end in (SOURCE, TARGET):
                if end in new.attributes:
                    with named_in("a link"):
                        self._at(user, str(new.attributes[end]))
            made = self._made(user, new)
            for link in new.links:
                source = {SOURCE: made.path}
                self._made(user, replace(link, attributes={**link.attributes, **source}))
            return self._whole(user, made)

    def update(self, user: User, path: str, changes: Changes) -> Entity:
        with self._lock:
            self._changing()
            old = self._at(user, path)
            mixins = [name for name in old.mixins if name not in changes.removed]
            attributes = {**old.attributes, **changes.attributes}
            self._of(user)[path] = replace(
                old, mixins=(*mixins, *changes.added), attributes=attributes
            )
            return self._linked(user, path, changes.links)

    def replace(self, user: User, path: str, new: New) -> Entity:
        with self._lock:
            self._changing()
            old = self._at(user, path)
            known = {own.name: own for own in self._base.kinds[old.kind].attributes}
            kept = {
                name: value
                for name, value in old.attributes.items()
                if name not in known or known[name].immutable
            }
            self._of(user)[path] = replace(
                old, mixins=new.mixins, attributes={**kept, **new.attributes}
            )
            return self._linked(user, path, new.links)

    def delete(self, user: User, path: str) -> None:
        with self._lock:
            self._changing()
            self._at(user, path)
            mine = self._of(user)
            for other in [*mine.values()]:
                ends = (other.attributes.get(SOURCE), other.attributes.get(TARGET))
                if path == other.path or path in ends:
                    del mine[other.path]

    def delete_all(self, user: User, paths: Sequence[str]) -> None:
        with self._lock:
            self._changing()
            for path in paths:
                if path in self._of(user):
                    self.delete(user, path)

    def fixed(self, user: User) -> frozenset[str]:  # noqa: ARG002
        return frozenset({f"/network/{NET}"})

    def act_all(
        self, user: User, paths: Sequence[str], action: str, attributes: Mapping[str, Value]
    ) -> None:
        with self._lock:
            before = dict(self._of(user))
            try:
                for path in paths:
                    self.act(user, path, action, attributes)
            except OcciError:
                self._entities[user.key] = before
                raise

    def act(self, user: User, path: str, action: str, attributes: Mapping[str, Value]) -> Entity:
        with self._lock:
            self._changing()
            old = self._at(user, path)
            term = action.rpartition("#")[2]
            if term == "save":
                raise OcciError(409, f"{path} is running: stop it first")
            state = f"occi.{old.kind.rpartition('#')[2]}.state"
            message = {f"{state}.message": f"{term} {dict(attributes)}"}
            now = {**old.attributes, state: _BECOMES[term], **message}
            self._of(user)[path] = replace(old, attributes=now)
            return self._whole(user, self._at(user, path))

    def add_mixin(self, user: User, definition: Definition) -> None:
        with self._lock:
            self._changing()
            self._mixins.setdefault(user.key, {})[definition.id] = definition

    def remove_mixin(self, user: User, mixin: str) -> None:
        with self._lock:
            self._changing()
            self.tag(user, mixin, [], "set")
            del self._mixins[user.key][mixin]

    def tag(
        self, user: User, mixin: str, paths: Sequence[str], how: Literal["add", "remove", "set"]
    ) -> None:
        with self._lock:
            self._changing()
            for path in paths:
                self._at(user, path)
            for path, old in [*self._of(user).items()]:
                others = tuple(name for name in old.mixins if name != mixin)
                bears = mixin in old.mixins
                if how == "set" or path in paths:
                    bears = how != "remove" and path in paths
                self._of(user)[path] = replace(old, mixins=(*others, mixin) if bears else others)

    def _changing(self) -> None:
        if self.away:
            raise OcciError(503, "no bait answers; ask again", retry_after=30)
        self._revision = next(self._revisions)

    def _of(self, user: User) -> dict[str, Entity]:
        if user.key not in self._entities:
            path = f"/network/{NET}"
            attributes: dict[str, Value] = {
                ID: NET,
                "occi.core.title": "public",
                "occi.network.label": "public",
                "occi.network.state": "active",
                "occi.network.address": "192.168.190.0/24",
            }
            public = Entity(NET, NETWORK, path, (schema.IPNETWORK,), attributes)
            self._entities[user.key] = {path: public}
        return self._entities[user.key]

    def _at(self, user: User, path: str) -> Entity:
        found = self._of(user).get(path)
        if not found:
            raise OcciError(404, f"there is nothing at {path}")
        return found

    def _made(self, user: User, new: New) -> Entity:
        kind = self._base.kinds[new.kind]
        identity = str(new.attributes.get(ID, uuid.uuid4()))
        path = kind.location + identity
        if path in self._of(user):
            raise OcciError(409, f"{path} is there already")
        attributes = {name: value for name, value in new.attributes.items() if name != USERDATA}
        mixins = new.mixins
        if kind.id == COMPUTE:
            attributes = {schema.CORES: 1, schema.MEMORY: 0.5, **attributes}
            attributes[OBSERVED_TIME] = "2026-11-22T12:00:00Z"
            mixins = (*mixins, OBSERVED)
        entity = Entity(
            identity, kind.id, path, mixins, {ID: identity, **attributes, **_STATE[kind.id]}
        )
        self._of(user)[path] = entity
        return entity

    def _linked(self, user: User, path: str, links: Sequence[New]) -> Entity:
        for link in links:
            with named_in("a link"):
                self._at(user, str(link.attributes[TARGET]))
            self._made(user, replace(link, attributes={**link.attributes, SOURCE: path}))
        return self._whole(user, self._at(user, path))

    def _whole(self, user: User, entity: Entity) -> Entity:
        links = [
            other
            for other in self._of(user).values()
            if other.attributes.get(SOURCE) == entity.path
        ]
        kind = self._base.kinds[entity.kind]
        return replace(entity, links=tuple(links), actions=kind.actions)
