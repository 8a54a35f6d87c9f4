"""Tokens that are taken, and those that are not; issuers that misbehave."""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import random
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from contrib.site.box.issuer import DISCOVERY, Reply, Request, as_json
from occi_bridge import checks
from occi_bridge.identity import authenticator as identity
from occi_bridge.identity import issuer_client, issuer_keys
from occi_bridge.identity.authenticator import Authenticator
from occi_bridge.identity.issuer_keys import IssuerKeys
from occi_bridge.identity.user import ALL, Capability, DeniedError, Kind, User
from tests.unit import ca, issuers
from tests.unit.ca import BASE, VO, Grid
from tests.unit.issuers import AUDIENCE, LocalIssuer, curve, signer

pytestmark = pytest.mark.integration

grid, issuer = ca.grid, issuers.issuer
ADDRESS = "192.0.2.7"
Result = TypeVar("Result")


@pytest.fixture(autouse=True)
def prepared(grid: Grid, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(identity, "_LOOK", 0.0)
    monkeypatch.setattr(issuer_client, "_PATIENCE", 30.0)
    caplog.set_level(logging.INFO)
    (grid.folder / "voms-mapfile").write_text(f'"/{VO}/*" member\n')


def within(
    issuer: LocalIssuer, scene: Callable[[Authenticator], Awaitable[Result]], **changes: Any
) -> Result:
    """The scene with an authenticator that knows the issuer."""

    async def whole() -> Result:
        authenticator = Authenticator(issuer.bridge(**changes))
        try:
            return await scene(authenticator)
        finally:
            await authenticator.close()

    return asyncio.run(whole())


async def denied(authenticator: Authenticator, token: bytes) -> DeniedError:
    with pytest.raises(DeniedError) as caught:
        await authenticator.user((), ADDRESS, token)
    return caught.value


def user(issuer: LocalIssuer, token: bytes, **changes: Any) -> User:
    return within(issuer, lambda a: a.user((), ADDRESS, token), **changes)


def refusal(issuer: LocalIssuer, token: bytes, **changes: Any) -> str:
    """The reason; the status is that of a token which proves nothing."""
    fault = within(issuer, lambda a: denied(a, token), **changes)
    assert (fault.status, fault.error) == (401, "invalid_token")
    return fault.reason


def keys_of(authenticator: Authenticator) -> IssuerKeys:
    """Of its only issuer."""
    return next(iter(authenticator._tokens._issuers.values())).keys


def part(value: Any) -> bytes:
    """A value as a part of a token."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def resigned(issuer: LocalIssuer, header: Any, claims: Any = None) -> bytes:
    """A token with this header, and a good signature by the issuer's key."""
    told = part(header) + b"." + part(issuer.claims() if claims is None else claims)
    key = issuer.told.signers[0].key
    assert isinstance(key, rsa.RSAPrivateKey)
    made = RSAAlgorithm(RSAAlgorithm.SHA256).sign(told, key)
    return told + b"." + part(made)


HEADER = {"alg": "RS256", "kid": "first", "typ": "JWT"}


def test_a_user(issuer: LocalIssuer, caplog: pytest.LogCaptureFixture) -> None:
    token = issuer.token(wlcg__groups=[f"/{VO}/g", f"/{VO}", "/other", f"/{VO}/g"])
    found = user(issuer, token)
    assert (found.identity.kind, found.subject) == (Kind.TOKEN, issuer.subject)
    assert (found.key, found.groups) == (issuer.subject, (f"/{VO}/g", f"/{VO}"))
    assert (found.account, found.grant.match, found.identity.may) == ("member", "*", ALL)
    line = f'allowed: sub="{issuer.subject}" fqans="/{VO}/g,/{VO}" address={ADDRESS}'
    assert f'{line} account=member grant="*"' in caplog.messages


@pytest.mark.parametrize("audience", [AUDIENCE, [AUDIENCE], ["x", AUDIENCE]])
def test_audiences_of_every_form(issuer: LocalIssuer, audience: object) -> None:
    assert user(issuer, issuer.token(aud=audience)).account == "member"


def test_other_kinds_of_keys(issuer: LocalIssuer) -> None:
    issuer.told.signers[:] = [curve("curve"), signer("first")]
    assert user(issuer, issuer.token()).subject == issuer.subject
    assert "not one of those taken here" in refusal(issuer, issuer.token(), algorithms=("RS256",))


NOW = time.time()
BAD_CLAIMS = [
    ({"aud": "https://other.example"}, "not for this service"),
    ({"aud": []}, "not for this service"),
    ({"aud": None}, "not for this service"),
    ({"aud": [AUDIENCE, 1]}, "claims: aud"),
    ({"aud": AUDIENCE.upper()}, "not for this service"),
    ({"iss": "https://elsewhere.example"}, "issuer is not one"),
    ({"iss": None}, "does not say who issued it"),
    ({"iss": ["x"]}, "does not say who issued it"),
    ({"exp": int(NOW) - 1}, "expired at"),
    ({"exp": None}, "claims: exp"),
    ({"exp": "9999999999"}, "claims: exp"),
    ({"exp": 10**30}, "claims: exp"),
    ({"exp": True}, "claims: exp"),
    ({"iat": None}, "claims: iat"),
    ({"iat": int(NOW) + 7200}, "not valid before"),
    ({"nbf": int(NOW) + 7200}, "not valid before"),
    ({"sub": 7}, "claims: sub"),
    ({"sub": ""}, "claims: sub"),
    ({"sub": "a b"}, "claims: sub"),
    ({"sub": "a*"}, "claims: sub"),
    ({"sub": 'a"b'}, "claims: sub"),
    ({"sub": "a\nb"}, "claims: sub"),
    ({"sub": "é"}, "claims: sub"),
    ({"sub": "x" * 255}, "more than 255 characters"),
    ({"wlcg__ver": None}, "no version of the profile"),
    ({"wlcg__ver": "2.0"}, "no version of the profile"),
    ({"wlcg__groups": "/testvo"}, "claims: wlcg.groups"),
    ({"wlcg__groups": ["/testvo"] * 1001}, "claims: wlcg.groups"),
    ({"scope": ["compute.read"]}, "claims: scope"),
    ({"typ": "ID"}, "no access token"),
]


@pytest.mark.parametrize(("changes", "reason"), BAD_CLAIMS)
def test_claims_that_are_not_taken(
    issuer: LocalIssuer, changes: dict[str, Any], reason: str
) -> None:
    token = resigned(issuer, HEADER, issuer.claims(**changes))
    assert reason in refusal(issuer, token)


def test_the_clocks_of_issuers_may_differ_a_little(issuer: LocalIssuer) -> None:
    ahead = int(time.time()) + 30
    assert user(issuer, issuer.token(iat=ahead, nbf=ahead)).account == "member"


BAD_HEADERS = [
    ({"alg": "none"}, "not one of those taken here"),
    ({"alg": "RS384"}, "not one of those taken here"),
    ({"alg": None}, "how it is signed"),
    ({"alg": "ES256"}, "not that of its key"),
    ({"kid": None}, "which key signed it"),
    ({"kid": ""}, "which key signed it"),
    ({"kid": 7}, "which key signed it"),
    ({"kid": "../first"}, "does not have"),
    ({"crit": ["exp"], "exp": 1}, "critical extensions"),
    ({"crit": []}, "critical extensions"),
    ({"b64": False}, "b64"),
    ({"typ": "logout+jwt"}, "type (typ)"),
    ({"typ": 1}, "type (typ)"),
]


@pytest.mark.parametrize(("changes", "reason"), BAD_HEADERS)
def test_headers_that_are_not_taken(
    issuer: LocalIssuer, changes: dict[str, Any], reason: str
) -> None:
    header = {k: v for k, v in {**HEADER, **changes}.items() if v is not None}
    assert reason in refusal(issuer, resigned(issuer, header))


def test_a_token_without_signature(issuer: LocalIssuer) -> None:
    header, claims = part({"alg": "none", "kid": "first"}), part(issuer.claims())
    assert "not of the form" in refusal(issuer, header + b"." + claims + b".")


def test_the_public_key_as_a_secret(issuer: LocalIssuer) -> None:
    public = issuer.told.signers[0].key.public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    secret = public.public_bytes(serialization.Encoding.PEM, form)
    told = part(HEADER | {"alg": "HS256"}) + b"." + part(issuer.claims())
    forged = told + b"." + part(hmac.new(secret, told, hashlib.sha256).digest())
    assert "not one of those taken here" in refusal(issuer, forged)


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
def test_keys_that_a_token_brings_along_are_not_looked_at(issuer: LocalIssuer, name: str) -> None:
    forger = curve("first")
    brought = forger.jwk() if name == "jwk" else f"{issuer.url}/forged"
    token = forger.sign(issuer.claims(), **{name: brought}).encode()
    assert "not that of its key" in refusal(issuer, token)
    good = issuer.told.signers[0].sign(issuer.claims(), **{name: brought}).encode()
    assert user(issuer, good).account == "member"
    assert not issuer.told.asked["/forged"]


def test_a_token_that_was_changed(issuer: LocalIssuer) -> None:
    head, _, signature = issuer.token().split(b".")
    other = part(issuer.claims(sub="root"))
    assert refusal(issuer, b".".join([head, other, signature])) == "the token's signature is wrong"
    assert refusal(issuer, b".".join([head, other, b"AAAA"])) == "the token's signature is wrong"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (b"", "not of the form"),
        (b"x", "not of the form"),
        (b"a.b", "not of the form"),
        (b"a.b.c.d", "not of the form"),
        (b"a.b.c", "base64url"),
        (b"\xff.\xfe.\xfd", "not of the form"),
        (b"A" * 100_000, "more than 16384 bytes"),
        (b"A" * 16_385, "more than 16384 bytes"),
        (part(b"[" * 12000) + b".e30.AA", "more than 100 lists and objects"),
        (b"e30." + part({"x": [[]] * 100}) + b".AA", "more than 100 lists and objects"),
        (b"e30." + part({"x": [{}] * 98}) + b".AA", "who issued it"),
        (part(b"[]") + b".e30.AA", "JSON object"),
        (part(b"\xff\xfe") + b".e30.AA", "can't be read as JSON"),
        (part(b'{"alg":"RS256","alg":"none"}') + b".e30.AA", "can't be read as JSON"),
        (b"e30." + part(b'{"sub":"a","sub":"b"}') + b".AA", "can't be read as JSON"),
        (b"e30." + part(b'{"exp":NaN}') + b".AA", "can't be read as JSON"),
        (b"e30." + part(b'{"exp":' + b"9" * 5000 + b"}") + b".AA", "can't be read as JSON"),
        (b"e30.e30.AA", "who issued it"),
    ],
)
def test_what_is_no_token(issuer: LocalIssuer, token: bytes, reason: str) -> None:
    assert reason in refusal(issuer, token)
    assert not issuer.told.asked


def test_whatever_is_done_to_a_token_it_is_refused(issuer: LocalIssuer) -> None:
    """A byte of it changed, gone or doubled: nobody else comes in, and nothing breaks."""
    good = issuer.token()
    chance = random.Random(15)  # noqa: S311 (the same each time)

    async def scene(authenticator: Authenticator) -> None:
        for _ in range(400):
            place, other = chance.randrange(len(good)), bytes([chance.randrange(256)])
            how = chance.choice((good[place : place + 1] + other, other, b""))
            bad = good[:place] + how + good[place + 1 :]
            try:
                found = await authenticator.user((), ADDRESS, bad)
            except DeniedError as error:
                assert (error.status, error.error) == (401, "invalid_token")  # noqa: PT017
            else:  # the same signature, in other spare bits of base64, or the same byte
                assert found.subject == issuer.subject
                assert bad[: good.rindex(b".")] == good[: good.rindex(b".")]

    within(issuer, scene)


def test_names_that_are_there_twice_under_a_good_signature(issuer: LocalIssuer) -> None:
    claims = json.dumps(issuer.claims()).encode()
    assert "can't be read" in refusal(
        issuer, resigned(issuer, HEADER, claims[:-1] + b', "sub": "root"}')
    )


def test_no_verdict_outlives_its_token(
    issuer: LocalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(authenticator: Authenticator) -> None:
        token = issuer.token(exp=time.time() + 100)
        await authenticator.user((), ADDRESS, token)
        later = time.time() + 101
        monkeypatch.setattr(time, "time", lambda: later)
        assert "expired at" in (await denied(authenticator, token)).reason

    within(issuer, scene)


def test_a_stranger_is_judged_anew_each_time(issuer: LocalIssuer) -> None:
    """Strangers' tokens take no room among the verdicts."""

    async def scene(authenticator: Authenticator) -> int:
        await authenticator.user((), ADDRESS, issuer.token())
        for number in range(50):
            await denied(authenticator, b"e30.e30.%04d" % number)
        return len(authenticator._by_token._kept)

    assert within(issuer, scene) == 1


# Keys, and issuers that misbehave.


def test_a_flood_of_unknown_keys_is_one_question_a_minute(issuer: LocalIssuer) -> None:
    async def scene(authenticator: Authenticator) -> None:
        await authenticator.user((), ADDRESS, issuer.token())
        tokens = [signer(f"k{n}").sign(issuer.claims()).encode() for n in range(40)]
        await asyncio.gather(*(denied(authenticator, token) for token in tokens))
        assert issuer.told.asked["/jwk"] == 1
        keys = keys_of(authenticator)
        keys._tried -= issuer_keys.PAUSE
        _forget_the_last_question(issuer)
        await asyncio.gather(*(denied(authenticator, token) for token in tokens))
        assert issuer.told.asked["/jwk"] == 2

    within(issuer, scene)


def _forget_the_last_question(issuer: LocalIssuer) -> None:
    for lock in (issuer.grid.folder / "issuers").glob("*.lock"):
        lock.write_text("")


def test_a_new_key_is_found_and_two_processes_ask_once(issuer: LocalIssuer) -> None:
    async def scene(authenticator: Authenticator) -> None:
        await authenticator.user((), ADDRESS, issuer.token())
        second = Authenticator(issuer.bridge())
        await second.user((), ADDRESS, issuer.token())
        assert issuer.told.asked["/jwk"] == 1
        issuer.told.signers.insert(0, curve("second"))
        assert "does not have" in (await denied(second, issuer.token())).reason
        _forget_the_last_question(issuer)
        for each in (authenticator, second):
            keys_of(each)._tried -= issuer_keys.PAUSE
            assert (await each.user((), ADDRESS, issuer.token())).account == "member"
        assert issuer.told.asked["/jwk"] == 2
        await second.close()

    within(issuer, scene)


def _age(issuer: LocalIssuer, seconds: float) -> None:
    """Keys on disk that are so old; the last question is as old."""
    [file] = (issuer.grid.folder / "issuers").glob("*.json")
    document = json.loads(file.read_text())
    document["fetched"] -= seconds
    file.write_text(json.dumps(document))
    _forget_the_last_question(issuer)


@pytest.mark.parametrize(
    ("hours", "status", "asked"),
    [(5, 200, 0), (7, 200, 1), (47, 200, 1), (49, 401, 1)],
)
def test_keys_serve_while_their_issuer_is_away(
    issuer: LocalIssuer, hours: float, status: int, asked: int
) -> None:
    user(issuer, issuer.token())
    _age(issuer, hours * 3600)
    issuer.told.asked.clear()
    issuer.told.answers[DISCOVERY] = lambda _request: as_json({}, 500)

    async def scene(authenticator: Authenticator) -> int:
        found = 200
        try:
            await authenticator.user((), ADDRESS, issuer.token())
        except DeniedError as error:
            found = error.status
        renewing = keys_of(authenticator)._renewing
        if renewing:
            await renewing
        return found

    assert within(issuer, scene) == status
    assert issuer.told.asked[DISCOVERY] == asked


def _hangs(_request: Request) -> Reply:
    threading.Event().wait(3)
    return as_json({})


def _redirects(to: str) -> Callable[[Request], Reply]:
    return lambda _request: (302, {"Location": to}, b"")


def _drips(_request: Request) -> Reply:
    return 200, {"Content-Length": "1000"}, b"{"  # and never more


@pytest.mark.parametrize(
    ("path", "answer", "said"),
    [
        (DISCOVERY, _hangs, "no answer within"),
        (DISCOVERY, _drips, "no answer within"),
        ("/jwk", _hangs, "no answer within"),
        (DISCOVERY, _redirects("/elsewhere"), "HTTP status 302"),
        ("/jwk", _redirects("/elsewhere"), "HTTP status 302"),
        (DISCOVERY, lambda _r: as_json({"issuer": "https://o.example"}), "are another issuer's"),
        (DISCOVERY, lambda _r: as_json([]), "JSON object"),
        (DISCOVERY, lambda _r: (200, {}, b"\x1f\x8b\x08"), "as JSON"),
        (DISCOVERY, lambda _r: (200, {}, b'{"issuer":1,"issuer":2}'), "as JSON"),
        ("/jwk", lambda _r: as_json({"keys": ["x" * 10_000_000]}), "more than 524288 bytes"),
        ("/jwk", lambda _r: as_json({"keys": [{}] * 101}), "more than 100 keys"),
        ("/jwk", lambda _r: as_json({"keys": {}}), "no set of keys"),
        ("/jwk", lambda _r: as_json({}, 404), "HTTP status 404"),
    ],
)
def test_an_issuer_that_misbehaves(
    issuer: LocalIssuer,
    caplog: pytest.LogCaptureFixture,
    path: str,
    answer: Callable[[Request], Reply],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if said == "no answer within":
        monkeypatch.setattr(issuer_client, "_PATIENCE", 0.5)
    issuer.told.answers[path] = answer
    issuer.told.answers["/elsewhere"] = lambda _r: as_json(issuer.told.metadata())
    assert "can't be had now; try again" in refusal(issuer, issuer.token())
    assert any(said in line for line in caplog.messages), caplog.messages
    assert not issuer.told.asked["/elsewhere"]


@pytest.mark.parametrize(
    "place",
    [
        "http://localhost/jwk",
        "https://169.254.169.254/latest/meta-data",
        "https://localhost:1/jwk",
        "https://user@localhost:{port}/jwk",
        "file:///etc/passwd",
        "//localhost:{port}/jwk",
        "",
        None,
        7,
        ["x"],
    ],
)
def test_no_address_is_asked_that_is_not_configured(
    issuer: LocalIssuer, caplog: pytest.LogCaptureFixture, place: object
) -> None:
    port = str(issuer.server.server_address[1])
    named = place.replace("{port}", port) if isinstance(place, str) else place
    changed = issuer.told.metadata() | {"jwks_uri": named}
    issuer.told.answers[DISCOVERY] = lambda _r: as_json(changed)
    refusal(issuer, issuer.token())
    assert any("not https on a host allowed here" in line for line in caplog.messages)
    assert not issuer.told.asked["/jwk"]


def test_keys_may_be_on_a_host_that_is_named(issuer: LocalIssuer) -> None:
    port = issuer.server.server_address[1]
    changed = issuer.told.metadata() | {"jwks_uri": f"https://127.0.0.1:{port}/jwk"}
    issuer.told.answers[DISCOVERY] = lambda _r: as_json(changed)
    assert user(issuer, issuer.token(), hosts=(f"127.0.0.1:{port}",)).account == "member"


def test_an_issuer_that_tls_does_not_know(
    issuer: LocalIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    refusal(issuer, issuer.token(), ca_dir=None)
    assert any("certificate verify failed" in line.lower() for line in caplog.messages)


def test_weak_and_odd_keys_do_not_count(issuer: LocalIssuer) -> None:
    good = signer("first").jwk()
    twice = [good, curve("first").jwk()]
    issuer.told.answers["/jwk"] = lambda _r: as_json({"keys": twice})
    assert "does not have" in refusal(issuer, issuer.token())
    for odd in (
        {**good, "use": "enc"},
        {**good, "kty": "oct", "k": "AAAA"},
        {**good, "n": "AQAB"},
        {**good, "n": 5},
        {**good, "alg": "RS512"},
        {**good, "kid": 7},
        {**good, "key_ops": ["encrypt"]},
        {**good, "d": "AQAB"},
        "x",
    ):
        for file in (issuer.grid.folder / "issuers").iterdir():
            file.unlink()
        issuer.told.answers["/jwk"] = lambda _r, odd=odd: as_json({"keys": [odd]})  # type: ignore[misc]
        assert "key" in refusal(issuer, issuer.token())


# Groups from elsewhere, and what scopes allow.


def test_groups_from_userinfo(issuer: LocalIssuer) -> None:
    bare = issuer.token(wlcg__groups=None)
    issuer.told.answers["/userinfo"] = lambda request: as_json(
        {"sub": "grace", "wlcg.groups": [f"/{VO}/there"]}
        if request.headers["authorization"] == f"Bearer {bare.decode()}"
        else {}
    )
    assert user(issuer, bare, groups_from="userinfo").groups == (f"/{VO}/there",)
    issuer.told.answers["/userinfo"] = lambda _r: as_json({"sub": "else", "wlcg.groups": []})
    assert "another user's groups" in refusal(issuer, bare, groups_from="userinfo")
    issuer.told.answers["/userinfo"] = lambda _r: as_json({}, 503)
    assert "HTTP status 503" in refusal(issuer, bare, groups_from="userinfo")


def test_an_issuer_is_asked_once_about_a_token(issuer: LocalIssuer) -> None:
    async def scene(authenticator: Authenticator) -> None:
        token = issuer.token()
        await asyncio.gather(*(authenticator.user((), ADDRESS, token) for _ in range(50)))
        await authenticator.user((), ADDRESS, token)

    within(issuer, scene, groups_from="userinfo")
    assert issuer.told.asked["/userinfo"] == 1


def test_groups_from_introspection(issuer: LocalIssuer) -> None:
    secret = issuer.grid.folder / "secret"
    secret.write_text("box-secret\n")
    ask = {
        "groups_from": "introspection",
        "client_id": "box",
        "client_secret": str(secret),
    }
    assert user(issuer, issuer.token(), **ask).groups == (f"/{VO}",)
    issuer.told.answers["/introspect"] = lambda _r: as_json({"active": False})
    assert "not active any more" in refusal(issuer, issuer.token(), **ask)
    secret.unlink()
    assert refusal(issuer, issuer.token(), **ask) == "the service can't ask the token's issuer now"


def test_scopes_allow_just_that_and_groups_do_not_count(issuer: LocalIssuer) -> None:
    token = issuer.token(scope="openid compute.read compute.cancel", wlcg__groups=[f"/{VO}/vip"])
    found = user(issuer, token)
    assert found.groups == (f"/{VO}",)
    assert found.identity.may == {Capability.READ, Capability.CANCEL}
    found.require(Capability.READ)
    with pytest.raises(DeniedError) as caught:
        found.require(Capability.CREATE)
    assert (caught.value.status, caught.value.error) == (403, "insufficient_scope")


def test_scopes_for_other_services_allow_nothing(issuer: LocalIssuer) -> None:
    token = issuer.token(scope="storage.read:/")
    fault = within(issuer, lambda a: denied(a, token))
    assert (fault.status, fault.error) == (403, "insufficient_scope")


def test_a_ban_of_a_group_is_not_passed_by_asking_for_scopes(issuer: LocalIssuer) -> None:
    (issuer.grid.folder / "ban_users.db").write_text(f"/{VO}/bad/*\n")
    for scope in ("openid", "compute.read", " ".join(ALL)):
        token = issuer.token(wlcg__groups=[f"/{VO}", f"/{VO}/bad"], scope=scope)
        fault = within(issuer, lambda a, t=token: denied(a, t))  # type: ignore[misc]
        assert (fault.status, fault.reason[:6]) == (403, "banned"), scope
        assert user(issuer, issuer.token(scope=scope)).account == "member"


def test_a_judgement_that_began_before_a_ban_is_nobody_elses(
    issuer: LocalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = issuer.token()
    judged, go_on = threading.Event(), threading.Event()

    async def scene(authenticator: Authenticator) -> None:
        real = authenticator._authorization.user

        def slow(*known: Any) -> User:
            found = real(*known)
            judged.set()
            go_on.wait(30)
            return found

        await authenticator.user((), ADDRESS, issuer.token(jti="first"))
        monkeypatch.setattr(authenticator._authorization, "user", slow)
        before = asyncio.create_task(authenticator.user((), ADDRESS, token))
        await asyncio.to_thread(judged.wait, 30)
        monkeypatch.setattr(authenticator._authorization, "user", real)
        (issuer.grid.folder / "ban_users.db").write_text(f"{issuer.subject}\n")
        after = asyncio.create_task(denied(authenticator, token))
        await asyncio.wait([after], timeout=1)  # if it joined the one before, it waits for that
        go_on.set()
        await before
        assert "banned" in (await after).reason
        assert "banned" in (await denied(authenticator, token)).reason

    within(issuer, scene)


def test_an_issuer_s_cookies_are_not_kept(issuer: LocalIssuer) -> None:
    seen = []

    def userinfo(request: Request) -> Reply:
        seen.append(request.headers.get("cookie"))
        status, headers, body = as_json({"sub": "grace", "wlcg.groups": [f"/{VO}"]})
        return status, {**headers, "Set-Cookie": "session=of-the-first"}, body

    issuer.told.answers["/userinfo"] = userinfo

    async def scene(authenticator: Authenticator) -> None:
        for name in "ab":
            await authenticator.user((), ADDRESS, issuer.token(jti=name))

    within(issuer, scene, groups_from="userinfo")
    assert seen == [None, None]


def test_bans_and_grants_by_subject(issuer: LocalIssuer) -> None:
    (issuer.grid.folder / "voms-mapfile").write_text("")
    fault = within(issuer, lambda a: denied(a, issuer.token()))
    assert (fault.status, fault.reason[:16]) == (403, "no local account")
    issuer.grid.map(f'"{issuer.subject}" grace')
    assert user(issuer, issuer.token()).account == "grace"
    (issuer.grid.folder / "ban_users.db").write_text(f"{issuer.subject}\n")
    fault = within(issuer, lambda a: denied(a, issuer.token()))
    assert (fault.status, fault.reason[:6]) == (403, "banned")
    assert fault.identity
    assert fault.identity.subject == issuer.subject


def test_a_linked_subject_is_the_same_person(issuer: LocalIssuer) -> None:
    alice = f"{BASE}/CN=Alice"
    (issuer.grid.folder / "voms-mapfile").write_text("")
    issuer.grid.map(f'"{alice}" alice')
    links = {issuer.subject: alice}

    async def scene(authenticator: Authenticator) -> None:
        authenticator._links = lambda: dict(links)
        found = await authenticator.user((), ADDRESS, issuer.token())
        assert (found.subject, found.key, found.account) == (issuer.subject, alice, "alice")
        (issuer.grid.folder / "ban_users.db").write_text(f'"{alice}"\n')
        assert "banned" in (await denied(authenticator, issuer.token())).reason
        (issuer.grid.folder / "ban_users.db").write_text(f'"{issuer.subject}"\n')
        with pytest.raises(DeniedError, match="banned"):
            await authenticator.user(issuer.grid.chain(issuer.grid.alice), ADDRESS)
        links.clear()
        (issuer.grid.folder / "ban_users.db").write_text("")
        assert "no local account" in (await denied(authenticator, issuer.token())).reason

    within(issuer, scene)


def test_a_token_counts_and_not_the_certificate(issuer: LocalIssuer) -> None:
    issuer.grid.map(f'"{BASE}/CN=Alice" alice')
    chain = issuer.grid.chain(issuer.grid.alice)

    async def scene(authenticator: Authenticator) -> None:
        assert (await authenticator.user(chain, ADDRESS, issuer.token())).account == "member"
        with pytest.raises(DeniedError, match="expired"):
            await authenticator.user(chain, ADDRESS, issuer.token(exp=1))

    within(issuer, scene)


def test_where_no_issuer_is_configured_tokens_are_not_looked_at(issuer: LocalIssuer) -> None:
    issuer.grid.map(f'"{BASE}/CN=Alice" alice')

    async def scene() -> None:
        authenticator = Authenticator(issuer.grid.bridge)
        chain = issuer.grid.chain(issuer.grid.alice)
        assert (await authenticator.user(chain, ADDRESS, b"x")).account == "alice"
        fault = await denied(authenticator, issuer.token())
        assert (fault.status, fault.error, fault.tokens) == (401, "", False)
        await authenticator.close()

    asyncio.run(scene())
    assert not issuer.told.asked


def test_what_doctor_says_of_an_issuer(issuer: LocalIssuer) -> None:
    def said(**changes: Any) -> tuple[str, str]:
        [check] = [c for c in checks.checks(issuer.bridge(**changes)) if c.name == "issuer"]
        return str(check.status), check.seen

    assert said() == ("ok", f"{issuer.url}: 1 keys")
    aarc = {"profile": "aarc", "namespace": "urn:mace:x", "audiences": ("*",)}
    assert said(**aarc)[0] == "warning"
    assert "no key that signs by ES256" in said(algorithms=("ES256",))[1]
    issuer.told.answers["/jwk"] = lambda _r: as_json({}, 500)
    assert said() == ("fault", f"issuer {issuer.url}: HTTP status 500 from localhost")


def test_no_token_is_in_the_log(issuer: LocalIssuer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    good, expired = issuer.token(), issuer.token(exp=1)
    user(issuer, good, groups_from="userinfo")
    refusal(issuer, expired)
    refusal(issuer, good + b"x")
    whole = caplog.text
    for token in (good, expired):
        assert token.split(b".")[1].decode() not in whole
        assert token.split(b".")[2].decode() not in whole
    kept = "".join(file.read_text() for file in (issuer.grid.folder / "issuers").iterdir())
    assert good.split(b".")[2].decode() not in kept
