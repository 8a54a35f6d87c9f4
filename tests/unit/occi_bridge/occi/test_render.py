"""Answers as clients have to find them, written out by hand; and what comes back of them."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from occi_bridge.occi import mixins, parse, render, render_text, user_mixins
from occi_bridge.occi.messages import Definition, Entity, OcciError, Value
from occi_bridge.occi.model import Kind
from occi_bridge.occi.negotiate import JSON, OCCI, PLAIN, URIS
from occi_bridge.occi.render import Answer
from occi_bridge.occi.schema import COMPUTE, INFRA, NETWORK, NETWORKINTERFACE, STORAGE
from wnodes_lrms.config.load import Template

SMALL = Template(name="small", title="Small; one, core", cores=1, memory=512)
MODEL = mixins.site_model([("sl.7_linux_x86_64", "")], [SMALL])
NIC = Entity(
    "n1",
    NETWORKINTERFACE,
    "/networkinterface/n1",
    (f"{INFRA}/networkinterface#ipnetworkinterface",),
    {
        "occi.core.id": "n1",
        "occi.core.source": "/compute/c1",
        "occi.core.target": "/network/public",
        "occi.networkinterface.address": "10.0.0.2",
    },
)
MACHINE = Entity(
    "c1",
    COMPUTE,
    "/compute/c1",
    ("http://wnodes-lrms.invalid/occi/os_tpl#sl-7_linux_x86_64",),
    {
        "occi.core.id": "c1",
        "occi.core.title": 'my "first"; \\ occi.compute.cores=9, ☃',
        "occi.core.summary": "",
        "occi.compute.cores": 2,
        "occi.compute.memory": 0.5,
        "occi.compute.state.message": "two\nlines",
        "x.y.z": True,
    },
    (f"{INFRA}/compute/action#stop",),
    (NIC,),
)
BASE = "https://cloud.example.org:11443"


def lines(answer: Answer) -> list[str]:
    return answer.body.decode().splitlines()


def headers(answer: Answer) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in answer.headers}


def category(name: str) -> str:
    found = MODEL.find(name)
    assert found
    answer = render.categories(PLAIN, [found])
    [line] = lines(answer)
    return line


def test_a_kind() -> None:
    assert category(STORAGE) == (
        'Category: storage; scheme="http://schemas.ogf.org/occi/infrastructure#"; class="kind"; '
        'title="Volume"; rel="http://schemas.ogf.org/occi/core#resource"; location="/storage/"; '
        'attributes="occi.core.id{immutable} occi.core.title occi.core.summary '
        "occi.storage.size{required} occi.storage.state{immutable} "
        'occi.storage.state.message{immutable}"; '
        'actions="http://schemas.ogf.org/occi/infrastructure/storage/action#online '
        "http://schemas.ogf.org/occi/infrastructure/storage/action#offline "
        "http://schemas.ogf.org/occi/infrastructure/storage/action#resize "
        "http://schemas.ogf.org/occi/infrastructure/storage/action#snapshot "
        'http://schemas.ogf.org/occi/infrastructure/storage/action#backup"'
    )


def test_templates() -> None:
    assert category("http://wnodes-lrms.invalid/occi/os_tpl#sl-7_linux_x86_64") == (
        'Category: sl-7_linux_x86_64; scheme="http://wnodes-lrms.invalid/occi/os_tpl#"; '
        'class="mixin"; title="sl.7_linux_x86_64"; '
        'rel="http://schemas.ogf.org/occi/infrastructure#os_tpl"; '
        'location="/os_tpl/sl-7_linux_x86_64/"'
    )
    assert category("http://wnodes-lrms.invalid/occi/resource_tpl#small") == (
        'Category: small; scheme="http://wnodes-lrms.invalid/occi/resource_tpl#"; class="mixin"; '
        'title="Small  one  core"; rel="http://schemas.ogf.org/occi/infrastructure#resource_tpl"; '
        'location="/resource_tpl/small/"'
    )


def test_every_tag_has_a_term_of_its_own() -> None:
    images = [("a.b_linux_x86_64", ""), ("a-b_linux_x86_64", ""), ("7.1_linux_x86_64", "Seven")]
    found = mixins.site_model(images, [SMALL], [("mine_linux_x86_64", "Mine")]).mixins.values()
    terms = {mixin.value: mixin.term for mixin in found if mixin.parent.endswith("#os_tpl")}
    assert terms.pop("a-b_linux_x86_64").startswith("a-b_linux_x86_64-")
    assert terms == {
        "a.b_linux_x86_64": "a-b_linux_x86_64",
        "7.1_linux_x86_64": "image-7-1_linux_x86_64",
        "mine_linux_x86_64": "mine_linux_x86_64",
    }
    assert [mixin.value for mixin in found if mixin.saved] == ["mine_linux_x86_64"]


def test_an_action() -> None:
    assert category(f"{INFRA}/compute/action#suspend") == (
        "Category: suspend; "
        'scheme="http://schemas.ogf.org/occi/infrastructure/compute/action#"; class="action"; '
        'title="Suspend a VM"; attributes="method"'
    )


def test_the_whole_model_keeps_to_what_clients_parse() -> None:
    required = {"occi.core.id", "occi.core.title", "occi.storage.size", "occi.storagelink.deviceid"}
    seen = 0
    for found in (*MODEL.kinds.values(), *MODEL.mixins.values(), *MODEL.actions.values()):
        term, *keys = category(found.id).removeprefix("Category: ").split("; ")
        order = [key.partition("=")[0] for key in keys]
        known = ["scheme", "class", "title", "rel", "location", "attributes", "actions"]
        assert order == [key for key in known if key in order]
        assert '=""' not in category(found.id)
        assert term == term.lower()
        assert {own.name for own in found.attributes if f"{own.name}{{required}}" in str(keys)} <= (
            required
        )
        seen += 1
    assert seen == len(MODEL.kinds) + len(MODEL.mixins) + len(MODEL.actions) > 25


def test_an_instance_as_text() -> None:
    answer = render.entity(PLAIN, MACHINE, MODEL)
    assert headers(answer)["content-type"] == "text/plain; charset=utf-8"
    assert headers(answer)["server"].endswith(" OCCI/1.2 OCCI/1.1")
    assert lines(answer) == [
        'Category: compute; scheme="http://schemas.ogf.org/occi/infrastructure#"; class="kind"; '
        'title="Virtual machine"',
        'Category: sl-7_linux_x86_64; scheme="http://wnodes-lrms.invalid/occi/os_tpl#"; '
        'class="mixin"; title="sl.7_linux_x86_64"',
        'Link: </network/public>; rel="http://schemas.ogf.org/occi/infrastructure#network"; '
        'self="/networkinterface/n1"; '
        'category="http://schemas.ogf.org/occi/infrastructure#networkinterface '
        'http://schemas.ogf.org/occi/infrastructure/networkinterface#ipnetworkinterface"; '
        'occi.core.id="n1"; occi.core.source="/compute/c1"; occi.core.target="/network/public"; '
        'occi.networkinterface.address="10.0.0.2"',
        "Link: </compute/c1?action=stop>; "
        'rel="http://schemas.ogf.org/occi/infrastructure/compute/action#stop"',
        'X-OCCI-Attribute: occi.core.id="c1"',
        r'X-OCCI-Attribute: occi.core.title="my \"first\"; \\ occi.compute.cores=9, ☃"',
        "X-OCCI-Attribute: occi.compute.cores=2",
        "X-OCCI-Attribute: occi.compute.memory=0.5",
        'X-OCCI-Attribute: occi.compute.state.message="two lines"',
        "X-OCCI-Attribute: x.y.z=true",
    ]


def test_an_instance_in_headers() -> None:
    plain = lines(render.entity(PLAIN, MACHINE, MODEL))
    answer = render.entity(OCCI, MACHINE, MODEL)
    found = headers(answer)
    assert answer.body == b"OK\n"
    assert found["content-type"] == "text/occi"
    for name in ("Category", "Link", "X-OCCI-Attribute"):
        values = [line.partition(": ")[2] for line in plain if line.startswith(f"{name}:")]
        assert found[name.lower()] == ", ".join(values)
    assert len(answer.headers) == len(found)  # each name once


def test_an_instance_in_json() -> None:
    document = json.loads(render.entity(JSON, MACHINE, MODEL).body)
    assert document == {
        "kind": COMPUTE,
        "mixins": ["http://wnodes-lrms.invalid/occi/os_tpl#sl-7_linux_x86_64"],
        "attributes": {
            "occi.core.id": "c1",
            "occi.core.title": 'my "first"; \\ occi.compute.cores=9, ☃',
            "occi.compute.cores": 2,
            "occi.compute.memory": 0.5,
            "occi.compute.state.message": "two\nlines",
            "x.y.z": True,
        },
        "actions": [f"{INFRA}/compute/action#stop"],
        "id": "c1",
        "title": 'my "first"; \\ occi.compute.cores=9, ☃',
        "links": [
            {
                "kind": NETWORKINTERFACE,
                "mixins": [f"{INFRA}/networkinterface#ipnetworkinterface"],
                "attributes": dict(NIC.attributes),
                "actions": [],
                "id": "n1",
                "source": {"location": "/compute/c1", "kind": COMPUTE},
                "target": {"location": "/network/public", "kind": NETWORK},
            }
        ],
    }


def test_locations() -> None:
    paths = ["/compute/1", "/compute/2"]
    assert lines(render.locations(PLAIN, paths, BASE)) == [
        f"X-OCCI-Location: {BASE}/compute/1",
        f"X-OCCI-Location: {BASE}/compute/2",
    ]
    assert lines(render.locations(URIS, paths, BASE)) == [f"{BASE}/compute/1", f"{BASE}/compute/2"]
    in_headers = headers(render.locations(OCCI, paths, BASE))
    assert in_headers["x-occi-location"] == f"{BASE}/compute/1, {BASE}/compute/2"
    assert render.locations(PLAIN, [], BASE).body == b""
    assert "x-occi-location" not in headers(render.locations(OCCI, [], BASE))


def test_collections_in_json() -> None:
    assert json.loads(render.entities([], MODEL).body) == {"resources": []}
    both = json.loads(render.entities([MACHINE, NIC], MODEL).body)
    assert [one["id"] for one in both["resources"]] == ["c1"]
    assert [one["id"] for one in both["links"]] == ["n1"]
    assert [*json.loads(render.entities([NIC], MODEL).body)] == ["links"]


@pytest.mark.parametrize("media", [PLAIN, OCCI, URIS, JSON])
def test_created(media: str) -> None:
    answer = render.created(media, MACHINE, MODEL, BASE)
    assert answer.status == 201
    assert headers(answer)["location"] == f"{BASE}/compute/c1"
    assert headers(answer)["x-occi-location"] == f"{BASE}/compute/c1"
    bodies = {
        PLAIN: f"X-OCCI-Location: {BASE}/compute/c1\n".encode(),
        OCCI: b"OK\n",
        URIS: f"{BASE}/compute/c1\n".encode(),
        JSON: render.entity(JSON, MACHINE, MODEL).body,
    }
    assert answer.body == bodies[media]


@pytest.mark.parametrize("wrong", ["10.0.0.2 or so", "see fd12::1", "10.0.0.2|fd12::1"])
def test_a_form_in_json_is_of_the_whole_value(wrong: str) -> None:
    mixin = MODEL.mixins[f"{INFRA}/network#ipnetwork"]
    [told] = json.loads(render.categories(JSON, [mixin]).body)["mixins"]
    form = told["attributes"]["occi.network.address"]["pattern"]
    assert [bool(re.search(form, value)) for value in ("10.0.0.0/24", "fd12::/64")] == [True, True]
    assert not re.search(form, wrong)


def test_the_model_in_json() -> None:
    compute = MODEL.kinds[COMPUTE]
    small = MODEL.mixins["http://wnodes-lrms.invalid/occi/resource_tpl#small"]
    stop = MODEL.actions[f"{INFRA}/compute/action#stop"]
    document = json.loads(render.categories(JSON, [compute, small, stop]).body)
    [kind] = document["kinds"]
    assert kind["parent"] == "http://schemas.ogf.org/occi/core#resource"
    assert kind["location"] == "/compute/"
    assert f"{INFRA}/compute/action#save" in kind["actions"]
    assert kind["attributes"]["occi.compute.architecture"] == {
        "mutable": False,
        "required": False,
        "type": "string",
        "pattern": "^(x86|x64)$",
    }
    assert kind["attributes"]["occi.core.id"]["mutable"] is False
    assert document["mixins"] == [
        {
            "term": "small",
            "scheme": "http://wnodes-lrms.invalid/occi/resource_tpl#",
            "title": "Small; one, core",
            "attributes": {},
            "actions": [],
            "depends": [f"{INFRA}#resource_tpl"],
            "applies": [COMPUTE],
            "location": "/resource_tpl/small/",
        }
    ]
    assert document["actions"] == [
        {
            "term": "stop",
            "scheme": f"{INFRA}/compute/action#",
            "title": "Stop a VM; its disk is kept",
            "attributes": {
                "method": {
                    "mutable": True,
                    "required": False,
                    "type": "string",
                    "pattern": "^(graceful|acpioff|poweroff)$",
                    "default": "graceful",
                }
            },
        }
    ]


def test_errors() -> None:
    fault = OcciError(503, "no bait answers", retry_after=30)
    text = render.error(OCCI, fault)
    assert (text.status, text.body) == (503, b"no bait answers\n")
    assert headers(text)["retry-after"] == "30"
    assert headers(text)["content-type"].startswith("text/plain")
    assert json.loads(render.error(JSON, OcciError(404, "nothing")).body) == {
        "code": 404,
        "message": "nothing",
    }
    assert render.error(PLAIN, OcciError(400, "\ud800")).body == b"?\n"


# Whatever the service gives, an answer is whole: what a client reads of it is what was meant.
NAMES = st.from_regex(r"[a-z]{1,5}\.[a-z_]{1,5}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1)
VALUES: st.SearchStrategy[Value] = st.one_of(
    TEXTS,
    st.booleans(),
    st.integers(-(10**17), 10**17),
    st.floats(allow_nan=False, allow_infinity=False),
)


def made(attributes: dict[str, Value], nested: dict[str, Value]) -> Entity:
    ends = {"occi.core.source": "/compute/c1", "occi.core.target": "/network/x"}
    link = Entity("n1", NETWORKINTERFACE, "/networkinterface/n1", (), {**nested, **ends})
    return Entity("c1", COMPUTE, "/compute/c1", (), attributes, (), (link,))


@given(st.dictionaries(NAMES, VALUES), st.dictionaries(NAMES, VALUES))
def test_what_is_rendered_as_text_is_parsed_again(
    attributes: dict[str, Value], nested: dict[str, Value]
) -> None:
    entity = made(attributes, nested)
    for media in (PLAIN, OCCI):
        answer = render.entity(media, entity, MODEL)
        content = answer.body if media == PLAIN else b""
        said = parse.request(answer.headers, content)
        assert said.categories == (COMPUTE,)
        assert dict(said.attributes) == attributes
        [link] = said.links
        assert dict(link.attributes) == dict(entity.links[0].attributes)
        assert (link.target, link.itself) == ("/network/x", "/networkinterface/n1")


@given(st.dictionaries(NAMES, VALUES), st.dictionaries(NAMES, VALUES))
def test_what_is_rendered_as_json_is_parsed_again(
    attributes: dict[str, Value], nested: dict[str, Value]
) -> None:
    entity = made(attributes, nested)
    answer = render.entity(JSON, entity, MODEL)
    said = parse.request([(b"content-type", JSON.encode())], answer.body)
    assert dict(said.attributes) == {**attributes, "occi.core.id": "c1"}
    [link] = said.links
    assert dict(link.attributes) == {**nested, "occi.core.id": "n1"}
    assert (link.target, link.rel) == ("/network/x", NETWORK)


@given(st.text(), st.text())
def test_no_text_breaks_out_of_its_line(title: str, name: str) -> None:
    own = user_mixins.mixin(Definition("mine", "http://x.org/mine#", title, "/mine/"))
    entity = Entity("c1", COMPUTE, "/compute/c1", (own.id,), {"occi.core.title": title + name})
    model = MODEL.with_mixins([own])
    fields = [*render_text.entity(entity, model), render_text.category(own)]
    for _, value in fields:
        assert not set(value) & {*map(chr, range(32)), "\x7f", "\u2028", "\u2029"}
    assert parse.request([], render_text.plain(fields).encode()).categories == (COMPUTE, own.id)


def test_every_kind_says_of_which_it_comes() -> None:
    for kind in MODEL.kinds.values():
        assert isinstance(kind, Kind)
        assert kind.parent in MODEL.kinds or kind.term == "entity"
        assert MODEL.at(kind.location) is MODEL.at(kind.location.rstrip("/")) is kind
