"""A user of the service who claims what a VO gave to others."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contrib.site.box.ca import Credential, write_lsc
from contrib.site.box.grid import BASE, VO
from tests.attributecertificates import SHA1, UNKNOWN, Made, bearing, info, odd_proxy
from tests.e2e.occi import USERS, Cloud
from tests.e2e.test_cloud_identity import GRID, authority, user, voms, voms_server, whoami

OTHER, OTHER_HOST = "othervo", "voms.othervo.example"
TEAM = f"/{VO}/team"


@pytest.fixture
def other() -> Iterator[Credential]:
    """The VOMS server of another VO, trusted for that VO alone, and in the attacker's hands."""
    server = authority().issue(f"{BASE}/OU=Hosts/CN={OTHER_HOST}", hosts=(OTHER_HOST,))
    write_lsc(GRID.vomsdir, OTHER, OTHER_HOST, server)
    yield server
    shutil.rmtree(GRID.vomsdir / OTHER)


def by_another_vo(server: Credential, uri: str, fqan: str = TEAM) -> Made:
    """Bob's attributes, signed by the server of the other VO."""
    return Made(user("bob"), server, uri=f"{uri}:15000", fqans=[fqan.encode()])


def by_nobody(**changes: object) -> Made:
    """Bob's attributes with the certificate of the VO's server, which everybody can have."""
    stranger = Credential(voms_server().certificate, user("bob").key)
    return Made(user("bob"), stranger, fqans=[TEAM.encode()]).but(**changes)


ATTACKS: dict[str, Callable[[Credential], Made]] = {
    "a server that shows where its trust lies": lambda server: by_another_vo(
        server, f"{VO}://../{OTHER}/{OTHER_HOST}"
    ),
    "a VO that is called by a path": lambda server: by_another_vo(
        server, f"{VO}/../{OTHER}://{OTHER_HOST}", f"/{VO}/../{OTHER}/team"
    ),
    "a signature of a kind that nobody knows": lambda _: by_nobody(kind=UNKNOWN),
    "a signature of a byte and a half": lambda _: by_nobody(unused=4),
    "a digest that can be forged": lambda _: Made(
        user("bob"), voms_server(), fqans=[TEAM.encode()], kind=SHA1
    ),
}


def test_another_vos_attributes_open_nothing(other: Credential, tmp_path: Path) -> None:
    """A user who holds a VOMS server, or none at all, wants another VO's volumes."""
    owner = tmp_path / "owner.pem"
    voms(owner, voms_server(), VO, TEAM)
    alice = Cloud(owner)
    volume = alice.create("storage", {"attributes": {"occi.storage.size": 1}})
    good = tmp_path / "good.pem"
    bearing(by_another_vo(other, f"{OTHER}://{OTHER_HOST}", f"/{OTHER}")).write_bundle(good)
    assert whoami({"X509_USER_PROXY": str(good)})["fqans"] == [f"/{OTHER}"]
    got_in = []
    for number, (attack, make) in enumerate(ATTACKS.items()):
        path = tmp_path / f"{number}.pem"
        bearing(make(other)).write_bundle(path)
        bob = Cloud(path)
        title = {"attributes": {"occi.core.title": "mine now"}}
        answers = [bob.ask("GET", volume), bob.ask("POST", volume, title)]
        if {answer.status_code for answer in answers} != {403}:
            got_in.append(attack)
    assert not got_in
    assert "mine now" not in alice.ask("GET", volume).text
    alice.delete(volume)


def test_a_proxy_that_says_less_than_it_seems_opens_nothing(tmp_path: Path) -> None:
    """Who was handed a proxy with a policy of its own wants all that its owner may."""
    alice = user("alice")
    for number, proxy in enumerate(
        (odd_proxy(alice, critical=False), odd_proxy(alice, info(text=b"only to read")))
    ):
        path = tmp_path / f"{number}.pem"
        proxy.write_bundle(path)
        assert Cloud(path).ask("GET", "/compute/").status_code == 403
    assert Cloud(USERS / "alice" / "proxy.pem").ask("GET", "/compute/").status_code == 200
