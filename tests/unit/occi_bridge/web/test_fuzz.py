"""Whatever is sent over HTTP, the answer is no fault of the service, and the next one is right."""

import http.client
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from occi_bridge.occi.schema import COMPUTE, INFRA, NETWORKINTERFACE, STORAGE
from tests.unit.occi_bridge.conftest import Live
from tests.unit.occi_bridge.memory import NET, Memory

MACHINE = "/compute/one"
IDS = (
    *(COMPUTE, STORAGE, NETWORKINTERFACE, "http://x.org/mine#mine", "http://x/#y"),
    *(f"{INFRA}/compute/action#{term}" for term in ("start", "stop", "save")),
    *(f"http://wnodes-lrms.invalid/occi/resource_tpl#{term}" for term in ("small", "large")),
    "http://wnodes-lrms.invalid/occi/os_tpl#small_linux_x86_64",
    f"{INFRA}/credentials#ssh_key",
)
PATHS = st.sampled_from(
    [
        *("/", "/-/", "/.well-known/org/ogf/occi/-/", "/compute/", "/compute", MACHINE, "/link/"),
        *("/storage/", "/storagelink/", "/networkinterface/", f"/network/{NET}", "/mine/", "/x"),
        *("/resource_tpl/large/", "/openstack/public_key/", "//", "/compute//", "/%00", "/%ff/"),
    ]
)
QUERIES = st.sampled_from(["", "?action=start", "?action=stop", "?page=1&number=1", "?page=", "?%"])
METHODS = st.sampled_from(
    ["GET", "POST", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "LOCK"]
)
ATTRIBUTES = st.sampled_from(
    [
        *("occi.core.title", "occi.core.id", "occi.core.source", "occi.core.target", "method"),
        *("occi.compute.cores", "occi.compute.memory", "occi.compute.state", "occi.storage.size"),
        *("occi.credentials.ssh.publickey", "occi.compute.hostname", "name", "x", ""),
    ]
)
VALUES = st.one_of(
    st.sampled_from(['"one"', "1", "-1", "1e99", "true", MACHINE, f'"/network/{NET}"', '"', "nan"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(lambda text: f'"{text}"'),
)


def category(name: str) -> str:
    scheme, _, term = name.partition("#")
    return f'{term}; scheme="{scheme}#"; class="mixin"; location="/mine/"'


FIELDS = st.one_of(
    st.sampled_from(IDS).map(lambda name: ("Category", category(name))),
    st.tuples(ATTRIBUTES, VALUES).map(lambda pair: ("X-OCCI-Attribute", "=".join(pair))),
    st.sampled_from([MACHINE, f"/network/{NET}", "/compute/", "http://["]).map(
        lambda path: ("X-OCCI-Location", path)
    ),
    st.tuples(st.sampled_from([MACHINE, f"/network/{NET}", "/x"]), st.sampled_from(IDS)).map(
        lambda pair: ("Link", f'<{pair[0]}>; rel="{pair[1]}"; category="{pair[1]}"')
    ),
    st.tuples(st.sampled_from(["Category", "Link", "X-OCCI-Attribute", "Z"]), VALUES),
)
LINES = st.lists(FIELDS, max_size=5)
CONTENTS = st.one_of(
    LINES.map(lambda fields: "".join(f"{name}: {value}\n" for name, value in fields).encode()),
    st.binary(max_size=60),
    st.sampled_from([b"{}", b"[]", b'{"kind": 1}', b'["/compute/one"]', b'{"action": "x"}']),
)
MEDIA = st.sampled_from(
    ["text/plain", "text/occi", "text/uri-list", "application/occi+json", "*/*", "x", ""]
)


@pytest.fixture(scope="module")
def connection(live: Live) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", live.port)
    yield connection
    connection.close()


@given(METHODS, PATHS, QUERIES, MEDIA, MEDIA, LINES, CONTENTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_request_is_a_fault_of_the_service(
    service: Memory,
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    query: str,
    sends: str,
    accepts: str,
    lines: list[tuple[str, str]],
    content: bytes,
) -> None:
    answer, _ = ask(connection, "POST", "/compute/", {"Content-Type": b"text/plain"}, MADE)
    assert answer.status in {201, 409}
    headers = {name: clean(value) for name, value in lines}
    headers |= {"Content-Type": sends.encode(), "Accept": accepts.encode()}
    answer, said = ask(connection, method, path + query, headers, content)
    assert answer.status < 500
    assert answer.headers["Server"].endswith("OCCI/1.2 OCCI/1.1")
    assert answer.status < 400 or said or method == "HEAD"
    answer, _ = ask(connection, "GET", "/compute/", {}, b"")
    assert answer.status == 200
    assert service.revision() > 0


MADE = f'Category: {category(COMPUTE)}\nX-OCCI-Attribute: occi.core.id="one"\n'.replace(
    "mixin", "kind"
).encode()


def clean(value: str) -> bytes:
    """What HTTP itself allows in a header."""
    return "".join(char for char in value if char.isprintable()).encode()


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    headers: dict[str, bytes],
    content: bytes,
) -> tuple[http.client.HTTPResponse, bytes]:
    connection.request(method, path, content, {"X-Name": b"Ada", **headers})
    answer = connection.getresponse()
    return answer, answer.read()
