"""What the command makes of answers that no bridge gives, and of none."""

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.unit.conftest import Web
from tests.unit.wnodes_lrms.cli.cloud.test_standing import token
from wnodes_lrms.cli.cloud.client import Service
from wnodes_lrms.cli.cloud.faults import AwayError, ServiceError
from wnodes_lrms.cli.credentials import Credentials
from wnodes_lrms.errors import RejectedError, WnodesError


def service(url: str) -> Service:
    return Service(url, Credentials(token="a.b.c"))


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"1", b"\xff", b""])
def test_another_server(web: Web, body: bytes) -> None:
    web.add("/compute/", body)
    with pytest.raises(WnodesError, match=r"is not a wnodes-bridge: it answers 200$"):
        service(web.url).members("compute")
    with pytest.raises(WnodesError, match=r"is not a wnodes-bridge: it answers 404$"):
        service(web.url).get("/-/")


def test_an_answer_without_end(web: Web) -> None:
    web.add("/compute/", b"[" * 1_000_000)
    web.endless.add("/compute/")
    with pytest.raises(WnodesError, match="is not a wnodes-bridge"):
        service(web.url).members("compute")
    assert web.sent < 100_000_000


class Quiet(http.server.BaseHTTPRequestHandler):
    """What answers requests, and writes no log of them."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def serving(handler: type[Quiet]) -> Iterator[str]:
    """A server with this handler; its URL."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes requests and closes."""

    class Handler(Quiet):
        def do_GET(self) -> None:
            self.close_connection = True

        do_POST = do_GET  # noqa: N815 (as http.server has it)

    with serving(Handler) as url:
        yield url


def test_an_answer_that_is_lost(silent: str) -> None:
    with pytest.raises(AwayError) as caught:
        service(silent).create("compute", {})
    assert str(caught.value).endswith("not known: look before you try again")
    with pytest.raises(AwayError) as caught:
        service(silent).get("/-/")
    assert str(caught.value).startswith(f"{silent} does not answer: ")
    assert "not known" not in str(caught.value)


@pytest.fixture
def busy() -> Iterator[tuple[str, list[str]]]:
    """A bridge that can't do it now, but can a second later; and what it was asked."""
    asked: list[str] = []

    class Handler(Quiet):
        def do_GET(self) -> None:
            asked.append(self.command)
            body = b'{"code": 503, "message": "no node answers"}'
            if len(asked) > 1:
                body = b'{"resources": []}'
            self.send_response(200 if len(asked) > 1 else 503)
            self.send_header("Retry-After", "1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as url:
        yield url, asked


def test_a_service_that_says_when_to_come_again(
    busy: tuple[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, asked = busy
    assert service(url).members("compute") == []
    assert asked == ["GET", "GET"]
    said = "not now: no node answers; try again in 1 s; waiting\n"
    assert capsys.readouterr().err == said
    asked.clear()
    with pytest.raises(ServiceError, match="not now: no node answers") as caught:
        Service(url, Credentials(token="a.b.c"), tries=1).members("compute")
    assert (asked, caught.value.exit_status) == (["GET"], 6)


def test_what_a_token_may_make_and_not_read_is_told_in_a_line() -> None:
    class Handler(Quiet):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(201)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    made = "the compute is made, but your token may not read"
    with serving(Handler) as url, pytest.raises(WnodesError, match=made):
        service(url).create("compute", {})


@pytest.fixture
def strict() -> Iterator[tuple[str, list[str]]]:
    """A service that takes one token alone; and what it was shown."""
    shown: list[str] = []

    class Handler(Quiet):
        def do_GET(self) -> None:
            shown.append(self.headers["Authorization"].removeprefix("Bearer "))
            good = shown[-1] == "the.new.one"
            body = b'{"resources": []}' if good else b'{"code": 401, "message": "it has expired"}'
            self.send_response(200 if good else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as url:
        yield url, shown


def test_what_has_ended_is_renewed_once(strict: tuple[str, list[str]]) -> None:
    url, shown = strict
    old = token({"exp": time.time() - 5})
    renewed = iter([Credentials(token="the.new.one")])
    known = Service(url, Credentials(token=old), renew=lambda: next(renewed))
    assert known.members("compute") == known.members("compute") == []
    assert shown == [old, "the.new.one", "the.new.one"]


def test_what_is_not_renewed(
    strict: tuple[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, shown = strict
    old, good = (token({"exp": time.time() + left}) for left in (-5, 3600))

    def refused() -> None:
        raise RejectedError("oidc-agent is not running")

    for held, renew in ((good, refused), (old, lambda: None), (old, refused), ("a.b.c", refused)):
        shown.clear()
        with pytest.raises(ServiceError, match="who you are: it has expired"):
            Service(url, Credentials(token=held), renew=renew).members("compute")
        assert shown == [held]
    assert capsys.readouterr().err == "oidc-agent is not running\n"


def test_what_may_have_been_done_is_not_asked_for_again_with_a_new_token() -> None:
    asked: list[str] = []

    class Handler(Quiet):
        def do_POST(self) -> None:
            """Make it, and be killed before that is said."""
            asked.append(self.rfile.read(int(self.headers["Content-Length"])).decode())

    with serving(Handler) as url:
        old = Credentials(token=token({"exp": time.time() - 5}))
        known = Service(url, old, renew=lambda: Credentials(token="the.new.one"))
        with pytest.raises(AwayError, match="whether it was done is not known"):
            known.create("compute", {})
    assert len(asked) == 1
