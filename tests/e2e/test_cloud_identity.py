"""Who may use the service and the baits, as whom, and how much."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from contrib.site.box import ca
from contrib.site.box.ca import Authority, Credential
from contrib.site.box.grid import BASE, VO, Grid
from contrib.site.box.layout import layout
from tests.e2e.box import machines, wait_until
from tests.e2e.lrms.slurm import leases, the_lease
from tests.e2e.occi import (
    BARE_IMAGE,
    INFRA,
    SMALL_IMAGE,
    USERS,
    Cloud,
    Key,
    context,
    size,
)
from wnodes_lrms.config import load as config

ALICE = USERS / "alice"
GRID = Grid(layout())
DAY = 86400.0


def load(certificate: Path, key: Path) -> Credential:
    """A credential in two files."""
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    assert isinstance(private, rsa.RSAPrivateKey)
    return Credential(x509.load_pem_x509_certificate(certificate.read_bytes()), private)


def pair(name: str) -> tuple[Path, Path]:
    """The files of one of the site's users."""
    return USERS / name / "usercert.pem", USERS / name / "userkey.pem"


def user(name: str) -> Credential:
    """The certificate of one of the site's users."""
    return load(*pair(name))


def authority() -> Authority:
    """The site's CA."""
    return Authority.load(GRID.ca)


def voms_server() -> Credential:
    """The VO's server."""
    return load(GRID.voms_certificate, GRID.voms_key)


def whoami(environment: dict[str, str]) -> dict[str, object]:
    """What `wnodes whoami` says."""
    names = ("X509_USER_PROXY", "X509_USER_CERT", "X509_USER_KEY", "BEARER_TOKEN_FILE")
    own = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        ["wnodes", "whoami", "--json"],
        capture_output=True,
        text=True,
        env=own | environment,
        timeout=60,
        check=False,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


CERTIFICATE = {
    "X509_USER_CERT": str(ALICE / "usercert.pem"),
    "X509_USER_KEY": str(ALICE / "userkey.pem"),
}


@pytest.mark.parametrize(
    ("environment", "account", "fqans"),
    [
        (CERTIFICATE, "clouduser", []),
        ({"X509_USER_PROXY": str(ALICE / "proxy.pem")}, "clouduser", []),
        (
            {"X509_USER_PROXY": str(ALICE / "vomsproxy.pem")},
            "cloudpilot",
            [f"/{VO}/Role=pilot", f"/{VO}"],
        ),
    ],
    ids=["certificate", "proxy", "voms"],
)
def test_a_machine_with_each_kind_of_credential(
    environment: dict[str, str], account: str, fqans: list[str], key: Key
) -> None:
    told = whoami(environment)
    assert (told["account"], told["fqans"], told["refused"]) == (account, fqans, None)
    assert told["dn"] == user("alice").dn
    first, *rest = (Path(path) for path in environment.values())
    cloud = Cloud(first, *rest)
    machine = cloud.machine(key=key).wait("active")
    assert machine.ssh("id -u") == "0\n"
    job = the_lease()
    assert job.field("UserId").startswith(f"{account}(")
    assert job.field("Account") == "cloud"
    machine.delete()
    wait_until(lambda: not leases(), 30, "the lease is over")


def stolen(path: Path) -> None:
    """Bob's proxy with an attribute certificate that was made for Alice."""
    bob = user("bob")
    with_ac = x509.load_pem_x509_certificate((ALICE / "vomsproxy.pem").read_bytes())
    key = ca.new_key()
    number = x509.NameAttribute(x509.NameOID.COMMON_NAME, "12345")
    builder = (
        x509.CertificateBuilder()
        .subject_name(
            x509.Name([*bob.certificate.subject.rdns, x509.RelativeDistinguishedName([number])])
        )
        .issuer_name(bob.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(with_ac.not_valid_before_utc)
        .not_valid_after(with_ac.not_valid_after_utc)
    )
    for extension in with_ac.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    signed = builder.sign(bob.key, hashes.SHA256())
    Credential(signed, key, (bob.certificate,)).write_bundle(path)


def voms(path: Path, server: Credential, vo: str = VO, *fqans: str, options: str = "") -> None:
    """A proxy of Alice's with attributes."""
    ca.voms_proxy(
        user("alice"), server, vo, fqans or (f"/{vo}/Role=pilot",), path, *options.split()
    )


def other_ca() -> Authority:
    """A CA that nobody trusts, with the same name."""
    return Authority.make(authority().own.certificate.subject)


BAD: dict[str, Callable[[Path], None]] = {
    "another CA": lambda path: other_ca().issue(user("alice").dn).write_bundle(path),
    "expired": lambda path: (
        authority().issue(user("alice").dn, life=(-2 * DAY, -DAY)).write_bundle(path)
    ),
    "not yet valid": lambda path: (
        authority().issue(user("alice").dn, life=(DAY, 2 * DAY)).write_bundle(path)
    ),
    "revoked": lambda path: user("trudy").write_bundle(path),
    "proxy of a revoked one": lambda path: ca.proxy(user("trudy")).write_bundle(path),
    "banned": lambda path: user("mallory").write_bundle(path),
    "proxy of a banned one": lambda path: ca.proxy(user("mallory")).write_bundle(path),
    "unknown": lambda path: authority().issue(f"{BASE}/OU=People/CN=Nobody").write_bundle(path),
    "expired proxy": lambda path: ca.proxy(user("alice"), life=(-2 * DAY, -DAY)).write_bundle(path),
    "limited proxy": lambda path: ca.proxy(user("alice"), language=ca.LIMITED).write_bundle(path),
    "below a limited proxy": lambda path: ca.proxy(
        ca.proxy(user("alice"), language=ca.LIMITED)
    ).write_bundle(path),
    "independent proxy": lambda path: ca.proxy(user("alice"), language=ca.INDEPENDENT).write_bundle(
        path
    ),
    "too long a path": lambda path: ca.proxy(ca.proxy(user("alice"), path_length=0)).write_bundle(
        path
    ),
    "not the issuer's name": lambda path: ca.proxy(
        user("alice"), name=user("bob").certificate.subject
    ).write_bundle(path),
    "a user as a CA": lambda path: (
        Authority(Credential(user("bob").certificate, user("bob").key, (user("bob").certificate,)))
        .issue(user("alice").dn)
        .write_bundle(path)
    ),
    "an unknown VOMS server": lambda path: voms(
        path, authority().issue(f"{BASE}/OU=Hosts/CN=evil.example", hosts=("evil.example",))
    ),
    "a VOMS server of another VO": lambda path: voms(path, voms_server(), "othervo"),
    "attributes below another VO": lambda path: voms(path, voms_server(), VO, "/othervo/Role=x"),
    "stolen attributes": stolen,
}


def verdict(client: Cloud, method: str) -> object:
    """The answer to a request: its status, or "TLS" if it did not come that far."""
    request = {"kind": f"{INFRA}#compute", "mixins": [SMALL_IMAGE, size("small")]}
    try:
        answer = client.ask(method, "/compute/", request if method == "POST" else None)
    except httpx.TransportError:
        return "TLS"
    assert answer.json()["message"]
    return answer.status_code


@pytest.mark.parametrize("credential", BAD)
def test_a_bad_credential_is_refused(credential: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.pem"
    BAD[credential](path)
    client = Cloud(path)
    assert {verdict(client, method) for method in ("POST", "GET")} <= {"TLS", 401, 403}
    assert not machines()
    assert Cloud(ALICE / "proxy.pem").locations("/compute/") == []  # she is still served


def test_without_a_credential() -> None:
    nobody = Cloud(None)
    for method, path in (("GET", "/-/"), ("GET", "/compute/"), ("POST", "/compute/")):
        answer = nobody.ask(method, path, {} if method == "POST" else None)
        assert answer.status_code == 401, path


def test_whoami_tells_why_not() -> None:
    told = whoami(
        {"X509_USER_CERT": str(USERS / "mallory" / "usercert.pem")}
        | {"X509_USER_KEY": str(USERS / "mallory" / "userkey.pem")}
    )
    assert told["dn"] == user("mallory").dn
    assert "ban" in str(told["refused"])


def test_every_decision_is_logged(tmp_path: Path) -> None:
    log = Path(os.environ["WNODES_SITE"]) / "log" / "bridge.log"
    begin = log.stat().st_size
    voms(tmp_path / "fresh.pem", voms_server())
    assert Cloud(tmp_path / "fresh.pem").ask("GET", "/compute/").status_code == 200
    ca.proxy(user("mallory")).write_bundle(tmp_path / "banned.pem")
    assert Cloud(tmp_path / "banned.pem").ask("GET", "/compute/").status_code == 403

    def told(*words: str) -> bool:
        lines = log.read_bytes()[begin:].decode().splitlines()
        return any(all(word in line for word in words) for line in lines)

    wait_until(lambda: told(user("alice").dn, f"/{VO}/Role=pilot", "127.0.0.1"), 10, "Alice's")
    wait_until(lambda: told(user("mallory").dn, "127.0.0.1"), 10, "Mallory's")


def test_another_user_sees_and_touches_nothing(alice: Cloud, bob: Cloud) -> None:
    machine = alice.machine()
    volume = alice.create("storage", {"attributes": {"occi.storage.size": 1}})
    for path in (machine.path, volume):
        for method in ("GET", "DELETE"):
            assert bob.ask(method, path).status_code == 404
        change = bob.ask("POST", path, {"attributes": {"occi.core.title": "mine now"}})
        assert change.status_code == 404
    stop = {"action": f"{INFRA}/compute/action#stop", "attributes": {}}
    assert bob.ask("POST", f"{machine.path}?action=stop", stop).status_code == 404
    link = {"kind": f"{INFRA}#storagelink"}
    ends = {"occi.core.source": machine.path, "occi.core.target": volume}
    assert bob.ask("POST", "/storagelink/", link | {"attributes": ends}).status_code == 400
    for kind in ("compute", "storage"):
        assert bob.locations(f"/{kind}/") == []
    bob.ask("DELETE", "/compute/")  # deletes all that is Bob's: nothing
    assert alice.locations("/compute/") == [machine.path]


def test_a_group_that_shares_sees_what_each_has(tmp_path: Path) -> None:
    clients = []
    for name in ("alice", "bob"):
        path = tmp_path / name
        ca.voms_proxy(user(name), voms_server(), VO, [f"/{VO}/team"], path)
        clients.append(Cloud(path))
    volume = clients[0].create("storage", {"attributes": {"occi.storage.size": 1}})
    assert clients[1].locations("/storage/") == [volume]
    assert Cloud(USERS / "bob" / "proxy.pem").locations("/storage/") == []
    clients[1].delete(volume)
    assert clients[0].locations("/storage/") == []


def test_quota_says_which_used_and_asked(bob: Cloud) -> None:
    bob.machine(template="medium")
    answer = bob.ask(
        "POST", "/compute/", {"kind": f"{INFRA}#compute", "mixins": [SMALL_IMAGE, size("small")]}
    )
    assert answer.status_code == 403
    said = answer.json()["message"]
    for word in ("cores", "2", "1"):
        assert word in said
    storage = {"kind": f"{INFRA}#storage", "attributes": {"occi.storage.size": 3}}
    answer = bob.ask("POST", "/storage/", storage)
    assert answer.status_code == 403
    assert "storage" in answer.json()["message"]
    assert len(bob.locations("/compute/")) == 1


def test_what_is_not_granted_is_neither_shown_nor_given(bob: Cloud) -> None:
    assert "bare_debian_x86_64" not in bob.ask("GET", "/-/", headers={"Accept": "text/plain"}).text
    answer = bob.ask("POST", "/compute/", {"kind": f"{INFRA}#compute", "mixins": [BARE_IMAGE]})
    assert answer.status_code in (400, 403)
    assert len(bob.locations("/network/")) == 1


def baits() -> list[httpx.Client]:
    """The baits' services, as the bridge reaches them."""
    bridge = config.load(config.path_in_use()).bridge
    assert bridge
    own = context(GRID.host_certificate("bridge"), GRID.host_key("bridge"))
    return [httpx.Client(base_url=url, verify=own, trust_env=False) for url in bridge.baits]


def test_a_baits_api_is_for_its_clients_only() -> None:
    good, _other = baits()
    state = good.get("/state").json()
    assert (state["node"], state["lrms"], state["libvirt"]) == ("hv1", "ok", "ok")
    assert "/leases" in good.get("/openapi.json").json()["paths"]
    url = good.base_url
    with httpx.Client(base_url=url, verify=context(*pair("alice"))) as client:
        assert client.get("/state").status_code == 403
        assert client.post("/leases", json={"token": "x"}).status_code == 403
    for bad in (None, ALICE / "proxy.pem"):
        with (
            httpx.Client(base_url=url, verify=context(bad)) as client,
            pytest.raises(httpx.TransportError),
        ):
            client.get("/state")
