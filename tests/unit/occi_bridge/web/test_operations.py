"""Every operation of OCCI, asked over HTTP of a service in memory."""

import json
import uuid
from collections.abc import Callable, Mapping

import pytest
from httpx import Client, Response

from occi_bridge.occi.schema import COMPUTE, INFRA, NETWORK, NETWORKINTERFACE, STORAGE, STORAGELINK
from tests.unit.occi_bridge.conftest import BASE
from tests.unit.occi_bridge.memory import NET, Memory

PLAIN = {"content-type": "text/plain"}
JSON = {"content-type": "application/occi+json", "accept": "application/occi+json"}
URIS = {"accept": "text/uri-list"}
IMAGE = "http://wnodes-lrms.invalid/occi/os_tpl#small_linux_x86_64"
LARGE = "http://wnodes-lrms.invalid/occi/resource_tpl#large"
MINE = 'mine; scheme="http://x.org/mine#"; class="mixin"; title="Mine"; location="/mine/"'


def category(name: str, cls: str = "kind") -> str:
    scheme, _, term = name.partition("#")
    return f'Category: {term}; scheme="{scheme}#"; class="{cls}"\n'


def made(client: Client, path: str = "/compute/", more: str = "", kind: str = COMPUTE) -> str:
    """The path of an entity that is made now."""
    answer = client.post(path, content=category(kind) + more, headers=PLAIN)
    assert answer.status_code == 201, answer.text
    assert answer.text == f"X-OCCI-Location: {answer.headers['location']}\n"
    assert answer.headers["location"] == answer.headers["x-occi-location"]
    assert answer.headers["location"].startswith(f"{BASE}/{kind.rpartition('#')[2]}/")
    return answer.headers["location"].removeprefix(BASE)


def listed(client: Client, path: str, headers: Mapping[str, str] | None = None) -> list[str]:
    answer = client.get(path, headers={**URIS, **(headers or {})})
    assert answer.status_code == 200, answer.text
    return [line.removeprefix(BASE) for line in answer.text.splitlines()]


def attributes(client: Client, path: str) -> dict[str, object]:
    answer = client.get(path, headers=JSON)
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["attributes"])


def is_rendering(answer: Response, path: str) -> bool:
    identity = path.rpartition("/")[2]
    return answer.status_code == 200 and f'occi.core.id="{identity}"' in answer.text


# The query interface


@pytest.mark.parametrize("accept", ["text/plain", "text/occi", "application/occi+json"])
def test_both_query_interfaces_are_identical(client: Client, accept: str) -> None:
    headers = {"accept": accept}
    one, other = (client.get(path, headers=headers) for path in INTERFACES)
    assert one.status_code == other.status_code == 200
    assert one.content == other.content
    assert [each for each in one.headers.items() if each[0] != "date"] == [
        each for each in other.headers.items() if each[0] != "date"
    ]
    whole = one.text + one.headers.get("category", "")
    assert whole.count("networkinterface") > 2


INTERFACES = ("/-/", "/.well-known/org/ogf/occi/-/")


@pytest.mark.parametrize("path", INTERFACES)
def test_the_query_interface_filtered(client: Client, path: str) -> None:
    compute = category(COMPUTE).removeprefix("Category: ").strip()
    answer = client.get(path, headers={"category": compute})
    assert answer.text.startswith("Category: compute; ")
    assert answer.text.count("\n") == 1
    in_headers = client.get(path, headers={"category": compute, "accept": "text/occi"})
    assert in_headers.headers["category"] == answer.text.removeprefix("Category: ").strip()


@pytest.mark.parametrize("path", INTERFACES)
def test_a_user_s_mixin_comes_and_goes(client: Client, path: str) -> None:
    assert client.post(path, content=f"Category: {MINE}", headers=PLAIN).status_code == 200
    assert client.post(path, headers={"category": MINE}).status_code == 200  # as it is already
    assert 'location="/mine/"' in client.get("/-/").text
    machine = made(client, more=category("http://x.org/mine#mine", "mixin"))
    assert listed(client, "/mine/") == [machine]
    short = {"category": 'mine; scheme="http://x.org/mine#"'}
    assert client.request("DELETE", path, headers=short).status_code == 200
    assert "x.org" not in client.get("/-/").text
    assert "x.org" not in client.get(machine).text
    assert client.get("/mine/").status_code == 404


def test_a_user_s_mixin_is_no_size(client: Client) -> None:
    """The conformance suite adds this one; it is a tag like all of them."""
    own = 'Category: stufik; scheme="http://example.com/occi/my_stuff#"; class="mixin"; '
    own += f'location="/mixin/resource_tpl/extra_large/"; rel="{INFRA}#resource_tpl"'
    for _ in range(2):
        assert client.post("/-/", content=own, headers=PLAIN).status_code == 200
    [line] = [line for line in client.get("/-/").text.splitlines() if "stufik" in line]
    assert "rel=" not in line


def test_a_user_s_mixin_in_json(client: Client) -> None:
    own = {"term": "mine", "scheme": "http://x.org/mine#", "location": "/mine/"}
    assert client.post("/-/", json={"mixins": [own]}, headers=JSON).json() == {}
    assert {"mine"} < {mixin["term"] for mixin in client.get("/-/", headers=JSON).json()["mixins"]}


def test_a_mixin_is_its_maker_s_alone(user_client: Callable[[str], Client], client: Client) -> None:
    client.post("/-/", content=f"Category: {MINE}", headers=PLAIN)
    other = user_client("Bob")
    assert "x.org" not in other.get("/-/").text


# Creating

KINDS = ("compute", "network", "storage", "networkinterface", "storagelink")


def one_of_each(client: Client) -> dict[str, str]:
    """The path of an entity of each kind, by its term."""
    link = 'X-OCCI-Attribute: occi.core.source="{}", occi.core.target="{}"\n'
    title = 'X-OCCI-Attribute: occi.core.title="one, \\"two\\"; three"\n'
    machine = made(client, more=title + "X-OCCI-Attribute: occi.compute.memory=3.6\n")
    network = made(client, "/network/", title, NETWORK)
    volume = made(client, "/storage/", title + "X-OCCI-Attribute: occi.storage.size=2\n", STORAGE)
    return {
        "networkinterface": made(
            client, "/networkinterface/", link.format(machine, network), NETWORKINTERFACE
        ),
        "storagelink": made(client, "/storagelink/", link.format(machine, volume), STORAGELINK),
        "compute": machine,
        "network": network,
        "storage": volume,
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("media", ["text/plain", "text/occi", "application/occi+json"])
def test_what_is_rendered_can_be_sent_back(client: Client, media: str, kind: str) -> None:
    path = one_of_each(client)[kind]
    before = client.get(path, headers=JSON).json()
    shown = client.get(path, headers={"accept": media})
    names = ("category", "x-occi-attribute", "link")
    fields = {name: shown.headers[name] for name in names if name in shown.headers}
    headers = {"content-type": media, "accept": media, **fields}
    for method in ("PUT", "POST"):
        answer = client.request(method, path, content=shown.content, headers=headers)
        assert answer.status_code == 200, answer.text
        assert client.get(path, headers=JSON).json() == before


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_title_can_be_changed_where_it_stands(client: Client, method: str, kind: str) -> None:
    path = one_of_each(client)[kind]
    client.post(path, content='X-OCCI-Attribute: occi.core.title="old"\n', headers=PLAIN)
    document = client.get(path, headers=JSON).json()
    for at in (document, document["attributes"]):
        old = client.get(path, headers=JSON).json()
        key = "title" if at is document else "occi.core.title"
        changed = json.loads(json.dumps(old))
        (changed if at is document else changed["attributes"])[key] = f"new in {key}"
        answer = client.request(method, path, json=changed, headers=JSON)
        assert answer.status_code == 200, answer.text
        assert answer.json()["title"] == answer.json()["attributes"]["occi.core.title"]
        assert answer.json()["title"] == f"new in {key}"
    both = {**answer.json(), "title": "a"}
    both["attributes"] = {**both["attributes"], "occi.core.title": "b"}
    answer = client.request(method, path, json=both, headers=JSON)
    assert (answer.status_code, answer.json()["message"]) == (
        *(400, "occi.core.title: given twice, with different values"),
    )


@pytest.mark.parametrize("kind", ["compute", "network", "storage"])
def test_put_where_nothing_is_creates(client: Client, kind: str) -> None:
    path = f"/{kind}/my-own"
    content = category(f"{INFRA}#{kind}")
    content += "X-OCCI-Attribute: occi.storage.size=2\n" if kind == "storage" else ""
    answer = client.put(path, content=content, headers=PLAIN)
    assert (answer.status_code, answer.headers["location"]) == (201, BASE + path)
    assert is_rendering(client.get(path), path)
    assert client.put(path, content=content, headers=PLAIN).status_code == 200


@pytest.mark.parametrize("path", ["/compute/", "/compute", "/"])
def test_create(client: Client, path: str) -> None:
    assert listed(client, "/compute/") == []
    machine = made(client, path)
    assert listed(client, "/compute/") == [machine]
    assert attributes(client, machine)["occi.compute.state"] == "active"


def test_create_with_headers_alone(client: Client) -> None:
    headers = {
        "content-type": "text/occi",
        "accept": "text/occi",
        "category": 'compute; scheme="http://schemas.ogf.org/occi/infrastructure#"',
        "x-occi-attribute": r'occi.compute.memory=3.6, occi.core.title="a\", b=1"',
    }
    answer = client.post("/compute/", content="OK", headers=headers)
    assert (answer.status_code, answer.text) == (201, "OK\n")
    shown = client.get(answer.headers["location"], headers={"accept": "text/occi"})
    assert shown.text == "OK\n"
    assert "occi.compute.memory=3.6" in shown.headers["x-occi-attribute"]
    assert r'occi.core.title="a\", b=1"' in shown.headers["x-occi-attribute"]


def test_create_in_json(client: Client) -> None:
    document = {
        "kind": COMPUTE,
        "mixins": [IMAGE, LARGE],
        "attributes": {"occi.core.title": "a\tb".replace("\t", " ")},
        "links": [{"target": {"location": f"/network/{NET}", "kind": NETWORK}}],
    }
    answer = client.post("/compute/", json=document, headers=JSON)
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/occi+json"
    shown = answer.json()
    assert answer.headers["location"] == f"{BASE}/compute/{shown['id']}"
    assert shown["attributes"]["occi.compute.cores"] == 4
    assert shown["attributes"]["occi.compute.memory"] == 4.0
    [link] = shown["links"]
    assert link["target"] == {"location": f"/network/{NET}", "kind": NETWORK}
    assert client.get(answer.headers["location"], headers=JSON).json() == shown


def test_create_as_the_common_command_line_does(client: Client) -> None:
    content = (
        'Category: compute;scheme="http://schemas.ogf.org/occi/infrastructure#";class="kind"\n'
        'Category: small_linux_x86_64;scheme="http://wnodes-lrms.invalid/occi/os_tpl#";'
        'class="mixin"\n'
        'Category: large;scheme="http://wnodes-lrms.invalid/occi/resource_tpl#";class="mixin"\n'
        'X-OCCI-Attribute: occi.core.title="t"\nX-OCCI-Attribute: occi.compute.hostname="My t"\n'
        f'Link: </network/{NET}>;rel="{NETWORK}";self="/networkinterface/";'
        f'category="{NETWORKINTERFACE}";occi.core.target="/network/{NET}";occi.core.source=""\n'
    )
    headers = {"content-type": "text/plain,text/occi", "accept": "text/plain"}
    answer = client.post("/compute/", content=content, headers=headers)
    assert answer.status_code == 201, answer.text
    shown = client.get(answer.headers["location"]).text
    assert f"Link: </network/{NET}>; " in shown
    assert "occi.compute.cores=4" in shown


def test_the_client_chooses_the_id(client: Client) -> None:
    identity = str(uuid.uuid4())
    more = f'X-OCCI-Attribute: occi.core.id="{identity}"\n'
    assert made(client, more=more) == f"/compute/{identity}"


def test_locations_are_as_the_client_calls_the_service(client: Client) -> None:
    made(client)
    answer = client.get("/compute/", headers={"host": "other.example.org", **URIS})
    assert answer.text.startswith("http://other.example.org/compute/")


def test_links_are_entities_of_their_own(client: Client) -> None:
    machine = made(client)
    volume = made(client, "/storage/", "X-OCCI-Attribute: occi.storage.size=1\n", STORAGE)
    ends = f'X-OCCI-Attribute: occi.core.source="{BASE}{machine}", occi.core.target="{volume}"\n'
    link = made(client, "/storagelink/", ends, STORAGELINK)
    assert attributes(client, link)["occi.core.source"] == machine
    assert f'Link: <{volume}>; rel="{STORAGE}"; self="{link}"' in client.get(machine).text
    assert listed(client, "/link/") == [link]
    assert set(listed(client, "/resource/")) == {f"/network/{NET}", machine, volume}
    assert set(listed(client, "/entity/")) == set(listed(client, "/"))
    assert client.delete(machine).status_code == 200
    assert client.get(link).status_code == 404  # it went with the VM
    assert client.get(volume).status_code == 200


# Instances


def test_get_an_instance(client: Client) -> None:
    path = made(client)
    plain = client.get(path)
    assert is_rendering(plain, path)
    assert plain.headers["content-type"] == "text/plain; charset=utf-8"
    assert client.get(f"{path}/").text == plain.text
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(plain.content))


def test_a_get_asks_no_more_than_one_entity(service: Memory, client: Client) -> None:
    path = made(client)
    service.calls.clear()
    client.get(path)
    assert service.calls == ["model", "entity"]


def test_post_on_an_instance_changes_a_part(client: Client) -> None:
    path = made(client, more='X-OCCI-Attribute: occi.core.title="old", occi.compute.hostname="h"\n')
    answer = client.post(path, content='X-OCCI-Attribute: occi.core.title="new"', headers=PLAIN)
    assert is_rendering(answer, path)
    assert 'occi.core.title="new"' in answer.text
    assert attributes(client, path)["occi.compute.hostname"] == "h"


def test_post_on_an_instance_adds_mixins(client: Client) -> None:
    path = made(client)
    answer = client.post(path, content=category(LARGE, "mixin"), headers=PLAIN)
    assert is_rendering(answer, path)
    assert attributes(client, path)["occi.compute.cores"] == 4
    assert listed(client, "/resource_tpl/large/") == [path]


def test_put_on_an_instance_replaces_it_and_keeps_links(client: Client) -> None:
    nic = f'Link: </network/{NET}>; rel="{NETWORK}"\n'
    title = 'X-OCCI-Attribute: occi.core.title="old", occi.core.summary="s"\n'
    path = made(client, more=title + nic)
    new = category(COMPUTE) + 'X-OCCI-Attribute: occi.core.title="new"\n'
    answer = client.put(path, content=new, headers=PLAIN)
    assert is_rendering(answer, path)
    assert 'occi.core.title="new"' in answer.text
    assert "occi.core.summary" not in answer.text
    assert f"Link: </network/{NET}>" in answer.text


@pytest.mark.parametrize("accept", ["text/plain", "text/occi", "application/occi+json"])
def test_a_rendering_can_be_put_back(client: Client, accept: str) -> None:
    nic = f'Link: </network/{NET}>; rel="{NETWORK}"\n'
    path = made(client, more=nic + category(IMAGE, "mixin") + category(LARGE, "mixin"))
    before = client.get(path, headers={"accept": accept})
    said = {
        name: before.headers[name]
        for name in ("category", "link", "x-occi-attribute")
        if name in before.headers
    }
    headers = {"content-type": accept, "accept": accept, **said}
    after = client.put(path, content=before.content, headers=headers)
    assert after.status_code == 200, after.text
    assert sorted(after.text) == sorted(before.text)
    assert len(listed(client, "/networkinterface/")) == 1


def test_delete_an_instance(client: Client) -> None:
    path = made(client)
    answer = client.delete(path)
    assert (answer.status_code, answer.text) == (200, "")
    assert client.get(path).status_code == 404
    assert client.delete(path).status_code == 404
    assert listed(client, "/compute/") == []
    other = made(client)
    assert client.request("DELETE", other, headers={"accept": "text/occi"}).text == "OK\n"
    third = made(client)
    assert client.request("DELETE", third, headers=JSON).json() == {}


@pytest.mark.parametrize(
    ("term", "more", "message"),
    [
        ("start", "", "start {}"),
        ("stop", "", "stop {'method': 'graceful'}"),
        ("stop", 'X-OCCI-Attribute: method="poweroff"', "stop {'method': 'poweroff'}"),
        ("restart", 'X-OCCI-Attribute: method="cold"', "restart {'method': 'cold'}"),
        ("suspend", 'X-OCCI-Attribute: method="hibernate"', "suspend {'method': 'hibernate'}"),
    ],
)
def test_actions_on_an_instance(client: Client, term: str, more: str, message: str) -> None:
    path = made(client)
    name = f"{INFRA}/compute/action#{term}"
    content = category(name, "action") + more
    answer = client.post(f"{path}?action={term}", content=content, headers=PLAIN)
    assert answer.status_code == 200, answer.text
    assert attributes(client, path)["occi.compute.state.message"] == message


def test_an_action_in_json(client: Client) -> None:
    path = made(client)
    document = {"action": f"{INFRA}/compute/action#stop", "attributes": {"method": "acpioff"}}
    assert client.post(f"{path}?action=stop", json=document, headers=JSON).json() == {}
    shown = attributes(client, path)
    assert shown["occi.compute.state"] == "inactive"
    assert shown["occi.compute.state.message"] == "stop {'method': 'acpioff'}"


# Collections of a kind


def test_an_empty_collection(client: Client) -> None:
    plain = client.get("/compute/")
    assert (plain.status_code, plain.content) == (200, b"")
    in_headers = client.get("/compute/", headers={"accept": "text/occi"})
    assert (in_headers.status_code, in_headers.text) == (200, "OK\n")
    assert client.get("/compute/", headers=URIS).content == b""
    assert client.get("/compute/", headers=JSON).json() == {"resources": []}


def test_a_collection_in_every_form(client: Client) -> None:
    one, two = made(client), made(client)
    assert client.get("/compute/").text == (
        f"X-OCCI-Location: {BASE}{one}\nX-OCCI-Location: {BASE}{two}\n"
    )
    in_headers = client.get("/compute/", headers={"accept": "text/occi"})
    assert in_headers.headers["x-occi-location"] == f"{BASE}{one}, {BASE}{two}"
    assert client.get("/compute/", headers=URIS).text == f"{BASE}{one}\n{BASE}{two}\n"
    whole = client.get("/compute/", headers=JSON).json()
    assert [resource["id"] for resource in whole["resources"]] == [
        path.rpartition("/")[2] for path in (one, two)
    ]


def test_the_root_lists_all(client: Client) -> None:
    machine = made(client, more=f'Link: </network/{NET}>; rel="{NETWORK}"\n')
    [nic] = listed(client, "/networkinterface/")
    assert listed(client, "/") == [f"/network/{NET}", machine, nic]
    both = client.get("/", headers=JSON).json()
    assert {"resources", "links"} == set(both)
    assert client.get("/link/", headers=JSON).json() == {"links": both["links"]}
    assert client.get("/resource/", headers=JSON).json() == {"resources": both["resources"]}


def test_a_collection_filtered(client: Client) -> None:
    large = made(client, more=category(LARGE, "mixin"))
    small = made(client, more='X-OCCI-Attribute: occi.compute.hostname="a, b"\n')
    mixin = {"category": category(LARGE, "mixin").removeprefix("Category: ").strip()}
    assert listed(client, "/compute/", mixin) == [large]
    assert listed(client, "/", mixin) == [large]
    host = {"x-occi-attribute": 'occi.compute.hostname="a, b"'}
    assert listed(client, "/compute/", host) == [small]
    cores = {"x-occi-attribute": "occi.compute.cores=4, occi.compute.memory=4"}
    assert listed(client, "/compute/", cores) == [large]
    assert listed(client, "/compute/", {**host, **mixin}) == []
    kind = {"category": category(COMPUTE).removeprefix("Category: ").strip()}
    assert listed(client, "/", kind) == [large, small]
    core = {"category": 'resource; scheme="http://schemas.ogf.org/occi/core#"'}
    assert listed(client, "/compute/", core) == [large, small]
    in_json = client.get("/compute/", headers={**JSON, **mixin}).json()
    assert len(in_json["resources"]) == 1


def test_pages(client: Client) -> None:
    paths = [made(client) for _ in range(5)]
    assert listed(client, "/compute/?page=1&number=2") == paths[:2]
    assert listed(client, "/compute/?page=3&number=2") == paths[4:]
    assert listed(client, "/compute/?page=4&number=2") == []
    assert listed(client, "/compute/?page=1") == paths
    assert listed(client, "/compute/?number=3") == paths[:3]
    in_json = client.get("/compute/?page=2&number=3", headers=JSON).json()
    assert len(in_json["resources"]) == 2


def test_an_action_on_a_collection(client: Client) -> None:
    paths = [made(client), made(client)]
    stop = category(f"{INFRA}/compute/action#stop", "action")
    assert client.post("/compute/?action=stop", content=stop, headers=PLAIN).status_code == 200
    states = [attributes(client, path)["occi.compute.state"] for path in paths]
    assert states == ["inactive", "inactive"]
    client.delete("/compute/")
    assert client.post("/compute/?action=stop", content=stop, headers=PLAIN).status_code == 200


def test_delete_a_collection(client: Client) -> None:
    kept = made(client, "/network/", kind=NETWORK)
    made(client)
    made(client)
    assert client.delete("/compute/").status_code == 200
    assert listed(client, "/") == [f"/network/{NET}", kept]


def test_delete_what_a_filter_leaves(client: Client) -> None:
    large = made(client, more=category(LARGE, "mixin"))
    small, third = made(client), made(client)
    mixin = {"category": category(LARGE, "mixin").removeprefix("Category: ").strip()}
    assert client.request("DELETE", "/compute/", headers=mixin).status_code == 200
    assert listed(client, "/compute/") == [small, third]
    assert client.get(large).status_code == 404
    named = {"x-occi-location": f"{BASE}{small}"}
    assert client.request("DELETE", "/compute/", headers=named).status_code == 200
    assert listed(client, "/compute/") == [third]


# Collections of a mixin


@pytest.fixture
def tagged(client: Client) -> list[str]:
    """Three VMs, beside the mixin /mine/."""
    client.post("/-/", content=f"Category: {MINE}", headers=PLAIN)
    return [made(client) for _ in range(3)]


def place(*paths: str) -> str:
    return "".join(f"X-OCCI-Location: {BASE}{path}\n" for path in paths)


def test_add_to_a_mixin(client: Client, tagged: list[str]) -> None:
    one, two, _ = tagged
    assert client.post("/mine/", content=place(two), headers=PLAIN).status_code == 200
    assert listed(client, "/mine/") == [two]
    headers = {"content-type": "text/occi", "x-occi-location": BASE + one}
    assert client.post("/mine/", headers=headers).status_code == 200
    assert listed(client, "/mine/") == [one, two]
    assert 'mine; scheme="http://x.org/mine#"' in client.get(one).text


def test_set_a_mixin(client: Client, tagged: list[str]) -> None:
    one, two, three = tagged
    client.post("/mine/", content=place(one), headers=PLAIN)
    answer = client.put(
        "/mine/", content=f"{BASE}{two}\n{three}\n", headers={"content-type": "text/uri-list"}
    )
    assert answer.status_code == 200
    assert listed(client, "/mine/") == [two, three]


def test_take_out_of_a_mixin(client: Client, tagged: list[str]) -> None:
    one, two, three = tagged
    client.post("/mine/", content=place(one, two, three), headers=PLAIN)
    headers = {"x-occi-location": f"{one}, {three}"}
    assert client.request("DELETE", "/mine/", headers=headers).status_code == 200
    assert listed(client, "/mine/") == [two]
    content = json.dumps([two])
    assert client.request("DELETE", "/mine/", content=content, headers=JSON).status_code == 200
    assert listed(client, "/mine/") == []
    assert len(listed(client, "/compute/")) == 3


def test_an_action_on_a_mixin(client: Client, tagged: list[str]) -> None:
    one, two, _ = tagged
    client.post("/mine/", content=place(one), headers=PLAIN)
    stop = category(f"{INFRA}/compute/action#stop", "action")
    assert client.post("/mine/?action=stop", content=stop, headers=PLAIN).status_code == 200
    assert attributes(client, one)["occi.compute.state"] == "inactive"
    assert attributes(client, two)["occi.compute.state"] == "active"


def test_add_to_a_template(client: Client) -> None:
    one, two = made(client), made(client)
    answer = client.post("/resource_tpl/large/", content=place(one), headers=PLAIN)
    assert answer.status_code == 200
    assert attributes(client, one)["occi.compute.cores"] == 4
    assert attributes(client, two)["occi.compute.cores"] == 1
    assert listed(client, "/resource_tpl/large/") == [one]


def test_another_spelling_s_collection_is_the_same(client: Client) -> None:
    data = category("http://schemas.openstack.org/compute/instance#user_data", "mixin")
    data += 'X-OCCI-Attribute: org.openstack.compute.user_data="QQ=="\n'
    path = made(client, more=data)
    assert listed(client, "/openstack/user_data/") == listed(client, "/user_data/") == [path]
    spelling = {"category": 'user_data; scheme="http://schemas.openstack.org/compute/instance#"'}
    assert listed(client, "/compute/", spelling) == [path]
    assert 'user_data; scheme="http://schemas.ogf.org/occi' in client.get(path).text


def test_the_site_s_networks_stay(client: Client) -> None:
    mine = made(client, "/network/", kind=NETWORK)
    assert client.delete("/network/").status_code == 200
    assert client.get(mine).status_code == 404
    assert listed(client, "/network/") == [f"/network/{NET}"]
