"""The bait's HTTPS service: what it lets in, what it asks of the bait, how it says what is wrong.

Most tests speak to the application itself, told of a certificate as the server tells it; the last
ones over TLS. In the places of the bait's cloud and of the batch system are those of fakeparts.py.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from bait import metrics
from bait.frontend import https
from bait.frontend import machines as apimachines
from tests.unit.bait.frontend.fakeparts import (
    LEASE,
    MACHINE,
    NIC,
    SHOWN,
    USAGE,
    VOLUME,
    FakeStatus,
    FakeTunnels,
    Site,
    context,
    make_site,
    new_key,
)
from wnodes_lrms.errors import (
    AbsentError,
    ConflictError,
    RejectedError,
    UnknownError,
    WnodesError,
)
from wnodes_lrms.lrms.lease import Request
from wnodes_lrms.order import Nic
from wnodes_lrms.tunnel import Tunnel


@pytest.fixture
def site(tmp_path: Path, pki: Path) -> Site:
    """A service of the test's own."""
    return make_site(tmp_path, pki)


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory, pki: Path) -> Site:
    return make_site(tmp_path_factory.mktemp("site"), pki)


@pytest.fixture
def shared(common: Site) -> Site:
    """One service for the large tables, whose bait has forgotten the last test."""
    common.cloud.__init__()  # type: ignore[misc]
    common.queue.__init__()  # type: ignore[misc]
    return common


# Who is let in, and what is not understood


@pytest.mark.parametrize("path", ["/machines", "/leases", "/openapi.json", "/metrics", "/nothing"])
@pytest.mark.parametrize("name", ["other", None])
def test_only_clients_of_the_configuration_are_let_in(
    shared: Site, name: str | None, path: str
) -> None:
    answer = shared.client(name).get(path)
    assert answer.status_code == 403
    who = "/DC=org/O=Box/CN=other" if name else "a client without certificate"
    assert answer.json() == {"error": f"{who} is not among the clients of this bait"}
    assert shared.client("bridge").get("/machines").status_code == 200


def test_a_page_of_another_site_changes_nothing(shared: Site) -> None:
    client = shared.client("bridge")
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        for method, path in (("POST", "/leases"), ("DELETE", f"/leases/{LEASE}")):
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == 403
            assert "another site" in answer.json()["error"]
    assert client.get("/machines").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "names"),
    [
        ("POST", "/leases", b"{", 400, "JSON"),
        ("POST", "/leases", b"[]", 400, "body"),
        ("POST", "/leases", b"{}", 400, "token"),
        ("POST", "/leases", b'{"token": 1}', 400, "token"),
        ("POST", "/leases", b'{"token": "a", "more": 1}', 400, "more"),
        ("POST", "/leases", b'{"token": "' + b"a" * 130001 + b'"}', 400, "token"),
        ("POST", "/leases", b'{"token": "' + b"a" * 300000 + b'"}', 413, "bytes"),
        ("DELETE", "/leases/1", None, 400, "lease"),
        ("DELETE", f"/leases/{LEASE}?job=1%20-u%20root", None, 422, "no job id"),
        ("GET", "/machines/../etc", None, 404, "Not Found"),
        ("GET", "/machines/12", None, 400, "machine"),
        ("POST", f"/machines/{MACHINE}/stop", b'{"method": "kindly"}', 400, "method"),
        ("POST", f"/machines/{MACHINE}/stop", None, 400, "body"),
        ("POST", f"/machines/{MACHINE}/save", b'{"tag": "../a"}', 400, "tag"),
        ("PUT", f"/volumes/{VOLUME}", b'{"size": 0}', 400, "size"),
        ("PUT", f"/volumes/{VOLUME}", b'{"size": 1e99}', 400, "size"),
        ("PUT", f"/machines/{MACHINE}/nics/{NIC}", b'{"id": 3}', 400, "id"),
        ("PATCH", "/machines", None, 405, "Method"),
        ("DELETE", f"/leases/{LEASE}?job={'1' * 301}", None, 400, "job"),
        ("PUT", f"/machines/{MACHINE}/volumes/{VOLUME}?readonly=perhaps", None, 400, "readonly"),
        ("GET", "/nothing", None, 404, "Not Found"),
    ],
)
def test_what_is_malformed_is_said_by_name(
    shared: Site, method: str, path: str, body: bytes | None, status: int, names: str
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = shared.client().request(method, path, content=body, headers=headers)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert names in answer.json()["error"]
    assert not shared.cloud.calls
    assert not shared.queue.requests


def test_a_body_is_json_by_its_own_word(shared: Site) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        said = b'{"method": "poweroff"}'
        path, headers = f"/machines/{MACHINE}/stop", {"Content-Type": kind}
        answer = shared.client().request("POST", path, content=said, headers=headers)
        assert answer.status_code == 400
        assert "body" in answer.json()["error"]
    assert not shared.cloud.calls


def test_what_is_accepted_has_no_more_to_say(shared: Site) -> None:
    client = shared.client()
    accepted = client.post(f"/machines/{MACHINE}/resume", json=None)
    assert (accepted.status_code, accepted.json()) == (202, None)
    deleted = client.delete(f"/volumes/{VOLUME}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert client.request("HEAD", "/machines").status_code == 405


def test_the_description_tells_of_every_answer(site: Site) -> None:
    described = site.client().get("/openapi.json").json()
    operations = [
        (path, method, operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]
    assert len(operations) == 29
    for path, method, operation in operations:
        assert operation["description"], (path, method)
        assert {"400", "403", "404", "409", "422", "503"} <= set(operation["responses"])
    fault = described["paths"]["/leases"]["post"]["responses"]["422"]
    schema = fault["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/Fault"}
    assert described["components"]["schemas"]["Size"]["properties"]["size"]["description"] == "GiB"


# Leases


def test_an_order_becomes_a_lease_job(site: Site) -> None:
    token = site.token()
    before = metrics.SUBMITTED._value.get()
    for _ in range(2):
        answer = site.client().post("/leases", json={"token": token})
        assert (answer.status_code, answer.json()) == (201, {"lease": LEASE, "job": "41"})
    assert metrics.SUBMITTED._value.get() == before + 2
    assert site.queue.requests == 2 * [
        Request(
            lease=LEASE,
            user="cloud001",
            account="atlas",
            partition="main",
            walltime=3600,
            cores=2,
            memory=1124,
            node="hv2",
            program="/usr/local/libexec/wnodes/wnodes-lease",
            environment={"WNODES_LEASE": LEASE},
        )
    ]


def test_an_order_reaches_the_job_that_waits_for_it(site: Site) -> None:
    client = site.client()
    assert client.get("/machines").json()["waiting"] == [{"lease": LEASE, "job": "41"}]
    assert client.get("/jobs/41").json() == {"node": "hv2", "known": True}
    assert client.get("/jobs/42").json() == {"node": "", "known": False}
    assert client.put(f"/leases/{LEASE}/order", {"token": "a.b.c"}).status_code == 204
    asked = [("where", "41"), ("where", "42")]
    assert site.cloud.calls == [*asked, ("hand_in", LEASE, "a.b.c")]
    assert client.get("/jobs/-f").status_code == 400
    for fault, status in ((ConflictError, 409), (RejectedError, 422), (UnknownError, 503)):
        site.cloud.fault = fault("no")
        answer = client.put(f"/leases/{LEASE}/order", {"token": "a.b.c"})
        assert (answer.status_code, answer.json()) == (status, {"error": "no"})


def test_news(site: Site) -> None:
    assert site.client().get("/news?since=16").json() == {"news": "17"}
    assert site.cloud.calls == [("news", "16", apimachines._LISTENING)]


BAD_ORDERS: dict[str, Callable[[Site], str]] = {
    "another cluster": lambda site: site.token("other"),
    "expired": lambda site: site.token(life=-1),
    "another key": lambda site: replace(site, key=new_key()[0]).token(),
    "changed": lambda site: site.token()[:-10] + "aaaaaaaaaa",
    "an order": lambda site: site.token(job="41"),
    "no token": lambda _: "a.b.c",
}


@pytest.mark.parametrize("what", BAD_ORDERS)
def test_an_order_that_is_no_good_is_refused_with_the_reason(site: Site, what: str) -> None:
    before = metrics.REFUSED._value.get()
    answer = site.client().post("/leases", json={"token": BAD_ORDERS[what](site)})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("order refused: ")
    assert metrics.REFUSED._value.get() == before + 1
    assert not site.queue.requests


def test_a_new_key_of_a_bridge_holds_at_once(site: Site) -> None:
    private, public = new_key()
    Path(site.config.api.order_keys[0]).write_text(public)
    assert site.client().post("/leases", json={"token": site.token()}).status_code == 422
    site.key = private
    assert site.client().post("/leases", json={"token": site.token()}).status_code == 201


def test_a_key_that_cannot_be_read_is_the_baits_own_fault(site: Site) -> None:
    Path(site.config.api.order_keys[0]).unlink()
    answer = site.client().post("/leases", json={"token": site.token()})
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("[api] order_keys: ")


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        (RejectedError("no\nsuch account"), 422, "no; such account"),
        (UnknownError("away"), 503, "away"),
        (
            RejectedError("sbatch: error: 2084", told="it is refused"),
            422,
            f"it is refused (the node's administrator finds more in the bait's log, under {LEASE})",
        ),
    ],
)
def test_what_the_batch_system_says_is_passed_on_in_words(
    site: Site, caplog: pytest.LogCaptureFixture, fault: WnodesError, status: int, said: str
) -> None:
    site.queue.fault = fault
    answer = site.client().post("/leases", json={"token": site.token()})
    assert answer.status_code == status
    assert answer.json() == {"error": said}
    assert any(LEASE in line and str(fault) in line for line in caplog.messages) == bool(fault.told)
    assert ("retry-after" in answer.headers) == (status == 503)


def test_leases_are_listed_and_cancelled(site: Site) -> None:
    client = site.client()
    shown = {"lease": LEASE, "job": "41", "user": "cloud001", "state": "pending"}
    expected = {"leases": [{**shown, "node": "", "reason": "Priority", "expected": 0.0}]}
    assert [client.get("/leases").json() for _ in range(5)] == [expected] * 5
    assert site.queue.listed == 1  # who asks often gets one answer
    assert client.delete(f"/leases/{LEASE}?job=41").status_code == 204
    assert client.delete(f"/leases/{LEASE.upper()}").status_code == 204
    assert site.queue.cancelled == [(LEASE, "41"), (LEASE, "")]
    client.get("/leases")
    assert site.queue.listed == 2


# VMs


@pytest.mark.parametrize(
    ("method", "path", "body", "call", "status"),
    [
        ("POST", "stop", {"method": "acpioff"}, ("stop", MACHINE, "acpioff"), 202),
        ("POST", "restart", {"method": "cold"}, ("restart", MACHINE, "cold"), 202),
        ("POST", "suspend", {"method": "hibernate"}, ("suspend", MACHINE, "hibernate"), 202),
        ("POST", "resume", None, ("resume", MACHINE), 202),
        ("POST", "save", {"tag": "my_linux_x86_64"}, ("save", MACHINE, "my_linux_x86_64"), 202),
        ("DELETE", "", None, ("delete", MACHINE), 202),
        ("PUT", f"volumes/{VOLUME}", None, ("attach_volume", MACHINE, VOLUME, False), 200),
        (
            *("PUT", f"volumes/{VOLUME}?readonly=true", None),
            *(("attach_volume", MACHINE, VOLUME, True), 200),
        ),
        ("DELETE", f"volumes/{VOLUME}", None, ("detach_volume", MACHINE, VOLUME), 204),
        ("DELETE", f"nics/{NIC}", None, ("detach_nic", MACHINE, NIC), 204),
        ("GET", "", None, ("machine", MACHINE), 200),
        ("GET", "console", None, ("console", MACHINE), 200),
    ],
)
class TestActs:
    def test_each_is_asked_of_the_machine(
        self,
        shared: Site,
        method: str,
        path: str,
        body: object,
        call: tuple[str, ...],
        status: int,
    ) -> None:
        answer = shared.client().request(
            method, f"/machines/{MACHINE}/{path}".rstrip("/"), json=body
        )
        assert answer.status_code == status
        assert shared.cloud.calls == [call]

    def test_faults_are_told_by_their_kind(
        self, shared: Site, method: str, path: str, body: object, call: tuple[str, ...], status: int
    ) -> None:
        del call, status
        client = shared.client()
        for fault, code in (
            (ConflictError("not now"), 409),
            (RejectedError("never"), 422),
            (UnknownError("libvirt is away"), 503),
            (WnodesError("broken"), 500),
            (AbsentError("no VM here"), 204 if method == "DELETE" else 404),
        ):
            shared.cloud.fault = fault
            answer = client.request(method, f"/machines/{MACHINE}/{path}".rstrip("/"), json=body)
            assert answer.status_code == code
            assert answer.text == "" or answer.json() == {"error": str(fault)}
            assert (answer.text == "") == (code == 204)


def test_an_internal_fault_tells_nothing_of_the_inside(site: Site) -> None:
    site.cloud.fault = RuntimeError("secret")
    answer = site.client().get(f"/machines/{MACHINE}")
    assert answer.status_code == 500
    assert answer.json() == {"error": "internal fault of the bait, see its log"}


def test_usages_since_a_time(site: Site) -> None:
    answer = site.client().get("/usages?since=12.5")
    assert answer.json() == {"usages": [USAGE]}
    assert site.cloud.calls == [("usages", 12.5)]
    for since in ("", "?since=", "?since=-1", "?since=nan", "?since=inf", "?since=x"):
        assert site.client().get(f"/usages{since}").status_code == 400


def test_machines_are_listed_with_the_outcomes(site: Site) -> None:
    assert site.client().get("/machines").json() == {
        "waiting": [{"lease": LEASE, "job": "41"}],
        "node": "hv1",
        "machines": [SHOWN],
        "outcomes": site.cloud.outcomes(),
        "end": "10.1.0.3:4789",
        "tunnels": {},
        "drain": {"since": 5.0, "by": None, "reason": "new disks"},
        "local_volumes": False,
        "room": {"cores": 3, "memory": None, "at": 9.0},
        "sources": {"lrms": 8.0, "libvirt": 0.0},
    }
    assert site.client().get(f"/machines/{MACHINE}").json() == SHOWN


def test_a_card_is_plugged_in_and_its_addresses_told(site: Site) -> None:
    card = {"id": NIC, "kind": "isolated", "network": "lan", "mac": "52:54:00:00:00:02"}
    client, path = site.client(), f"/machines/{MACHINE}/nics/{NIC}"
    assert client.put(path, json=card).json() == {
        "id": NIC,
        "mac": card["mac"],
        "address": "",
        "inbound": None,
        "outbound": None,
        "flows": {},
    }
    assert site.cloud.calls == [("attach_nic", MACHINE, Nic.model_validate(card))]
    wrong = client.put(path, json={**card, "id": VOLUME})
    assert (wrong.status_code, len(site.cloud.calls)) == (400, 1)


def test_private_networks_that_span_nodes(site: Site) -> None:
    client = site.client()
    one: dict[str, Any] = {"vni": 9, "ends": {"10.1.0.4:4789": ["52:54:00:00:00:02"]}}
    assert client.put("/tunnels", json={"tunnels": {"u-1": one}}).status_code == 204
    assert client.get("/machines").json()["tunnels"] == {"u-1": one}
    for wrong, code in (
        (one | {"vni": 7}, 422),
        (one | {"vni": 1 << 24}, 400),
        (one | {"ends": {"10.1.0.4": []}}, 400),
        (one | {"ends": {"10.1.0.4:99999": []}}, 400),
        (one | {"ends": {"10.1.0.4:4789": ["52:54:00:00:00:02; flush ruleset"]}}, 400),
    ):
        assert client.put("/tunnels", json={"tunnels": {"u-1": wrong}}).status_code == code
    assert client.put("/tunnels", json={"tunnels": {"-": one}}).status_code == 400
    assert site.ends.told == {"u-1": Tunnel.model_validate(one)}


def test_volumes(site: Site) -> None:
    client, path = site.client(), f"/volumes/{VOLUME}"
    assert [client.put(path, json={"size": 3}).status_code for _ in range(2)] == [201, 201]
    otherwise = client.put(f"{path}?local=true", json={"size": 3})
    assert (otherwise.status_code, "for all nodes" in otherwise.text) == (409, True)
    assert client.get("/volumes").json() == {"volumes": [{"id": VOLUME, "size": 3}]}
    copied = client.put(f"/volumes/{MACHINE}/copy", json={"of": VOLUME})
    assert copied.json() == {"done": True, "size": 3, "consistency": "crash", "at": 7.5}
    assert client.put(f"/volumes/{MACHINE}/copy", json={"of": "../etc"}).status_code == 400
    site.cloud.fault = ConflictError(f"volume {VOLUME} is in VM {MACHINE}")
    refused = client.delete(path)
    assert refused.status_code == 409
    assert MACHINE in refused.json()["error"]
    site.cloud.fault = None
    assert client.delete(path).status_code == 204
    assert site.cloud.calls == [
        *[("have_volume", VOLUME, 3)] * 2,
        ("copy_volume", VOLUME, MACHINE),
        *[("delete_volume", VOLUME)] * 2,
    ]


def test_volumes_of_this_node_alone_are_not_made_for_all(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.cloud.volumes, "local", True)
    client, path = site.client(), f"/volumes/{VOLUME}"
    assert client.get("/machines").json()["local_volumes"] is True
    refused = client.put(path, json={"size": 3})  # by a bridge that does not know it
    assert (refused.status_code, "of this node alone" in refused.text) == (409, True)
    assert site.cloud.calls == []
    assert client.put(f"{path}?local=true", json={"size": 3}).status_code == 201
    assert site.cloud.calls == [("have_volume", VOLUME, 3)]


def test_saved_images(site: Site) -> None:
    assert site.client().get("/saved").json() == site.cloud.saved() | {"made": {}}
    assert site.client().delete("/saved/mine_linux_x86_64").status_code == 204
    assert site.client().delete("/saved/..%2Fetc").status_code in (400, 404)
    assert site.cloud.calls == [("delete_saved", "mine_linux_x86_64")]


def test_a_libvirt_that_hangs_holds_only_those_who_need_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apimachines, "_ACTIONS", (1, 2.0))
    site.cloud.stuck = threading.Event()
    client = site.client()
    waits: list[httpx.Response] = []

    def stop() -> None:
        path = f"/machines/{MACHINE}/stop"
        waits.append(client.post(path, json={"method": "poweroff"}))

    threads = [threading.Thread(target=stop) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert [client.get("/machines").status_code for _ in range(20)] == [200] * 20
    assert waits == []  # they still wait
    for thread in threads:
        thread.join()
    assert [(answer.status_code, answer.headers["retry-after"]) for answer in waits] == [
        (503, "5")
    ] * 5
    assert "libvirt does not answer" in waits[0].json()["error"]
    assert len(site.cloud.calls) == 1
    site.cloud.stuck.set()


OF_VOLUMES = {
    "copy_volume": ("PUT", f"/volumes/{VOLUME}/copy", {"of": VOLUME}),
    "have_volume": ("PUT", f"/volumes/{VOLUME}", {"size": 1}),
    "delete_volume": ("DELETE", f"/volumes/{VOLUME}", None),
    "attach_volume": ("PUT", f"/machines/{MACHINE}/volumes/{VOLUME}", None),
    "list": ("GET", "/volumes", None),
}


@pytest.mark.parametrize("asked", OF_VOLUMES)
def test_a_storage_of_volumes_that_hangs_holds_no_vm(
    site: Site, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """Nor does its bait fall silent for the bridge."""
    for lane in ("_ACTIONS", "_LISTS", "_VOLUMES"):
        monkeypatch.setattr(apimachines, lane, (2, 30.0))
    stuck, client = threading.Event(), site.client()
    where = site.cloud.volumes if asked == "list" else site.cloud
    real = getattr(where, asked)

    def hangs(*call: object) -> object:
        assert stuck.wait(60)
        return real(*call)

    monkeypatch.setattr(where, asked, hangs)
    method, path, body = OF_VOLUMES[asked]
    told: list[bool] = []

    def ask() -> None:
        told.append(client.request(method, path, json=body).is_success)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    stop = {"method": "poweroff"}
    for _ in range(5):
        assert client.post(f"/machines/{MACHINE}/stop", json=stop).status_code == 202
        assert client.get("/machines").status_code == 200
    assert told == []
    stuck.set()
    for thread in threads:
        thread.join(60)
    assert told == [True] * 4


# The bait itself


@pytest.mark.parametrize("lrms", ["ok", "away"])
@pytest.mark.parametrize("libvirt", ["ok", "away"])
def test_the_state_tells_who_does_not_answer(site: Site, lrms: str, libvirt: str) -> None:
    site.queue.fault = UnknownError("away") if lrms == "away" else None
    site.cloud.fault = UnknownError("away") if libvirt == "away" else None
    state = site.client().get("/state").json()
    assert state.pop("version")
    assert state == {"node": "hv1", "machines": 1, "lrms": lrms, "libvirt": libvirt}


def test_prometheus_can_read_the_metrics(site: Site) -> None:
    site.client().post("/leases", json={"token": site.token()})
    sample = "wnodes_build_seconds_count", {"kind": "cloud"}
    built = metrics.REGISTRY.get_sample_value(*sample) or 0.0  # by tests that came before
    metrics.BUILD.labels("cloud").observe(3)
    answer = site.client().get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.text.splitlines()
    assert 'wnodes_machines{kind="batch",state="ready"} 2.0' in lines
    assert 'wnodes_machines{kind="cloud",state="stopped"} 1.0' in lines
    assert any(line.startswith("wnodes_leases_submitted_total ") for line in lines)
    assert f'wnodes_build_seconds_count{{kind="cloud"}} {built + 1}' in lines
    card = 'card="wg1",direction="inbound",machine="vm"'
    assert f"wnodes_card_dropped_packets_total{{{card}}} 3.0" in lines
    assert f"wnodes_card_bits_per_second{{{card}}} 4e+06" in lines
    for source in ("lrms", "libvirt"):
        name = f'wnodes_last_answer_timestamp_seconds{{source="{source}"}} '
        (line,) = [line for line in lines if line.startswith(name)]
        assert abs(float(line.split()[1]) - time.time()) < 5


# Over TLS


@pytest.fixture
def served(site: Site) -> Iterator[str]:
    """The service's URL, while it runs as in a bait."""
    handle = https.start(site.config, "hv1", site.cloud, site.queue, FakeTunnels(), FakeStatus())
    port = handle._server._doors[0].sock.getsockname()[1]
    yield f"https://localhost:{port}"
    handle.stop()
    assert not handle._thread.is_alive()


def test_a_bridge_speaks_to_it_by_mutual_tls(site: Site, served: str, pki: Path) -> None:
    with httpx.Client(base_url=served, verify=context(pki, "bridge")) as client:
        assert client.get("/machines").json()["machines"] == [SHOWN]
        assert client.post("/leases", json={"token": site.token()}).status_code == 201
    with httpx.Client(base_url=served, verify=context(pki, "other")) as client:
        assert client.get("/machines").status_code == 403
    with (
        httpx.Client(base_url=served, verify=context(pki, None)) as client,
        pytest.raises(httpx.TransportError),
    ):
        client.get("/machines")
