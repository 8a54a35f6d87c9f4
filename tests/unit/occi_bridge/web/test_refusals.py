"""Every way to be refused: the status and the sentence, as text and in JSON."""

import json
import logging
from collections.abc import Callable

import pytest
from httpx import Client

from occi_bridge.occi import schema
from occi_bridge.occi.schema import COMPUTE, INFRA, NETWORK
from tests.unit.occi_bridge.memory import NET, Memory
from tests.unit.occi_bridge.web.test_operations import JSON, MINE, PLAIN, category, listed, made

STOP = category(f"{INFRA}/compute/action#stop", "action")
TITLE = 'X-OCCI-Attribute: occi.core.title="t"'
ID_Y = 'X-OCCI-Attribute: occi.core.id="y"\n'


def asked(
    client: Client, method: str, path: str, content: str = "", **headers: str
) -> tuple[int, str]:
    """Status and sentence; they must be the same in JSON."""
    sent = {"content-type": "text/plain"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    answer = client.request(method, path, content=content, headers=sent)
    assert answer.headers["server"].endswith("OCCI/1.2 OCCI/1.1")
    sentence = answer.text.removesuffix("\n")
    assert "\n" not in sentence
    if "accept" not in headers:
        sent["accept"] = "application/occi+json"
        again = client.request(method, path, content=content, headers=sent)
        assert again.headers["content-type"] == "application/occi+json"
        assert again.json() == {"code": answer.status_code, "message": sentence}
    return answer.status_code, sentence


@pytest.fixture
def machine(client: Client) -> str:
    return made(client)


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "sentence"),
    [
        # syntax
        ("POST", "/compute/", "what?", 400, "line 1: «what?»: a line begins with Category:"),
        ("POST", "/compute/", "", 400, "the kind is missing"),
        ("POST", "/compute/", category(COMPUTE) + TITLE[:-1], 400, "X-OCCI-Attribute: a quote is"),
        ("GET", "/compute/?page=0", "", 400, "?page=0: a whole number from 1 is needed"),
        ("GET", "/compute/?number=x", "", 400, "?number=x: a whole number from 1 is needed"),
        ("GET", "/?page=" + "9" * 5000, "", 400, "?page=999"),
        # unknown categories and actions
        ("POST", "/compute/", category("http://x#y"), 400, "category «http://x#y» is not known"),
        ("POST", "/compute/?action=x", STOP, 400, "the URL says ?action=x, the body stop"),
        ("POST", "/network/?action=stop", STOP, 400, "is not an action of a network"),
        ("POST", "/mine/?action=x", category("http://x#y"), 400, "is not an action of a compute"),
        ("POST", "/-/", "Category: a; scheme=b; class=kind", 400, "a mixin is needed"),
        ("POST", "/-/", category("http://x#Y", "mixin"), 400, "term «Y»: lower-case letters"),
        ("POST", "/-/", 'Category: a; scheme="b"', 400, "scheme «b»: a URI that ends in # is"),
        *(
            ("POST", "/-/", f'Category: a; scheme="b:c#"; rel="{above}"', 403, "the site's own")
            for above in (
                f"{schema.INFRA}#os_tpl",
                f"{schema.OWN}os_tpl#small_linux_x86_64",
            )
        ),
        (
            *("POST", "/-/", f'Category: a; scheme="{schema.OWN}os_tpl#"; class="mixin"'),
            *(403, "belongs to this service"),
        ),
        (
            *("POST", "/-/", f'Category: a; scheme="b:c#"; location="/{"x" * 300}/"'),
            *(400, "longer than 255"),
        ),
        ("POST", "/-/", 'Category: a; scheme="b:c#"; rel="x y"', 400, "rel «x y»: the id of a"),
        ("POST", "/-/", 'Category: a; scheme="b:c#"; title="\\""', 400, "title: up to 255"),
        ("DELETE", "/-/", "", 400, "which mixin? A Category is needed"),
        ("DELETE", "/-/", category("http://x#y"), 400, "category «http://x#y» is not known"),
        ("POST", "/mine/", "", 400, "which entities? An X-OCCI-Location is needed"),
        ("DELETE", "/mine/", "", 400, "which entities? An X-OCCI-Location is needed"),
        # what belongs elsewhere
        ("POST", "/compute/", category(NETWORK), 400, "/compute/ is for a compute, not for"),
        ("POST", "/", category("http://schemas.ogf.org/occi/core#resource"), 400, "nothing can be"),
        # forbidden
        ("DELETE", "/-/", category(COMPUTE), 403, "compute is the service's own"),
        ("POST", "/-/", category(f"{INFRA}#mine", "mixin"), 403, "belongs to OCCI itself"),
        (
            "PUT",
            "/os_tpl/small_linux_x86_64/",
            "X-OCCI-Location: /compute/x",
            403,
            "not a mixin of",
        ),
        ("DELETE", "/ssh_key/", "X-OCCI-Location: /compute/x", 403, "is not a mixin of yours"),
        # nothing there
        ("GET", "/nothing", "", 404, "there is nothing at /nothing"),
        ("GET", "/compute/x", "", 404, "there is nothing at /compute/x"),
        ("GET", "/compute/x/y", "", 404, "there is nothing at /compute/x/y"),
        ("GET", "/resource/x", "", 404, "there is nothing at /resource/x"),
        ("PUT", "/compute/x", "", 400, "the kind is missing"),
        ("PUT", "/compute/x", category(NETWORK), 400, "/compute/x is for a compute, not for"),
        ("PUT", "/compute/x", category(COMPUTE) + ID_Y, 400, "occi.core.id: y is not that of"),
        ("PUT", "/compute/-x", category(COMPUTE), 400, "occi.core.id: «-x» is not 1 to 64"),
        ("PUT", "/compute/x/y", category(COMPUTE), 404, "there is nothing at /compute/x/y"),
        ("POST", "/compute/x", TITLE, 404, "there is nothing at /compute/x"),
        ("POST", "/compute/x?action=stop", STOP, 404, "there is nothing at /compute/x"),
        ("DELETE", "/compute/x", "", 404, "there is nothing at /compute/x"),
        ("POST", "/mine/", "X-OCCI-Location: /compute/x", 400, "there is nothing at /compute/x"),
        (
            "POST",
            "/resource_tpl/small/",
            "X-OCCI-Location: /compute/x",
            400,
            "nothing at /compute/x",
        ),
        (
            "POST",
            "/compute/",
            category(COMPUTE) + 'Link: </network/x>; rel="y"',
            400,
            "there is nothing at /network/x",
        ),
        # methods
        ("PUT", "/-/", "", 405, "PUT /-/: only GET, POST, DELETE can be used here"),
        ("PUT", "/.well-known/org/ogf/occi/-/", "", 405, "only GET, POST, DELETE can be used"),
        ("PUT", "/compute/", "", 405, "PUT /compute/: only GET, POST, DELETE can be used here"),
        ("PUT", "/", "", 405, "PUT /: only GET, POST can be used here"),
        ("DELETE", "/", "", 405, "DELETE /: only GET, POST can be used here"),
        ("PATCH", "/compute/x", "", 405, "only GET, POST, PUT, DELETE can be used here"),
        ("OPTIONS", "/compute/", "", 405, "only GET, POST, DELETE can be used here"),
        # conflicts
        ("POST", "/-/", f"Category: {MINE.replace('Mine', 'Other')}", 409, "mine is there already"),
        (
            "POST",
            "/-/",
            'Category: a; scheme="b:c#"; location="/compute/a/"',
            409,
            "location /compute/a/: /compute/ is there already",
        ),
        ("POST", "/-/", 'Category: a; scheme="b:c#"; location="/-/x/"', 409, "the service's own"),
    ],
)
def test_refused(
    client: Client, method: str, path: str, content: str, status: int, sentence: str
) -> None:
    client.post("/-/", content=f"Category: {MINE}", headers=PLAIN)
    found, said = asked(client, method, path, content)
    assert found == status
    assert sentence in said


@pytest.mark.parametrize(
    ("method", "query", "content", "status", "sentence"),
    [
        ("POST", "?action=start", STOP, 400, "the URL says ?action=start, the body stop"),
        ("POST", "?action=stop", "", 400, "the body names 0 categories, not 1"),
        ("POST", "?action=", STOP, 400, "the URL says ?action=, the body stop"),
        ("POST", "?action=stop", STOP + 'X-OCCI-Attribute: method="x"', 400, "method: «x» is none"),
        ("POST", "", STOP, 400, "the action stop needs ?action=stop"),
        ("POST", "", 'X-OCCI-Attribute: occi.core.id="x"', 400, "occi.core.id: can't be changed"),
        (
            "POST",
            "",
            'X-OCCI-Attribute: occi.compute.cores="x"',
            400,
            "occi.compute.cores: a whole",
        ),
        ("PUT", "", category(NETWORK), 400, "is a compute, not a network"),
        (
            "POST",
            "?action=save",
            category(f"{INFRA}/compute/action#save", "action"),
            409,
            "is running: stop it first",
        ),
        (
            "POST",
            "",
            category("http://wnodes-lrms.invalid/occi/os_tpl#small_linux_x86_64", "mixin"),
            400,
            "can only be given when it is created",
        ),
    ],
)
def test_refused_on_a_machine(
    client: Client,
    machine: str,
    method: str,
    query: str,
    content: str,
    status: int,
    sentence: str,
) -> None:
    before = client.get(machine).text
    found, said = asked(client, method, machine + query, content)
    assert found == status
    assert sentence in said
    assert client.get(machine).text == before


def test_refused_attributes_leave_no_half_a_machine(client: Client) -> None:
    content = category(COMPUTE) + f'Link: </network/{NET}>; rel="x"\nLink: </network/no>; rel="x"\n'
    assert asked(client, "POST", "/compute/", content)[0] == 400
    assert listed(client, "/compute/") == listed(client, "/networkinterface/") == []


def test_an_id_that_is_taken(client: Client) -> None:
    content = category(COMPUTE) + 'X-OCCI-Attribute: occi.core.id="one"\n'
    assert made(client, more='X-OCCI-Attribute: occi.core.id="one"\n') == "/compute/one"
    assert asked(client, "POST", "/compute/", content) == (409, "/compute/one is there already")


def test_over_quota(service: Memory, client: Client) -> None:
    service.machines_allowed = 1
    made(client)
    status, sentence = asked(client, "POST", "/compute/", category(COMPUTE))
    assert (status, sentence) == (403, "quota of machines: 1 of them used")


def test_without_a_certificate(user_client: Callable[[str], Client]) -> None:
    client = user_client("")
    for method, path in (("GET", "/-/"), ("GET", "/compute/"), ("POST", "/compute/")):
        assert asked(client, method, path) == (401, "no certificate from 127.0.0.1")
    answer = client.get("/-/")
    assert "keystone" not in answer.headers["www-authenticate"].lower()


def test_banned(user_client: Callable[[str], Client]) -> None:
    client = user_client("Mallory")
    assert asked(client, "GET", "/-/") == (403, "/CN=Mallory is banned")


def test_not_known_yet(user_client: Callable[[str], Client]) -> None:
    client = user_client("Trent")
    assert asked(client, "GET", "/-/") == (503, "the verifier does not answer")
    assert client.get("/-/").headers["retry-after"] == "10"


def test_others_machines_are_not_there(
    user_client: Callable[[str], Client], client: Client, machine: str
) -> None:
    assert client.get(machine).status_code == 200
    other = user_client("Bob")
    assert asked(other, "GET", machine) == (404, f"there is nothing at {machine}")
    assert listed(other, "/compute/") == []


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/-/", "text/uri-list"),
        ("/-/", "text/html"),
        ("/compute/", "image/png"),
        (f"/network/{NET}", "text/uri-list"),
    ],
)
def test_not_acceptable(client: Client, path: str, accept: str) -> None:
    status, sentence = asked(client, "GET", path, accept=accept)
    assert status == 406
    assert sentence.startswith(f"Accept «{accept}»: there is only text/plain, text/occi")


def test_a_body_of_a_type_that_is_not_ours(client: Client) -> None:
    for media in ("application/xml", "application/x-www-form-urlencoded", "nonsense"):
        status, sentence = asked(client, "POST", "/compute/", "x", content_type=media)
        assert status == 415
        assert sentence.startswith(f"Content-Type «{media}»: text/plain, text/occi")


def test_a_later_occi(client: Client) -> None:
    for method, path in (("GET", "/-/"), ("GET", "/compute/"), ("POST", "/compute/")):
        status, sentence = asked(client, method, path, user_agent="x OCCI/2.0")
        assert (status, sentence) == (501, "OCCI/2.0 is not spoken here, but OCCI/1.2 and 1.1 are")
    assert client.get("/-/", headers={"user-agent": "x OCCI/1.2"}).status_code == 200


def test_the_pool_is_away(service: Memory, client: Client, machine: str) -> None:
    service.away = True
    for method, path, content in (
        ("POST", "/compute/", category(COMPUTE)),
        ("POST", f"{machine}?action=stop", STOP),
        ("DELETE", machine, ""),
        ("POST", machine, TITLE),
    ):
        assert asked(client, method, path, content) == (503, "no bait answers; ask again")
        answer = client.request(method, path, content=content, headers=PLAIN)
        assert answer.headers["retry-after"] == "30"
    assert client.get(machine).status_code == 200
    assert listed(client, "/compute/") == [machine]


def test_of_many_all_or_none(service: Memory, client: Client) -> None:
    made(client, more='X-OCCI-Attribute: occi.core.id="one"\n')
    made(client)
    service.away = True
    status, sentence = asked(client, "DELETE", "/compute/")
    assert (status, sentence) == (503, "no bait answers; ask again")


def test_methods_that_are_allowed(client: Client) -> None:
    assert client.put("/compute/").headers["allow"] == "GET, POST, DELETE"


def test_too_long(client: Client) -> None:
    status, sentence = asked(client, "POST", "/compute/", "x" * (512 * 1024 + 1))
    assert (status, sentence) == (413, "the body has more than 524288 bytes")
    headers = {"category": "x" * (128 * 1024)}
    answer = client.get("/compute/", headers=headers)
    assert answer.status_code == 431
    assert answer.headers["connection"] == "close"


def test_a_body_in_pieces_is_measured_too(client: Client) -> None:
    answer = client.post("/compute/", content=(b"x" * 65536 for _ in range(9)), headers=PLAIN)
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")
    pieces = iter([category(COMPUTE).encode()[:9], category(COMPUTE).encode()[9:]])
    assert client.post("/compute/", content=pieces, headers=PLAIN).status_code == 201


@pytest.mark.parametrize("host", ["a b", "x/y", 'x"', "", "h:port"])
def test_a_host_that_can_not_be(client: Client, host: str) -> None:
    status, sentence = asked(client, "GET", "/compute/", host=host)
    assert (status, sentence) == (400, "one Host header is needed, with the name of this service")


def test_a_fault_of_the_service_is_logged_not_told(
    service: Memory, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    service.broken = True
    with caplog.at_level(logging.ERROR):
        status, sentence = asked(client, "GET", "/compute/x")
    assert (status, sentence) == (500, "a fault of the service; it has been logged")
    assert "GET /compute/x failed" in caplog.text


def test_json_that_is_none(client: Client) -> None:
    answer = client.post("/compute/", content="{", headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("not JSON: ")
    assert json.loads(answer.content)["code"] == 400
