"""What the OCCI application needs of the parts behind it: a service, and someone who knows users.

All methods of a Service may block, revision() only where it is remote: the application calls them
in threads, several at a time. Each sees and touches only what the user may see. Paths are as in
Entity.path; an entity that is not there, or is not for this user, is OcciError 404.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from occi_bridge.identity.user import User
from occi_bridge.occi.messages import Definition, Entity, Value
from occi_bridge.occi.model import Model
from occi_bridge.occi.validate_changes import Changes
from occi_bridge.occi.validate_new import New


class Service(Protocol):
    """The VMs, networks, volumes and links of all users."""

    @property
    def remote(self) -> bool:
        """Whether revision() waits for another process. If not, it is called in the event loop."""
        ...

    def revision(self) -> int:
        """A number that is another one whenever anything that anybody sees may have changed.

        Asked for every GET. Answers already rendered are kept and given again as long as it stays
        the same.
        """
        ...

    def model(self, user: User) -> Model:
        """The categories this user sees: their os_tpl and resource_tpl, and their own mixins."""
        ...

    def locations(self, user: User, category: str | None) -> Sequence[str]:
        """The paths of the user's entities, all or those of a kind or mixin (its id); always in the
        same order, new ones last. The id is never an abstract kind's or of another spelling."""
        ...

    def entities(self, user: User, category: str | None) -> Sequence[Entity]:
        """The same as locations(), whole, in the same order."""
        ...

    def entity(self, user: User, path: str) -> Entity:
        """One of them. Raises OcciError 404."""
        ...

    def create(self, user: User, new: New, model: Model) -> Entity:
        """Make it, with its inline links; a compute starts by itself. Never waits for a boot.
        `model` is what it was checked by, just now.

        Raises OcciError 403 (quota: which, used, asked; an image or network not granted),
        404 (source or target of a link), 409 (the id is taken), 503.
        """
        ...

    def update(self, user: User, path: str, changes: Changes) -> Entity:
        """Change what is named, leave the rest. Raises OcciError 403, 404, 409, 503."""
        ...

    def replace(self, user: User, path: str, new: New) -> Entity:
        """Give it these attributes and mixins in the place of those it had; links stay.

        What a client can't set stays as it is; what new.links says is made besides. The kind is
        the entity's own. Raises OcciError 403, 404, 409, 503.
        """
        ...

    def delete(self, user: User, path: str) -> None:
        """Delete it, a resource with its links; it is 404 from then on. Raises OcciError."""
        ...

    def delete_all(self, user: User, paths: Sequence[str]) -> None:
        """Delete several, or none of them where one can't be; one that is gone is passed over.

        Raises OcciError, with the path in its message.
        """
        ...

    def fixed(self, user: User) -> frozenset[str]:
        """The paths of what the user sees and nobody can change: the site's own."""
        ...

    def act_all(
        self, user: User, paths: Sequence[str], action: str, attributes: Mapping[str, Value]
    ) -> None:
        """Act on several, or on none of them where one can't; as delete_all()."""
        ...

    def act(self, user: User, path: str, action: str, attributes: Mapping[str, Value]) -> Entity:
        """Carry out an action (its id) that the entity's kind has; defaults are filled in. The
        entity as it is then, or the new one that the action has made.

        What is so already is success (start on an active one). Raises OcciError 409 where the
        state does not allow it, 404, 503.
        """
        ...

    def add_mixin(self, user: User, definition: Definition) -> None:
        """Add a mixin of the user's own; neither its id nor its location is in their model yet.

        Raises OcciError 409 if it came in between.
        """
        ...

    def remove_mixin(self, user: User, mixin: str) -> None:
        """Remove one of their own mixins (its id), also from entities. Raises OcciError 404."""
        ...

    def tag(
        self, user: User, mixin: str, paths: Sequence[str], how: Literal["add", "remove", "set"]
    ) -> None:
        """Add one of their own mixins to these entities, take it off them, or make them the only
        ones that have it. Raises OcciError 404, and then nothing is changed."""
        ...


class Link(Protocol):
    """That a token's subject and a DN are one person."""

    @property
    def subject(self) -> str:
        """The token's."""
        ...

    @property
    def dn(self) -> str:
        """Under which what they have is kept."""
        ...

    @property
    def created(self) -> float:
        """Epoch seconds."""
        ...


class Links(Protocol):
    """The links of tokens' subjects to DNs. All may block, and raise UnknownError."""

    def make(self, subject: str, dn: str) -> None:
        """Link them. Raises ConflictError."""
        ...

    def remove(self, subject: str) -> bool:
        """Take a link away; whether there was one."""
        ...

    def of(self, owner: str) -> Sequence[Link]:
        """The links to a DN."""
        ...


class Authenticator(Protocol):
    """Knows the user behind a TLS client's certificates, or behind a token."""

    async def user(
        self, chain: tuple[bytes, ...], address: str, token: bytes | None = None
    ) -> User:
        """The user of a verified chain (DER, leaf first; () for none) calling from an address.

        Where there is a bearer token it counts, and not the chain. Raises identity.DeniedError.
        """
        ...


class RenewableAuthenticator(Authenticator, Protocol):
    """One that can be told of a change."""

    def look_again(self) -> None:
        """Look at files and links before the next decision, as they have just changed."""
        ...
