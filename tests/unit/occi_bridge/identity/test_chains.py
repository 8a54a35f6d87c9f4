"""Chains as OpenSSL may give them, whatever its security level is on a host: judged by us alone."""

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from contrib.site.box.ca import INHERIT_ALL, Authority, Credential, proxy
from contrib.site.box.certificates import der, der_oid
from occi_bridge.identity import proxies
from occi_bridge.identity.signing_policy import SigningPolicies
from tests.attributecertificates import (
    MD5,
    SHA1,
    SHA224,
    SHA256,
    again,
    info,
    odd_proxy,
    sequence,
)
from tests.unit import ca
from tests.unit.ca import BASE
from wnodes_lrms.errors import RejectedError

KEY = ca.key("users")
SHORT = rsa.generate_private_key(65537, 1024)  # noqa: S505 (that is what is refused)
ROOT = Authority.make(f"{BASE}/CN=Box CA", ca.key("authority"))
ANN = ROOT.issue(f"{BASE}/CN=Ann", key=KEY)


def issue(key: Any) -> Credential:
    """Ann's certificate, of another key."""
    return ROOT.issue(f"{BASE}/CN=Ann", key=key)


def below(kind: Any = SHA256, key: rsa.RSAPrivateKey = KEY) -> Credential:
    """Ann's certificate from an intermediate CA that is signed with this digest."""
    sub = ROOT.sub(f"{BASE}/CN=Sub CA", key)
    own = again(sub.own, ROOT.own, kind)
    sub.own = Credential(own.certificate, own.key, (own.certificate,))
    return sub.issue(f"{BASE}/CN=Ann", key=KEY)


def judged(made: Credential, root: Authority = ROOT) -> proxies.Credential:
    return proxies.judge((*made.chain, *root.own.chain), SigningPolicies("/nowhere"))


GOOD: dict[str, Callable[[], Credential]] = {
    "RSA": lambda: ANN,
    "a proxy": lambda: proxy(ANN, key=KEY),
    "an elliptic curve": lambda: issue(ec.generate_private_key(ec.SECP256R1())),
    "an Edwards curve": lambda: issue(ed25519.Ed25519PrivateKey.generate()),
    "the shortest digest": lambda: again(ANN, ROOT.own, SHA224),
    "an intermediate CA": below,
    "a path length": lambda: odd_proxy(ANN, info(path=der(0x02, b"\0"))),
}

BAD: dict[str, tuple[Callable[[], Credential], str]] = {
    "a short key": (lambda: issue(SHORT), "too weak"),
    "a short curve": (lambda: issue(ec.generate_private_key(ec.SECP192R1())), "too weak"),
    "a kind of key that nobody has": (lambda: issue(dsa.generate_private_key(2048)), "too weak"),
    "a proxy with a short key": (lambda: proxy(ANN, key=SHORT), "too weak"),
    "a proxy of a short key": (lambda: proxy(issue(SHORT), key=KEY), "too weak"),
    "a CA with a short key": (lambda: below(key=SHORT), "too weak"),
    "SHA-1": (lambda: again(ANN, ROOT.own, SHA1), "weak digest"),
    "MD5": (lambda: again(ANN, ROOT.own, MD5), "weak digest"),
    "a proxy signed with SHA-1": (lambda: again(proxy(ANN, key=KEY), ANN, SHA1), "weak digest"),
    "a proxy of one signed with MD5": (
        lambda: proxy(again(ANN, ROOT.own, MD5), key=KEY),
        "weak digest",
    ),
    "a CA signed with SHA-1": (lambda: below(SHA1), "weak digest"),
    "a ProxyCertInfo that goes on": (
        lambda: odd_proxy(ANN, sequence(sequence(der_oid(INHERIT_ALL)), der(0x02, b"\0"))),
        "can't be read",
    ),
    "a ProxyCertInfo with a long length": (
        lambda: odd_proxy(ANN, b"\x30\x81" + info()[1:]),
        "can't be read",
    ),
    "a language with a zero too many": (
        lambda: odd_proxy(ANN, sequence(sequence(der(0x06, b"\x80" + der_oid(INHERIT_ALL)[2:])))),
        "can't be read",
    ),
    "no language": (lambda: odd_proxy(ANN, sequence(sequence())), "can't be read"),
    "no ProxyCertInfo in its extension": (lambda: odd_proxy(ANN, b"\0"), "can't be read"),
}


@pytest.mark.parametrize("what", GOOD)
def test_taken(what: str) -> None:
    assert judged(GOOD[what]()).dn == f"{BASE}/CN=Ann"


@pytest.mark.parametrize("what", BAD)
def test_refused(what: str) -> None:
    make, reason = BAD[what]
    with pytest.raises(RejectedError, match=reason):
        judged(make())


def test_a_root_is_trusted_for_its_place_not_for_its_own_signature() -> None:
    old = Authority(again(ROOT.own, ROOT.own, SHA1))
    assert judged(ANN, old).dn == f"{BASE}/CN=Ann"
    short = Authority.make(f"{BASE}/CN=Box CA", SHORT)
    with pytest.raises(RejectedError, match="too weak"):
        judged(short.issue(f"{BASE}/CN=Ann", key=KEY), short)


def test_a_certificate_of_no_version_that_there_is() -> None:
    whole = bytearray(ANN.certificate.public_bytes(Encoding.DER))
    version = whole.index(b"\xa0\x03\x02\x01\x02")
    whole[version + 4] = 7
    with pytest.raises(RejectedError, match="can't be read"):
        proxies.judge((bytes(whole),), SigningPolicies("/nowhere"))
