"""One request as the routes see it: who asks, what, and in which form they want the answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from occi_bridge.identity.user import Capability, User
from occi_bridge.occi import negotiate, parse, parse_text
from occi_bridge.occi.messages import Body, OcciError
from occi_bridge.occi.parse_common import shown

T = TypeVar("T")


class NotAllowedError(OcciError):
    """A method that makes no sense here (405); `methods` are those that do."""

    def __init__(self, method: str, path: str, methods: Sequence[str]) -> None:
        self.methods = ", ".join(methods)
        super().__init__(405, f"{shown(method)} {path}: only {self.methods} can be used here")


@dataclass(frozen=True)
class Call:
    """A request. Headers have their names in lower case; `base` is the service's URL without a
    path, as the client called it; `query` has the last value of each key."""

    user: User
    method: str
    path: str
    query: Mapping[str, str]
    headers: Sequence[tuple[bytes, bytes]]
    content: bytes
    base: str

    @property
    def shown(self) -> bool:
        """Whether the answer to a change may show what there is: not for a token without read."""
        return Capability.READ in self.user.identity.may

    @cached_property
    def body(self) -> Body:
        """What the request says. Raises OcciError 400, 415."""
        return parse.request(self.headers, self.content)

    @cached_property
    def filters(self) -> Body:
        """What the request's own headers say, whatever its type. Raises OcciError 400."""
        return parse_text.body(parse.fields(self.headers))

    def media(self, offers: Sequence[str]) -> str:
        """The media type that the answer gets. Raises OcciError 406."""
        return negotiate.accepted(accept(self.headers), offers)

    def page(self, members: Sequence[T]) -> Sequence[T]:
        """The page that ?page= (from 1) and ?number= (of members on one) ask for, or all.

        Raises OcciError 400.
        """
        if "page" not in self.query and "number" not in self.query:
            return members
        number = self._positive("number", 50)
        start = (self._positive("page", 1) - 1) * number
        return members[start : start + number]

    def choose(self, methods: Mapping[str, Callable[[], T]]) -> T:
        """Do what belongs to the method; a HEAD is a GET. Raises NotAllowedError."""
        chosen = methods.get("GET" if self.method == "HEAD" else self.method)
        if not chosen:
            raise NotAllowedError(self.method, self.path, [*methods])
        return chosen()

    def _positive(self, key: str, default: int) -> int:
        text = self.query.get(key, str(default))
        if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text)):
            raise OcciError(400, f"?{key}={shown(text)}: a whole number from 1 is needed")
        return int(text)


def accept(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """All Accept headers as one."""
    return ",".join(value.decode("latin-1") for name, value in headers if name == b"accept")
