"""Requests as clients write them, well and badly."""

import time
from collections.abc import Callable
from json import dumps

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occi_bridge.occi import parse
from occi_bridge.occi.messages import Body, Definition, LinkBody, OcciError

COMPUTE = "http://schemas.ogf.org/occi/infrastructure#compute"
NETWORK = "http://schemas.ogf.org/occi/infrastructure#network"
NIC = "http://schemas.ogf.org/occi/infrastructure#networkinterface"
CATEGORY = 'compute; scheme="http://schemas.ogf.org/occi/infrastructure#"'


def plain(text: str) -> Body:
    return parse.request([(b"content-type", b"text/plain")], text.encode())


def occi(*headers: tuple[str, str]) -> Body:
    fields = [(name.lower().encode(), value.encode()) for name, value in headers]
    return parse.request([(b"content-type", b"text/occi"), *fields], b"OK")


def json(text: str) -> Body:
    return parse.request([(b"content-type", b"application/occi+json")], text.encode())


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\r", "\n\n\n"])
def test_any_line_end(end: str) -> None:
    said = plain(f"Category: {CATEGORY}{end}X-OCCI-Attribute: occi.compute.cores=2{end}")
    assert said.categories == (COMPUTE,)
    assert said.attributes == {"occi.compute.cores": 2}


@pytest.mark.parametrize(
    "written",
    [
        f'{CATEGORY}; class="kind"',
        f"{CATEGORY}; class=kind",
        CATEGORY,
        f"{CATEGORY};",
        'compute;scheme="http://schemas.ogf.org/occi/infrastructure#";class="kind";title="a; b, c"',
        "compute;scheme=http://schemas.ogf.org/occi/infrastructure#;class=kind;",
        'compute; SCHEME="http://schemas.ogf.org/occi/infrastructure#"; Class="KIND"',
    ],
)
def test_forms_of_a_category(written: str) -> None:
    assert plain(f"Category: {written}").categories == (COMPUTE,)
    assert plain(f"category:{written}").categories == (COMPUTE,)
    assert occi(("Category", written)).categories == (COMPUTE,)


def test_joined_and_repeated_headers_are_the_same() -> None:
    other = 'network; scheme="http://schemas.ogf.org/occi/infrastructure#"; class="kind"'
    joined = occi(("Category", f"{CATEGORY}, {other}"), ("X-OCCI-Attribute", 'a.b="1, 2", c.d=3'))
    repeated = occi(
        ("Category", CATEGORY),
        ("Category", other),
        ("X-OCCI-Attribute", 'a.b="1, 2"'),
        ("X-OCCI-Attribute", "c.d=3"),
    )
    assert joined == repeated
    assert joined.categories == (COMPUTE, NETWORK)
    assert joined.attributes == {"a.b": "1, 2", "c.d": 3}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('"text"', "text"),
        ('""', ""),
        (r'"say \"no\", a \\ b"', r'say "no", a \ b'),
        (r'"\", occi.compute.memory=1.0"', '", occi.compute.memory=1.0'),
        ('"ünï ☃"', "ünï ☃"),
        ("12", 12),
        ("-3", -3),
        ("3.6", 3.6),
        ("2.0", 2.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("true", True),
        ("false", False),
    ],
)
def test_values(written: str, value: object) -> None:
    said = plain(f"X-OCCI-Attribute: a.b={written}")
    assert said.attributes == {"a.b": value}
    assert type(said.attributes["a.b"]) is type(value)
    assert occi(("X-OCCI-Attribute", f" a.b = {written} ")) == said


def test_what_looks_like_an_attribute_in_a_value_is_none() -> None:
    said = occi(
        (
            "X-OCCI-Attribute",
            r'occi.compute.memory=3.6, occi.core.title="m\", occi.compute.memory=1"',
        )
    )
    assert said.attributes == {
        "occi.compute.memory": 3.6,
        "occi.core.title": 'm", occi.compute.memory=1',
    }


def test_links() -> None:
    said = plain(
        f'Link: </network/1>; rel="{NETWORK}"; category="{NIC} http://x.org/y#z"; '
        'self="/networkinterface/2"; occi.core.title="a; b"; n=3;\n'
        f'Link: <https://host:1/storage/a,b>;rel="x"'
    )
    assert said.links == (
        LinkBody(
            "/network/1",
            NETWORK,
            (NIC, "http://x.org/y#z"),
            {"occi.core.title": "a; b", "n": 3},
            "/networkinterface/2",
        ),
        LinkBody("https://host:1/storage/a,b", "x"),
    )


def test_locations() -> None:
    assert occi(("X-OCCI-Location", "http://h/compute/1, /compute/2 ,")).locations == (
        "http://h/compute/1",
        "/compute/2",
    )
    listed = parse.request(
        [(b"content-type", b"text/uri-list")], b"# all\r\nhttp://h/compute/1\r\n\r\n/compute/2\n"
    )
    assert listed.locations == ("http://h/compute/1", "/compute/2")


def test_a_mixin_to_be_added() -> None:
    written = (
        'mine; scheme="http://x.org/mine#"; class="mixin"; title="My own"; rel="http://x.org/y#z"; '
        'location="http://host/mine"'
    )
    wanted = Definition("mine", "http://x.org/mine#", "My own", "/mine/", "http://x.org/y#z")
    assert plain(f"Category: {written}").definitions == (wanted,)
    document = (
        '{"mixins": [{"term": "mine", "scheme": "http://x.org/mine#", "title": "My own",'
        ' "location": "/mine/", "depends": ["http://x.org/y#z"]}]}'
    )
    assert json(document).definitions == (wanted,)
    assert json(document).categories == (wanted.id,)


def test_headers_count_where_there_is_no_body() -> None:
    headers = [(b"category", CATEGORY.encode())]
    assert parse.request(headers, b"").categories == (COMPUTE,)
    typed = [*headers, (b"content-type", b"text/plain")]
    assert parse.request(typed, b" \n").categories == (COMPUTE,)
    assert parse.request([], f"Category: {CATEGORY}".encode()).categories == (COMPUTE,)
    assert parse.request([], b"") == Body()


def test_json_resource() -> None:
    said = json(
        f"""{{"kind": "{COMPUTE}", "mixins": ["http://x.org/y#z"], "id": "1", "title": "t",
        "attributes": {{"occi.compute.cores": 2, "occi.compute.memory": 0.5, "f": false}},
        "links": [{{"kind": "{NIC}", "mixins": ["m"], "attributes": {{"a": 1}}, "id": "l",
                   "source": {{"location": "/compute/1", "kind": "{COMPUTE}"}},
                   "target": {{"location": "/network/1", "kind": "{NETWORK}"}}}},
                  {{"target": "/storage/2"}}]}}"""
    )
    assert said == Body(
        categories=(COMPUTE, "http://x.org/y#z"),
        attributes={
            "occi.compute.cores": 2,
            "occi.compute.memory": 0.5,
            "f": False,
            "occi.core.id": "1",
            "occi.core.title": "t",
        },
        links=(
            LinkBody("/network/1", NETWORK, (NIC, "m"), {"a": 1, "occi.core.id": "l"}),
            LinkBody("/storage/2"),
        ),
    )
    assert json(f'{{"resources": [{{"kind": "{COMPUTE}"}}]}}').categories == (COMPUTE,)


def test_json_action_link_and_locations() -> None:
    action = json('{"action": "http://x.org/a#stop", "attributes": {"method": "poweroff"}}')
    assert action.action == "http://x.org/a#stop"
    assert action.attributes == {"method": "poweroff"}
    link = json(f'{{"kind": "{NIC}", "source": "/compute/1", "target": {{"location": "/n/1"}}}}')
    assert link.attributes == {"occi.core.source": "/compute/1", "occi.core.target": "/n/1"}
    assert json('["/compute/1"]').locations == ("/compute/1",)
    assert json('{"locations": ["/compute/1"]}').locations == ("/compute/1",)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("Kategory: x", "line 1: «Kategory: x»: a line begins with Category:"),
        ("just text", "line 1: «just text»"),
        ('Category: x y; scheme="z"', "first comes the term"),
        ("Category: compute", "Category compute: the scheme is missing"),
        ("Category: compute; scheme", "not of the form key="),
        (f"Category: {CATEGORY[:-1]}", "a quote is open"),
        ('Category: a; scheme="b"c', "something follows the closing quote"),
        ('Category: a; scheme="b"; location="/a b"', "«/a b» is not a path or URL"),
        ('Category: a; scheme="b"; location="http://[x/"', "is not a path or URL"),
        ("X-OCCI-Attribute: occi.core.title=bare", "occi.core.title: «bare» is neither a number"),
        ("X-OCCI-Attribute: occi.core.title=", "occi.core.title: «» is neither"),
        ('X-OCCI-Attribute: ="x"', "not of the form name="),
        ("X-OCCI-Attribute: a b=1", "not of the form name="),
        ('X-OCCI-Attribute: a="1" b="2"', "a: «.*»: something follows the closing quote"),
        ('X-OCCI-Attribute: a="', "a quote is open"),
        ('X-OCCI-Attribute: a=1, a="1"', "a: given twice"),
        ("X-OCCI-Attribute: a=1e999", "a: «1e999» is neither"),
        ("X-OCCI-Attribute: a=nan", "a: «nan» is neither"),
        (f"X-OCCI-Attribute: a={'9' * 5000}", "a: «99999.*…» is neither"),
        ("Link: /network/1", "first comes the target"),
        ("Link: <>", "first comes the target"),
        ("Link: <a>; rel", "not of the form key="),
        ("Link: <a>; x=y", "x: «y» is neither"),
        ('Category: a; scheme="b#"; scheme="c#"', "scheme: given twice, with different values"),
        ('Link: </a/b>; rel="c"; REL="d"', "rel: given twice, with different values"),
    ],
)
def test_bad_text(body: str, sentence: str) -> None:
    with pytest.raises(OcciError, match=sentence) as caught:
        plain(body)
    assert caught.value.status == 400
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("{", "not JSON"),
        ("12", "an object is needed"),
        ('{"kind": 3}', "kind: «3»: text is needed"),
        ('{"mixins": "x"}', "mixins: a list is needed"),
        ('{"mixins": [1]}', "mixins: «1»: text is needed"),
        ('{"attributes": [1]}', "attributes: an object is needed"),
        ('{"attributes": {"a.b": null}}', "a.b: «None»"),
        ('{"attributes": {"a.b": {"c": 1}}}', "a.b: .* text, a number, true or false is needed"),
        ('{"attributes": {"a.b": 1e999}}', "a.b: «inf»"),
        ('{"attributes": {"a.b": NaN}}', "NaN is not a number"),
        (f'{{"attributes": {{"a.b": {"9" * 30}}}}}', "a.b: «999"),
        (f'{{"attributes": {{"a.b": {"9" * 5000}}}}}', "not JSON"),
        ('{"attributes": {"a.b": "\\ud800"}}', "a.b: «.» is not Unicode text"),
        (
            '{"kind": "k", "links": [{"title": "a", "attributes": {"occi.core.title": "b"}}]}',
            "given twice",
        ),
        ('{"attributes": {"a.b": 1, "a.b": 2}}', "a.b: given twice, with different values"),
        ('{"kind": "a", "kind": "b"}', "kind: given twice, with different values"),
        ('{"links": [1]}', "links: an object is needed"),
        ('{"resources": [{}, {}]}', "resources: one at a time"),
        ("[" * 100_000, "not JSON"),
        ('{"a":' * 100_000, "not JSON"),
        ('{"term": "a", "scheme": "b", "location": "no path"}', "«no path» is not a path"),
    ],
)
def test_bad_json(body: str, sentence: str) -> None:
    with pytest.raises(OcciError, match=sentence) as caught:
        json(body)
    assert caught.value.status == 400


def test_bytes_and_types_that_are_not_ours() -> None:
    with pytest.raises(OcciError, match="byte 10 of the request is not UTF-8") as caught:
        parse.request([(b"content-type", b"text/plain")], b"Category: \xff")
    assert caught.value.status == 400
    with pytest.raises(OcciError, match="Content-Type «application/xml»: text/plain, ") as caught:
        parse.request([(b"content-type", b"application/xml")], b"<a/>")
    assert caught.value.status == 415


TITLE = 'X-OCCI-Attribute: occi.core.title="Café"'


@pytest.mark.parametrize(
    ("declared", "body"),
    [
        ("text/plain", TITLE.encode()),
        ("text/plain", TITLE.encode("utf-8-sig")),  # as PowerShell and Notepad write it
        ("text/plain; charset=UTF-8", TITLE.encode()),
        ('text/plain; format=flowed; Charset="iso-8859-1"', TITLE.encode("latin-1")),
        ("application/occi+json", '{"title": "Café"}'.encode("utf-8-sig")),
        ("application/occi+json;charset=utf8", '{"title": "Café", "title": "Café"}'.encode()),
    ],
)
def test_a_body_in_the_charset_that_it_says(declared: str, body: bytes) -> None:
    found = parse.request([(b"content-type", declared.encode())], body)
    assert found.attributes == {"occi.core.title": "Café"}


@pytest.mark.parametrize(
    ("header", "value", "status", "sentence"),
    [
        ("content-type", "text/plain; charset=utf-16", 415, "charset «utf-16»: UTF-8 is needed"),
        ("content-type", "text/plain; charset=idna", 415, "charset «idna»: UTF-8 is needed"),
        ("content-type", "text/plain; charset=", 415, "charset «»: UTF-8 is needed"),
        ("content-type", "text/plain; charset=us-ascii", 400, "byte 38 .* not US-ASCII text"),
        ("content-encoding", "gzip", 415, "Content-Encoding «gzip»: send the body as it is"),
    ],
)
def test_a_body_that_can_not_be_read_as_it_is_sent(
    header: str, value: str, status: int, sentence: str
) -> None:
    with pytest.raises(OcciError, match=sentence) as caught:
        parse.request([(header.encode(), value.encode())], TITLE.encode())
    assert caught.value.status == status


def outcome(ask: Callable[[], Body]) -> Body | OcciError:
    try:
        return ask()
    except OcciError as fault:
        return fault


PIECES = st.sampled_from(
    [
        *("Category:", "X-OCCI-Attribute:", "Link:", "X-OCCI-Location:", "compute", "scheme"),
        *('"', "\\", ";", ",", "=", "<", ">", "\n", "\r", " ", "1", "1e9", "true", "/a", "#", "☃"),
        *("\0", "class"),
    ]
)
WRITTEN = st.one_of(
    st.text().map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(),
    st.lists(PIECES, max_size=30).map("".join).map(str.encode),
)
TYPES = st.sampled_from([b"text/plain", b"text/occi", b"text/uri-list", b"application/occi+json"])
NAMES = st.sampled_from([b"category", b"x-occi-attribute", b"link", b"x-occi-location", b"accept"])


@given(TYPES, st.lists(st.tuples(NAMES, WRITTEN), max_size=3), WRITTEN)
@settings(max_examples=300)
def test_any_request_is_a_body_or_a_400(
    media: bytes, headers: list[tuple[bytes, bytes]], content: bytes
) -> None:
    result = outcome(lambda: parse.request([(b"content-type", media), *headers], content))
    assert isinstance(result, Body) or (result.status == 400 and result.message.isprintable())


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["kind", "mixins", "attributes", "links", "action", "id", "target", "term"]
            )
            | st.text(),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(JSONS)
@settings(max_examples=300)
def test_any_document_is_a_body_or_a_400(document: object) -> None:
    result = outcome(lambda: json(dumps(document)))
    assert isinstance(result, Body) or (result.status == 400 and result.message.isprintable())


@pytest.mark.parametrize("piece", ['"', '\\"', '"\\', ",", ";", '"",', "<", "<a", "a=", '"a', "\\"])
def test_time_is_linear_whatever_is_sent(piece: str) -> None:
    content = f"X-OCCI-Attribute: a={piece * (400_000 // len(piece))}"
    start = time.process_time()
    with pytest.raises(OcciError):
        plain(content)
    assert time.process_time() - start < 5
