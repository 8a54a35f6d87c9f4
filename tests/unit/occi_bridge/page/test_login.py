"""Logging in and out: at an issuer, by certificate; what is tried with that."""

import asyncio
import json
import sqlite3
import time
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import httpx
import jwt
import pytest

from contrib.site.box import issuer as box
from occi_bridge.identity import logins
from occi_bridge.identity.tokens import KnownIssuer
from occi_bridge.page import cookies, parts
from occi_bridge.store import sessions as store
from occi_bridge.store.sessions import Session
from tests.unit import ca, issuers
from tests.unit.ca import BASE, VO
from tests.unit.occi_bridge.page import browser
from tests.unit.occi_bridge.page.browser import SERVICE, URL, Browser, Read, Site
from wnodes_lrms.errors import UnknownError
from wnodes_lrms.tls.http_protocol import CHAIN

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = [pytest.mark.integration, pytest.mark.anyio]

grid, issuer, site = ca.grid, issuers.issuer, browser.site
ALICE = f"{BASE}/CN=Alice"


async def begin(site: Site, guest: Browser) -> tuple[str, dict[str, str]]:
    """The path that leads to the issuer, and what it is asked there."""
    [way] = [link for link in (await guest.read("/login")).links if "certificate" not in link][1:]
    sent = await guest.get(way)
    assert sent.status_code == 303
    place = urlsplit(sent.headers["location"])
    assert f"{place.scheme}://{place.netloc}{place.path}" == f"{site.issuer.url}/authorize"
    return way, dict(parse_qsl(place.query))


def at_issuer(site: Site, asked: dict[str, str], name: str = "grace") -> str:
    """Log in there; the path at which the browser comes back."""
    request = box.Request({}, {"name": name}, asked)
    status, headers, _ = site.issuer.told.answers["/authorize"](request)
    assert status == 303
    assert headers["Location"].startswith(URL)
    return headers["Location"].removeprefix(URL)


async def logged_in(site: Site, name: str = "grace") -> Browser:
    guest = Browser(site.app)
    _, asked = await begin(site, guest)
    answer = await guest.get(at_issuer(site, asked, name))
    assert (answer.status_code, answer.headers["location"]) == (303, "/"), Read(answer.text).text
    return guest


async def test_at_an_issuer(site: Site) -> None:
    grace = await logged_in(site)
    assert f"{site.issuer.url}#grace" in (await grace.read("/")).text
    kept = grace.cookie()
    assert kept
    assert grace.cookie(cookies.LOGIN) is None
    await grace.send("/", "/logout")
    assert grace.cookie() is None
    grace.http.cookies.set(cookies.SESSION, kept)
    assert "Log in with Box" in (await grace.read("/")).text
    assert (await grace.get("/vms")).status_code == 401


async def test_what_the_issuer_is_asked(site: Site) -> None:
    guest = Browser(site.app)
    way, asked = await begin(site, guest)
    assert asked["redirect_uri"] == f"{URL}{way}/back"
    assert (asked["scope"], asked["response_type"]) == ("openid wlcg.groups", "code")
    assert asked["code_challenge_method"] == "S256"
    secret = guest.cookie(cookies.LOGIN)
    assert secret
    assert not any(value in secret for value in asked.values())
    _, again = await begin(site, guest)
    assert not {asked[name] for name in ("state", "nonce", "code_challenge")} & {*again.values()}


async def test_cookies_are_for_this_host_and_tls_alone(site: Site) -> None:
    guest = Browser(site.app)
    _, asked = await begin(site, guest)
    answer = await guest.get(at_issuer(site, asked))
    for line in answer.headers.get_list("set-cookie"):
        name, *attributes = line.split("; ")
        assert name.startswith("__Host-")
        assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= set(attributes)
        assert not any(each.lower().startswith("domain") for each in attributes)


async def test_a_login_of_another_browser_is_not_taken_up(site: Site) -> None:
    """Login CSRF: a thief's own code, followed by somebody else."""
    thief = Browser(site.app)
    _, asked = await begin(site, thief)
    back = at_issuer(site, asked)
    for victim in (Browser(site.app), Browser(site.app)):
        answer = await victim.get(back)
        assert (answer.status_code, victim.cookie()) == (400, None)
        await begin(site, victim)  # with one of their own begun it is the same
        answer = await victim.get(back)
        assert (answer.status_code, victim.cookie()) == (400, None)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"state": "x"}, 400),
        ({"state": ""}, 400),
        ({"code": ""}, 400),
        ({"code": "x" * 4000}, 400),
        ({"code": "a\r\nb"}, 400),
        ({"code": "unknown"}, 503),
        ({"iss": "https://other.example"}, 403),
        ({"error": "access_denied<script>"}, 403),
    ],
)
async def test_who_comes_back_with_something_else(
    site: Site, changes: dict[str, str], status: int
) -> None:
    guest = Browser(site.app)
    _, asked = await begin(site, guest)
    place = urlsplit(at_issuer(site, asked))
    given = dict(parse_qsl(place.query)) | changes
    answer = await guest.get(str(httpx.URL(place.path, params=given)))
    assert (answer.status_code, guest.cookie()) == (status, None)
    assert "<script>" not in answer.text


async def test_a_code_is_good_once(site: Site) -> None:
    guest = Browser(site.app)
    _, asked = await begin(site, guest)
    attempt = guest.cookie(cookies.LOGIN)
    back = at_issuer(site, asked)
    assert (await guest.get(back)).status_code == 303
    guest.http.cookies.set(cookies.LOGIN, attempt or "")
    assert (await guest.get(back)).status_code == 503


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nonce": "another"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"aud": "another"}, "another service"),
        ({"aud": ["box", "another"]}, "another service"),
        ({"azp": "another"}, "another service"),
        ({"iss": "https://other.example"}, "issuer"),
        ({"exp": int(time.time()) - 1}, "expired"),
        ({"iat": int(time.time()) + 900}, "not valid yet"),
        ({"typ": "Refresh"}, "typ"),
        ({"sub": "a b"}, "sub"),
        ({"sub": "x" * 300}, "sub"),
    ],
)
async def test_a_login_that_is_another(
    site: Site, changes: dict[str, object], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    told = site.issuer.told
    real = told.answers["/token"]

    def token(request: box.Request) -> box.Reply:
        status, _, body = real(request)
        answer = json.loads(body)
        options = {"verify_signature": False}
        claims = jwt.decode(answer["id_token"], options=options) | changes  # type: ignore[arg-type]
        claims = {name: value for name, value in claims.items() if value is not None}
        answer["id_token"] = told.signers[0].sign(claims)
        return box.as_json(answer, status)

    told.answers["/token"] = token
    guest = Browser(site.app)
    _, asked = await begin(site, guest)
    answer = await guest.get(at_issuer(site, asked))
    assert (answer.status_code, guest.cookie()) == (403, None)
    assert said in caplog.text


async def test_a_login_that_others_signed(site: Site) -> None:
    site.issuer.told.signers.insert(0, issuers.curve("others"))
    jwk = {"keys": [issuers.signer("first").jwk()]}
    site.issuer.told.answers["/jwk"] = lambda _request: box.as_json(jwk)
    guest = Browser(site.app)
    _, asked = await begin(site, guest)
    answer = await guest.get(at_issuer(site, asked))
    assert (answer.status_code, guest.cookie()) == (403, None)


async def test_nobody_is_sent_where_metadata_say(site: Site) -> None:
    told = site.issuer.told
    elsewhere = told.metadata() | {"authorization_endpoint": "https://evil.example/authorize"}
    told.answers[box.DISCOVERY] = lambda _request: box.as_json(elsewhere)
    guest = Browser(site.app)
    [way] = [link for link in (await guest.read("/")).links if "certificate" not in link][1:]
    answer = await guest.get(way)
    assert (answer.status_code, answer.headers.get("location")) == (503, None)


async def test_who_has_no_account_is_told_why(site: Site) -> None:
    guest = Browser(site.app)
    _, asked = await begin(site, guest)
    answer = await guest.get(at_issuer(site, asked, "oscar"))
    assert (answer.status_code, guest.cookie()) == (403, None)
    assert "no local account for this user" in answer.text


async def test_a_ban_holds_from_the_next_request_on(site: Site) -> None:
    grace = await logged_in(site)
    (site.grid.folder / "ban_users.db").write_text(f'"{site.issuer.url}#grace"\n')
    answer = await grace.get("/")
    assert (answer.status_code, "banned" in answer.text) == (403, True)
    left = await grace.post("/logout", Read(answer.text).form("/logout"))
    assert (left.status_code, grace.cookie()) == (303, None)


async def test_strangers_take_not_all_connections_to_an_issuer(site: Site) -> None:
    """Whoever makes up codes has the issuer asked: at most four times at once."""
    asked, most = 0, 0

    async def ask(*_given: object, **_more: object) -> dict[str, object]:
        nonlocal asked, most
        asked += 1
        most = max(most, asked)
        await asyncio.sleep(0.05)
        asked -= 1
        return {}

    [issuer] = site.authenticator.logins._issuers.values()
    await issuer.keys.known()
    issuer.client.ask = ask  # type: ignore[method-assign]

    async def guess() -> int:
        guest = Browser(site.app)
        _, given = await begin(site, guest)
        return (await guest.get(at_issuer(site, given))).status_code

    assert {*await asyncio.gather(*(guess() for _ in range(20)))} == {503}
    assert most == 4


async def test_a_slow_issuer_delays_no_other(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four logins hang at one: a fifth waits there, then is told so; another issuer has its own."""
    monkeypatch.setattr(logins, "_QUEUE", 0.1)
    hangs, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def hanging(*_given: object, **_more: object) -> dict[str, object]:
        begun.release()
        await hangs.wait()
        return {}

    [quick] = site.authenticator.logins._issuers.values()
    slow = KnownIssuer(
        quick.told.model_copy(update={"url": "https://slow.example"}),
        str(site.grid.folder / "issuers"),
    )
    slow.keys, slow.client.ask = quick.keys, hanging  # type: ignore[method-assign]
    both = site.authenticator.logins = logins.Logins([quick, slow])
    attempt = logins.Attempt("x")
    key = logins.key_of(slow.told.url)
    going = [
        asyncio.create_task(both.identity(key, attempt, "code", f"{URL}/back", None))
        for _ in range(4)
    ]
    for _ in going:
        await begun.acquire()
    with pytest.raises(UnknownError, match="too many"):
        await both.identity(key, attempt, "code", f"{URL}/back", None)
    grace = Browser(site.app)
    sent = await grace.get(f"/login/{logins.key_of(quick.told.url)}")
    back = at_issuer(site, dict(parse_qsl(urlsplit(sent.headers["location"]).query)))
    assert (await grace.get(back)).status_code == 303
    hangs.set()
    ended = await asyncio.gather(*going, return_exceptions=True)
    assert {str(each) for each in ended} == {"the issuer's answer to the login has no id_token"}


async def by_certificate(site: Site, guest: Browser, chain: tuple[bytes, ...]) -> httpx.Response:
    """Go to the OCCI service with a certificate; what it answers."""
    sent = await guest.get("/login/certificate")
    place = sent.headers["location"]
    assert place.startswith(f"{SERVICE}/login/certificate?state=")

    async def with_chain(scope, receive, send):  # type: ignore[no-untyped-def]
        await site.occi({**scope, "extensions": {CHAIN: chain}}, receive, send)

    transport = httpx.ASGITransport(with_chain, client=("192.0.2.7", 1))
    async with httpx.AsyncClient(transport=transport) as client:
        return await client.get(place)


async def test_by_certificate(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("occi_bridge.page.login._SETTLED", 0.0)
    site.grid.map(f'"{ALICE}" alice')
    guest = Browser(site.app)
    sent = await by_certificate(site, guest, site.grid.chain(site.grid.alice))
    place = sent.headers["location"]
    assert (sent.status_code, place.startswith(f"{URL}/login/certificate/back?")) == (303, True)
    assert (await guest.get(place)).status_code == 303
    assert ALICE in (await guest.read("/")).text
    # Once.
    other = Browser(site.app)
    await other.get("/login/certificate")
    assert (await other.get(place)).status_code == 400


async def test_a_code_of_a_certificate_is_for_the_browser_that_began(site: Site) -> None:
    site.grid.map(f'"{ALICE}" alice')
    alice, thief = Browser(site.app), Browser(site.app)
    sent = await by_certificate(site, alice, site.grid.chain(site.grid.alice))
    given = dict(parse_qsl(urlsplit(sent.headers["location"]).query))
    begun = await thief.get("/login/certificate")
    state = dict(parse_qsl(urlsplit(begun.headers["location"]).query))["state"]
    for guess in (given, given | {"state": state}, {"state": state, "code": "x"}):
        answer = await thief.get(str(httpx.URL("/login/certificate/back", params=guess)))
        assert (answer.status_code, thief.cookie()) == (400, None)
    assert (await alice.get(sent.headers["location"])).status_code == 303


async def test_a_code_of_a_certificate_is_good_for_a_minute(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.grid.map(f'"{ALICE}" alice')
    guest = Browser(site.app)
    sent = await by_certificate(site, guest, site.grid.chain(site.grid.alice))
    monkeypatch.setattr(store, "TICKET", -1.0)
    assert (await guest.get(sent.headers["location"])).status_code == 400


async def test_who_is_not_let_in_by_certificate(site: Site) -> None:
    guest = Browser(site.app)
    answer = await by_certificate(site, guest, ())
    assert (answer.status_code, "Your browser has shown none" in answer.text) == (401, True)
    answer = await by_certificate(site, guest, site.grid.chain(site.grid.alice))
    assert (answer.status_code, "no local account" in answer.text) == (403, True)
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(site.occi)) as client:
        for state in ("", "?state=", "?state=<script>", "?state=" + "x" * 44):
            answer = await client.get(f"{SERVICE}/login/certificate{state}")
            assert (answer.status_code, "<script>" in answer.text) == (400, False)


async def test_certificates_are_believed_until_cas_or_crls_change(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_LOOK", 0.0)
    monkeypatch.setattr("occi_bridge.page.login._SETTLED", 0.0)
    site.grid.map(f'"{ALICE}" alice')
    chain = site.grid.chain(site.grid.alice)
    guest = Browser(site.app)
    session = Session(ALICE, time.time(), chain)
    guest.http.cookies.set(cookies.SESSION, site.sessions.open(session, None))
    assert ALICE in (await guest.read("/")).text
    site.grid.authority.revoke(site.grid.alice)
    site.grid.authority.install(site.grid.certificates)
    assert "Log in with a certificate" in (await guest.read("/")).text


async def test_a_code_from_before_a_revocation_opens_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_LOOK", 0.0)
    monkeypatch.setattr("occi_bridge.page.login._SETTLED", 0.0)
    site.grid.map(f'"{ALICE}" alice')
    guest = Browser(site.app)
    sent = await by_certificate(site, guest, site.grid.chain(site.grid.alice))
    site.grid.authority.revoke(site.grid.alice)
    site.grid.authority.install(site.grid.certificates)
    await guest.get(sent.headers["location"])
    assert "Log in with a certificate" in (await guest.read("/")).text


async def test_a_session_that_was_there_before_is_not_gone_on_with(site: Site) -> None:
    """Session fixation; and who logs in anew leaves nothing behind."""
    guest = Browser(site.app)
    planted = "A" * 43
    guest.http.cookies.set(cookies.SESSION, planted)
    _, asked = await begin(site, guest)
    answer = await guest.get(at_issuer(site, asked))
    [first] = [c for c in answer.headers.get_list("set-cookie") if c.startswith("__Host-wnodes=")]
    first = first.partition(";")[0].partition("=")[2]
    assert first != planted
    again = Browser(site.app)
    again.http.cookies.set(cookies.SESSION, first)
    _, asked = await begin(site, again)
    await again.get(at_issuer(site, asked))
    assert site.sessions.find(first) is None
    assert site.sessions.find(planted) is None


async def test_a_session_ends_by_age(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    grace = site.browser("grace")
    await grace.read("/vms")
    monkeypatch.setattr(store, "LIFE", -1.0)
    assert (await grace.get("/vms")).status_code == 401


async def test_the_database_has_no_secret(site: Site, file: Path) -> None:
    grace = await logged_in(site)
    secret = grace.cookie()
    assert secret
    content = b"".join(path.read_bytes() for path in file.parent.glob("bridge.sqlite*"))
    assert secret.encode() not in content
    with sqlite3.connect(file) as link:
        [(identity, proof)] = link.execute("SELECT id, proof FROM session").fetchall()
    assert len(identity) == 64
    assert proof == '{"chain": [], "groups": ["/testvo"]}'


async def test_two_cookies_of_one_name_are_none(site: Site) -> None:
    grace = site.browser("grace")
    both = f"{cookies.SESSION}={grace.cookie()}; {cookies.SESSION}={'A' * 43}"
    guest = Browser(site.app)
    assert (await guest.get("/vms", Cookie=both)).status_code == 401


async def test_groups_of_a_session(site: Site) -> None:
    session = Session("https://i#s", time.time(), groups=(f"/{VO}", f"/{VO}/Role=x"))
    assert site.sessions.find(site.sessions.open(session, None)) == session


async def test_groups_of_a_session_are_of_the_vos_that_the_issuer_has_now(site: Site) -> None:
    """The VO was taken from the issuer's while they were logged in."""
    other = site.browser("grace", ("/othervo",))
    (site.grid.folder / "voms-mapfile").write_text(f'"/{VO}" member\n"/othervo" member\n')
    answer = await other.get("/")
    assert (answer.status_code, "no local account" in answer.text) == (403, True)
    assert (await site.browser("grace", ("/othervo", f"/{VO}")).get("/")).status_code == 200
