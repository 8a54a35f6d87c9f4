"""Who somebody is with a token, with both, and after both were linked; over TLS."""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from contrib.site.box.ca import Credential, proxy
from occi_bridge.store.links import Made
from tests.unit import ca, issuers
from tests.unit.ca import BASE, VO, Grid, Service
from tests.unit.issuers import AUDIENCE, LocalIssuer

pytestmark = pytest.mark.integration

grid, issuer = ca.grid, issuers.issuer
ANY = "https://wlcg.cern.ch/jwt/v1/any"
ALICE = f"{BASE}/CN=Alice"


class Linked:
    """Links as a database keeps them."""

    def __init__(self) -> None:
        self.all: dict[str, str] = {}
        self.created = time.time()

    def __call__(self) -> dict[str, str]:
        return dict(self.all)

    def make(self, subject: str, dn: str) -> None:
        self.all[subject] = dn

    def remove(self, subject: str) -> bool:
        return bool(self.all.pop(subject, None))

    def of(self, owner: str) -> list[Made]:
        return [Made(sub, dn, self.created) for sub, dn in self.all.items() if dn == owner]


@pytest.fixture
def links() -> Linked:
    return Linked()


@pytest.fixture
def service(grid: Grid, issuer: LocalIssuer, links: Linked) -> Iterator[Service]:
    grid.map(f'"{ALICE}" alice')
    (grid.folder / "voms-mapfile").write_text(f'"/{VO}" member\n')
    with ca.service(grid, bridge=issuer.bridge(), links=links) as service:
        yield service


def ask(
    service: Service, credential: Credential | None, token: bytes | None, method: str = "GET"
) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token.decode()}"} if token else {}
    with contextlib.closing(service.connect(credential)) as connection:
        connection.request(method, "/whoami", headers=headers)
        answer = connection.getresponse()
        return answer.status, json.load(answer)


def test_a_token(service: Service, issuer: LocalIssuer) -> None:
    status, seen = ask(service, None, issuer.token())
    assert status == 200
    assert {name: seen[name] for name in ("kind", "subject", "dn", "fqans", "owner")} == {
        "kind": "token",
        "subject": issuer.subject,
        "dn": None,
        "fqans": [f"/{VO}"],
        "owner": issuer.subject,
    }
    assert (seen["account"], seen["may"], seen["ignored"]) == ("member", None, None)


def test_which_of_two_counted(service: Service, grid: Grid, issuer: LocalIssuer) -> None:
    _, seen = ask(service, grid.alice, issuer.token())
    assert (seen["kind"], seen["account"], seen["ignored"]) == ("token", "member", ALICE)
    _, seen = ask(service, grid.alice, None)
    assert (seen["kind"], seen["dn"], seen["ignored"]) == ("certificate", ALICE, None)


def test_what_a_token_is_limited_to(service: Service, issuer: LocalIssuer) -> None:
    _, seen = ask(service, None, issuer.token(scope="compute.read"))
    assert seen["may"] == ["compute.read"]


def test_statuses(service: Service, grid: Grid, issuer: LocalIssuer) -> None:
    status, seen = ask(service, grid.alice, issuer.token(exp=1))
    assert (status, seen["kind"]) == (401, "token")
    assert "expired" in seen["refused"]
    status, seen = ask(service, None, b"x")
    assert (status, seen["kind"], seen["dn"]) == (401, None, "")
    status, seen = ask(service, None, issuer.token(wlcg__groups=[]))
    assert (status, seen["subject"]) == (200, issuer.subject)
    assert "no local account" in seen["refused"]
    status, seen = ask(service, None, None)
    assert status == 401
    assert "or a bearer token is needed" in seen["refused"]


def test_nobody_is_told_both_ways(service: Service) -> None:
    with contextlib.closing(service.connect(None)) as connection:
        connection.request("GET", "/whoami")
        answer = connection.getresponse()
        answer.read()
    challenges = answer.headers.get_all("WWW-Authenticate") or []
    assert [each.split()[0] for each in challenges] == ["X509", "Bearer"]


def test_both_in_one_request_are_the_same_person(
    service: Service, grid: Grid, issuer: LocalIssuer, links: Linked
) -> None:
    status, seen = ask(service, grid.alice, issuer.token(), "POST")
    assert (status, seen["subject"], seen["owner"]) == (200, issuer.subject, ALICE)
    assert links.all == {issuer.subject: ALICE}
    assert ask(service, None, issuer.token())[1]["owner"] == ALICE
    made = {"subject": issuer.subject, "dn": ALICE, "created": links.created}
    assert seen["links"] == [made]
    assert ask(service, grid.alice, None)[1]["links"] == [made]


def test_what_a_thief_could_have_is_not_linked(
    service: Service, grid: Grid, issuer: LocalIssuer, links: Linked
) -> None:
    for credential, token, status, reason in (
        (proxy(grid.alice, key=grid.key), issuer.token(), 403, "a proxy can't be linked"),
        (grid.alice, issuer.token(iat=int(time.time()) - 700), 403, "older than 10 minutes"),
        (grid.alice, issuer.token(scope="compute.read"), 403, "limited by scopes"),
        (grid.alice, issuer.token(aud=[AUDIENCE, "https://other"]), 403, "this service alone"),
        (grid.alice, None, 400, "are needed, in one request"),
        (None, issuer.token(), 400, "are needed, in one request"),
        (grid.user("Bob"), issuer.token(), 403, "no local account"),
        (grid.alice, issuer.token(exp=1), 401, "expired"),
    ):
        found, seen = ask(service, credential, token, "POST")
        assert (found, reason in seen["refused"]) == (status, True), seen
    assert not links.all


@pytest.mark.parametrize(
    ("profile", "audiences", "aud"),
    [
        ({}, (AUDIENCE, ANY), ANY),
        ({}, (AUDIENCE, ANY), [AUDIENCE, ANY]),
        ({"profile": "aarc", "namespace": "urn:x"}, ("*",), AUDIENCE),
        ({"profile": "aarc", "namespace": "urn:x"}, ("*",), None),
    ],
)
def test_a_token_that_other_services_take_is_not_linked(
    grid: Grid,
    issuer: LocalIssuer,
    links: Linked,
    profile: dict[str, str],
    audiences: tuple[str, ...],
    aud: object,
) -> None:
    grid.map(f'"{ALICE}" alice', f'"{issuer.subject}" grace')
    bridge = issuer.bridge(audiences=audiences, **profile)
    with ca.service(grid, bridge=bridge, links=links) as service:
        token = issuer.token(aud=aud)
        assert ask(service, None, token)[1]["account"] == "grace"
        status, seen = ask(service, grid.alice, token, "POST")
    assert (status, "this service alone" in seen["refused"], links.all) == (403, True, {})


def test_a_token_alone_undoes_a_link(service: Service, issuer: LocalIssuer, links: Linked) -> None:
    links.make(issuer.subject, ALICE)
    assert ask(service, None, issuer.token())[1]["owner"] == ALICE
    status, seen = ask(service, None, issuer.token(), "DELETE")
    assert (status, seen["owner"], seen["links"], links.all) == (200, issuer.subject, [], {})
    status, seen = ask(service, None, issuer.token(), "DELETE")
    assert (status, "is not linked" in seen["refused"]) == (404, True)


def test_what_does_not_undo_a_link(
    service: Service, grid: Grid, issuer: LocalIssuer, links: Linked
) -> None:
    links.make(issuer.subject, ALICE)
    for credential, token, status, reason in (
        (grid.alice, None, 400, "the token is needed"),
        (None, issuer.token(scope="compute.cancel"), 403, "limited by scopes"),
        (None, issuer.token(iat=int(time.time()) - 700), 403, "older than 10 minutes"),
        (None, issuer.token(sub="other"), 404, "is not linked"),
        (None, issuer.token(exp=1), 401, "expired"),
    ):
        found, seen = ask(service, credential, token, "DELETE")
        assert (found, reason in seen["refused"]) == (status, True), seen
    # Who is banned does not get out of it so.
    (grid.folder / "ban_users.db").write_text(f'"{ALICE}"\n')
    assert ask(service, None, issuer.token(), "DELETE")[0] == 403
    assert links.all == {issuer.subject: ALICE}
