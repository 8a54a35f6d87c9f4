"""What stands between HTTP and the operations: answers kept, clients that are slow or silent."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from httpx import Client, Response

from occi_bridge.identity.user import User
from occi_bridge.occi import schema
from occi_bridge.occi.render import Answer
from occi_bridge.web import app, body
from occi_bridge.web.cache import Cache
from tests.unit.occi_bridge.conftest import Live
from tests.unit.occi_bridge.memory import Memory, Users, user
from tests.unit.occi_bridge.web.test_operations import URIS, made
from wnodes_lrms.config.load import Grant


def asks(service: Memory, ask: Callable[[], object]) -> int:
    """How often the application went to the service for an answer."""
    service.calls.clear()
    ask()
    return service.calls.count("model")


@pytest.mark.parametrize("path", ["/-/", "/compute/", "/", "/compute/one", "/compute/?page=1"])
def test_an_answer_is_rendered_once(service: Memory, client: Client, path: str) -> None:
    made(client, more='X-OCCI-Attribute: occi.core.id="one"\n')
    first = client.get(path)
    assert asks(service, lambda: client.get(path)) == 0
    again = client.get(path)
    assert (again.content, again.headers["content-type"]) == (
        first.content,
        first.headers["content-type"],
    )
    assert asks(service, lambda: client.head(path)) == 0


def test_what_makes_another_answer(
    service: Memory, client: Client, user_client: Callable[[str], Client]
) -> None:
    bob = user_client("Bob")
    other: list[Callable[[], object]] = [
        lambda: client.get("/compute/", headers=URIS),
        lambda: client.get("/compute/", headers={"host": "other"}),
        lambda: client.get("/compute/", headers={"category": 'a; scheme="b"'}),
        lambda: client.get("/compute/", headers={"x-occi-attribute": "a=1"}),
        lambda: client.get("/compute/?page=1"),
        lambda: client.get("/compute"),
        lambda: bob.get("/compute/"),
    ]
    client.get("/compute/")
    for ask in other:
        assert asks(service, ask) == 1


class Granting(Users):
    """All users have one grant."""

    grant = Grant(match="*")

    async def user(
        self, chain: tuple[bytes, ...], address: str, token: bytes | None = None
    ) -> User:
        return replace(await super().user(chain, address, token), grant=self.grant)


def test_an_answer_is_for_one_grant(live: Live, service: Memory, client: Client) -> None:
    users = Granting()
    live.app = app.application(service, users)
    assert asks(service, lambda: client.get("/compute/")) == 1
    users.grant = Grant(match="*", networks=("other",))
    assert asks(service, lambda: client.get("/compute/")) == 1
    assert asks(service, lambda: client.get("/compute/")) == 0


def test_a_change_is_seen_at_once(service: Memory, client: Client) -> None:
    client.get("/compute/")
    for number in range(1, 4):
        made(client)
        assert client.get("/compute/").text.count("\n") == number
    assert asks(service, lambda: client.get("/compute/")) == 0


CROSS_SITE = (
    {"origin": "https://evil.example"},
    {"origin": "null", "sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
)


@pytest.mark.parametrize("headers", CROSS_SITE)
def test_a_page_of_another_site_changes_nothing(
    service: Memory, client: Client, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    path = made(client)
    before = client.get("/").text
    action = f'start; scheme="{schema.INFRA}/compute/action#"; class="action"'
    asks: list[Callable[[], Response]] = [
        lambda: client.post("/compute/", headers=headers),
        lambda: client.post(f"{path}?action=start", headers=headers | {"category": action}),
        lambda: client.put(path, headers=headers),
        lambda: client.delete("/compute/", headers=headers),
        lambda: client.delete(path, headers=headers),
        lambda: client.post("/-/", headers=headers),
        lambda: client.request("POST", "/whoami", headers=headers),
    ]
    for ask in asks:
        service.calls.clear()
        answer = ask()
        assert (answer.status_code, service.calls) == (403, [])
        assert "another site" in answer.text
        assert answer.text.count("\n") <= 1
    assert caplog.text.count("another site") == 7
    assert client.get("/", headers=headers).text == before
    assert client.delete(path, headers={"origin": str(client.base_url).rstrip("/")}).is_success


@pytest.mark.parametrize(
    "how", ["upgrade", "x-http-method-override", "x-method-override", "?_method=DELETE", "?action="]
)
def test_no_get_changes_anything(service: Memory, client: Client, how: str) -> None:
    path = made(client)
    service.calls.clear()
    if how.startswith("?"):
        client.get(f"{path}{how}{'start' if how == '?action=' else ''}")
    elif how == "upgrade":
        client.get(path, headers={"connection": "upgrade", "upgrade": "websocket"})
    else:
        client.get(path, headers={how: "DELETE"})
    assert set(service.calls) <= {"model", "entity"}


class Slow(Memory):
    """One that takes its time for a listing, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.listings = 0
        self.meanwhile: Callable[[], object] = lambda: None

    def locations(self, user: User, category: str | None) -> list[str]:
        self.listings += 1
        found = [*super().locations(user, category)]
        self.meanwhile()
        time.sleep(0.2)
        return found


@pytest.fixture
def slow(live: Live, service: Memory) -> Slow:
    assert service
    slow = Slow()
    live.app = app.application(slow, Users())
    return slow


def test_many_who_ask_the_same_are_answered_together(slow: Slow, client: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(lambda _: client.get("/compute/").status_code, range(8))]
    assert answers == [200] * 8
    assert slow.listings == 1


def test_what_changed_while_it_was_rendered_is_not_kept(slow: Slow, client: Client) -> None:
    path = made(client)
    slow.meanwhile = lambda: slow.delete(user(), path)
    assert client.get("/compute/").text.count("\n") == 1
    slow.meanwhile = lambda: None
    assert client.get("/compute/").text == ""


def test_nobody_waits_for_another_s_answer(slow: Slow, client: Client) -> None:
    client.get("/-/")
    goes_on = threading.Event()
    slow.meanwhile = lambda: goes_on.wait(60)
    thread = threading.Thread(target=client.get, args=("/compute/",))
    thread.start()
    while not slow.listings:
        time.sleep(0.001)
    assert client.get("/-/").status_code == 200
    assert thread.is_alive()
    goes_on.set()
    thread.join()


class Remote(Memory):
    """One whose database is silent for a while."""

    remote = True

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.answers = threading.Event()

    def revision(self) -> int:
        self.asked.set()
        assert self.answers.wait(60)
        return super().revision()


def test_a_database_that_is_silent_keeps_nobody_else_waiting(
    live: Live, service: Memory, client: Client
) -> None:
    assert service
    remote = Remote()
    live.app = app.application(remote, Users())
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(client.get, "/compute/", timeout=60)
        assert remote.asked.wait(60)
        try:  # what needs no database is answered meanwhile
            assert client.post("/compute/", content="?", timeout=60).status_code in (400, 415)
        finally:
            remote.answers.set()
        assert waits.result(60).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /compute/ HTT",
        b"GET /compute/ HTTP/1.1\r\nHost: h\r\nX: ",
        b"POST /compute/ HTTP/1.1\r\nHost: h\r\nX-Name: Ada\r\nContent-Length: 9\r\n\r\nCat",
    ],
)
def test_silent_clients_hold_nobody_up(live: Live, client: Client, sent: bytes) -> None:
    silent = [socket.create_connection(("127.0.0.1", live.port)) for _ in range(60)]
    for one in silent:
        one.sendall(sent)
    start = time.monotonic()
    made(client)
    assert client.get("/compute/").status_code == 200
    assert time.monotonic() - start < 5
    for one in silent:
        one.close()


def test_a_body_that_does_not_come(
    live: Live, service: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert service
    monkeypatch.setattr(body, "_BODY_TIME", 0.1)
    with socket.create_connection(("127.0.0.1", live.port)) as one:
        one.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nX-Name: Ada\r\nContent-Length: 9\r\n\r\nCat")
        answer = one.makefile("rb").read()  # to its end: the connection is closed
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"the body took longer than 0.1 seconds" in answer


def test_no_body_is_asked_for_that_would_be_too_long(live: Live, service: Memory) -> None:
    assert service
    with socket.create_connection(("127.0.0.1", live.port)) as one:
        one.sendall(
            b"POST / HTTP/1.1\r\nHost: h\r\nX-Name: Ada\r\nContent-Length: 600000\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        # What the number means is said in other words by a newer Python.
        assert one.makefile("rb").readline().startswith(b"HTTP/1.1 413 ")


def test_a_client_that_goes_away_is_forgotten(service: Memory) -> None:
    sent: list[object] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/compute/",
        "query_string": b"",
        "headers": [(b"host", b"h")],
        "extensions": {"wnodes.chain": (b"Ada",)},
    }

    async def ask() -> None:
        await app.application(service, Users())(scope, receive, send)

    asyncio.run(ask())
    assert sent == []


def answer(size: int) -> Answer:
    return Answer(200, (), b"x" * size)


def test_the_cache_keeps_one_revision() -> None:
    cache = Cache(100)
    assert cache.get(1, "a") is None
    cache.put(1, "a", answer(10))
    assert cache.get(1, "a") == answer(10)
    assert cache.get(2, "a") is None
    assert cache.get(1, "a") is None
    cache.put(3, "b", answer(10))
    assert cache.get(3, "b") == answer(10)


def test_the_cache_has_a_limit() -> None:
    cache = Cache(1000)
    cache.put(1, "a", answer(600))
    cache.put(1, "b", answer(600))
    assert cache.get(1, "a") is None
    assert cache.get(1, "b") == answer(600)
    cache.put(1, "c", answer(1000))
    assert cache.get(1, "c") is None


def test_long_questions_fill_the_cache_too() -> None:
    cache = Cache(1000)
    for number in range(10):
        cache.put(1, (number, "x" * 300), answer(1))
    kept = [cache.get(1, (number, "x" * 300)) for number in range(10)]
    assert 1 <= len([one for one in kept if one]) <= 3
