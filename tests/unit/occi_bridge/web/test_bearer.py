"""Tokens in requests: where they may be, and what is said of bad ones."""

from collections.abc import Callable

import httpx
import pytest

from occi_bridge.identity.user import Capability, DeniedError, Identity, Kind, User
from occi_bridge.web.app import application
from occi_bridge.web.bearer import challenges, token
from tests.unit.occi_bridge.conftest import BASE, Live
from tests.unit.occi_bridge.memory import Memory
from wnodes_lrms.config.load import Grant

BEARER = (b"authorization", b"Bearer a.b.c")
BASIC = (b"authorization", b"Basic YTpi")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], None),
        ([BASIC], None),
        ([BEARER], b"a.b.c"),
        ([(b"authorization", b"BEARER  a.b.c ")], b"a.b.c"),
        ([(b"authorization", b"bearer ")], b""),
        ([(b"x-authorization", b"Bearer a.b.c")], None),
        ([BASIC, BASIC], None),
    ],
)
def test_the_token_of_a_request(headers: list[tuple[bytes, bytes]], expected: bytes | None) -> None:
    assert token(headers, b"page=2") == expected


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ([BEARER, BEARER], b""),
        ([BASIC, BEARER], b""),
        ([], b"access_token=a.b.c"),
        ([BEARER], b"page=1&%61ccess_token=a.b.c"),
    ],
)
def test_requests_that_are_refused(headers: list[tuple[bytes, bytes]], query: bytes) -> None:
    with pytest.raises(DeniedError) as caught:
        token(headers, query)
    assert (caught.value.status, caught.value.error) == (400, "invalid_request")


def test_challenges() -> None:
    said = [(b"www-authenticate", b'X509 realm="OCCI"')]
    assert challenges(DeniedError(401, "x")) == said
    also = (b"www-authenticate", b'Bearer realm="OCCI"')
    assert challenges(DeniedError(401, "x", tokens=True)) == [*said, also]
    assert challenges(DeniedError(403, "x")) == []
    [(_, value)] = challenges(DeniedError(401, 'a "b"\\\r\né', error="invalid_token"))
    assert value == b'Bearer realm="OCCI", error="invalid_token", error_description="a ?b?????"'


class Limited:
    """Knows one user, whose token is limited to this."""

    def __init__(self, *may: Capability) -> None:
        self._identity = Identity(Kind.TOKEN, "https://issuer.example#ada", (), frozenset(may))

    async def user(
        self, _chain: tuple[bytes, ...], _address: str, _token: bytes | None = None
    ) -> User:
        return User(self._identity, "box", Grant(match="*"), self._identity.subject)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/-/", "/", "/compute/", "/compute/none"])
def test_reading_needs_a_scope_too(live: Live, method: str, path: str) -> None:
    client = httpx.Client(base_url=BASE, transport=live.to)
    live.app = application(Memory(), Limited(*(set(Capability) - {Capability.READ})))
    answer = client.request(method, path)
    assert answer.status_code == 403
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    live.app = application(Memory(), Limited(Capability.READ))
    assert client.request(method, path).status_code in (200, 404)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_answers_to_bad_tokens(user_client: Callable[[str], httpx.Client], method: str) -> None:
    client = user_client("Ada")
    given = {"Authorization": "Bearer a.b.c"}
    answer = client.request(method, "/compute/", headers=given)
    assert (answer.status_code, answer.text) == (401, "no token of 5 bytes\n")
    assert answer.headers["www-authenticate"].startswith('Bearer realm="OCCI", error="invalid_tok')
    answer = client.request(method, "/compute/?access_token=a.b.c")
    assert answer.status_code == 400
    assert "a.b.c" not in answer.text + answer.headers["www-authenticate"]
    twice = [("Authorization", "Bearer a.b.c")] * 2
    assert client.request(method, "/compute/", headers=twice).status_code == 400
