"""One request to the page, and what is answered: values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import parse_qsl

from occi_bridge.identity.user import User

LOG_IN = "log in first: a session lasts for eight hours"
ANOTHER = "this form is of another session: "
PLAIN = "text/plain; charset=utf-8"
_FIELDS = 200  # of a form

Headers = Sequence[tuple[bytes, bytes]]


class Fault(Exception):  # noqa: N818 (an answer)
    """What can't be answered: status, and a sentence. `login`: logging in may help.

    `kept` is a form that was not looked at, and can be gone on with after that.
    """

    def __init__(
        self, status: int, said: str, *, login: bool = False, kept: "Form | None" = None
    ) -> None:
        super().__init__(said)
        self.status = status
        self.said = said
        self.login = login
        self.kept = kept


class Form:
    """Fields as browsers send them (application/x-www-form-urlencoded)."""

    def __init__(self, text: str = "") -> None:
        """Raises Fault."""
        try:
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_FIELDS, errors="strict")
        except ValueError as error:
            raise Fault(400, "the form can't be read") from error
        if any("\0" in value for _, value in pairs):  # no database would take it
            raise Fault(400, "the form has a NUL character")
        self._fields: dict[str, list[str]] = {}
        for name, value in pairs:
            self._fields.setdefault(name, []).append(value)

    def one(self, name: str) -> str:
        """A field's text without what is around it; "" where it is not there."""
        return self._fields.get(name, [""])[-1].strip()

    def text(self, name: str) -> str:
        """A field's text as it is, with the line ends that Unix has."""
        return self._fields.get(name, [""])[-1].replace("\r\n", "\n")

    @property
    def filled_in(self) -> list[tuple[str, str]]:
        """All that somebody has filled in: without the session's token."""
        named = ((name, value) for name, values in self._fields.items() for value in values)
        return [(name, value) for name, value in named if name != "token"]

    def all(self, name: str) -> list[str]:
        """What was chosen of several."""
        return self._fields.get(name, [])


@dataclass(frozen=True)
class Visitor:
    """Somebody who has logged in: their session's secret, who they are, and may have."""

    secret: str
    user: User


@dataclass(frozen=True)
class Ask:
    """A request. `names` are the parts of the path that the route names."""

    method: str
    path: str
    headers: Headers
    address: str
    names: Mapping[str, str]
    query: str
    content: bytes = b""
    visitor: Visitor | None = None

    @cached_property
    def form(self) -> Form:
        """What the form's fields are. Raises Fault."""
        try:
            return Form(self.content.decode())
        except UnicodeDecodeError as error:
            raise Fault(400, "the form can't be read") from error

    @cached_property
    def asked(self) -> Form:
        """What the query says. Raises Fault."""
        return Form(self.query)

    def header(self, name: bytes) -> str:
        """A header's value; "" where it is not there."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")

    @property
    def known(self) -> Visitor:
        """Whoever has logged in. Raises Fault for who has not."""
        if self.visitor is None:
            raise Fault(401, LOG_IN, login=True)
        return self.visitor


@dataclass(frozen=True)
class Reply:
    """An answer."""

    body: bytes = b""
    status: int = 200
    media: str = "text/html; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = field(default=())


def see(place: str, *cookies: str) -> Reply:
    """Look there now, by GET. `place` is a path of the page's, or an address out of the site's
    configuration: never a user's word."""
    headers = (("location", place), *(("set-cookie", cookie) for cookie in cookies))
    return Reply(status=303, headers=headers)
