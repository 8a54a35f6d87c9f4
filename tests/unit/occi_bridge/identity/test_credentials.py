"""Credentials good and bad, over real TLS: who gets in as whom, and what the others are told."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from contrib.site.box.ca import (
    INDEPENDENT,
    LIMITED,
    Authority,
    Credential,
    proxy,
)
from contrib.site.box.certificates import begin, der, der_oid, usage, with_key_ids
from tests.attributecertificates import info, odd_proxy, patched
from tests.unit import ca
from tests.unit.ca import BASE, Grid, Service
from tests.unit.conftest import eventually

pytestmark = pytest.mark.integration

DAY = 86400.0
Make = Callable[["Cases"], Credential]


def encryption_only() -> x509.KeyUsage:
    """What a key may not be used for here."""
    return x509.KeyUsage(False, False, True, False, False, False, False, False, False)


class Cases:
    """A grid whose CAs have all faults that a CA may have."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.key = grid.key
        root = grid.authority
        self.revoked = grid.user("Revoked")
        root.revoke(self.revoked)
        other = ca.key("another")
        self.sub = root.sub(f"{BASE}/CN=Sub CA", other)
        self.sub.install(grid.certificates, subjects=[f"{BASE}/CN=Sub*"])
        self.revoked_sub = root.sub(f"{BASE}/CN=Revoked CA", other)
        self.revoked_sub.install(grid.certificates)
        root.revoke(self.revoked_sub.own)
        root.install(grid.certificates)
        self.stranger = Authority.make(f"{BASE}/CN=Stranger", other)
        self.twin = Authority.make(f"{BASE}/CN=Box CA", other)
        self.no_crl = Authority.make(f"{BASE}/CN=No CRL", other)
        self.no_crl.install(grid.certificates, crl=None)
        self.old_crl = Authority.make(f"{BASE}/CN=Old CRL", other)
        self.old_crl.install(grid.certificates, crl=self.old_crl.crl((-2 * DAY, -DAY)))
        self.other_crl = Authority.make(f"{BASE}/CN=Other CRL", other)
        forged = Authority.make(f"{BASE}/CN=Other CRL", self.key).crl()
        self.other_crl.install(grid.certificates, crl=forged)
        self.broken_policy = Authority.make(f"{BASE}/CN=Broken policy", other)
        self.broken_policy.install(grid.certificates)
        file = grid.certificates / f"{self.broken_policy.hash()}.signing_policy"
        file.write_text("access_id_CA X509 'unclosed\n")
        names = ("Sub Ann", "Ann", "Søren", "host/ann.example", "Ann/CN=1234567/CN=Ann A")
        grid.map(
            *(f'"{BASE}/CN={name}" ann' for name in names),
            f'"{BASE}/CN=Alice" alice',
            f'"{BASE}/CN=Dots" .nopool',
            '"/DC=org/DC=box/UID=ann/CN=Ann" ann',
            f'"{BASE}/Email=ann@box.example" ann',
            f'"{BASE}/OU=a+CN=Two" ann',
            f'"{BASE}/CN=Banned" ann',
        )
        (grid.folder / "ban_users.db").write_text(f'"{BASE}/CN=Banned"\n')

    def issue(self, by: Authority, name: str = "Ann") -> Credential:
        return by.issue(f"{BASE}/CN={name}", key=self.key)

    def ann(self) -> Credential:
        return self.grid.user("Ann")

    def proxy(self, of: Credential | None = None, **options: object) -> Credential:
        return proxy(of or self.ann(), key=self.key, **options)  # type: ignore[arg-type]

    def proxies(self, count: int) -> Credential:
        made = self.ann()
        for _ in range(count):
            made = self.proxy(made)
        return made

    def name(self, *values: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
        begin = [(NameOID.COUNTRY_NAME, "IT"), (NameOID.ORGANIZATION_NAME, "Box")]
        return x509.Name([x509.NameAttribute(oid, value) for oid, value in (*begin, *values)])

    def called(self, cn: str) -> Credential:
        """A user whose common name is just this, whatever it looks like."""
        return self.grid.user(self.name((NameOID.COMMON_NAME, cn)))

    def two_in_one(self) -> Credential:
        attribute = x509.NameAttribute
        rdns = [
            x509.RelativeDistinguishedName([attribute(NameOID.COUNTRY_NAME, "IT")]),
            x509.RelativeDistinguishedName([attribute(NameOID.ORGANIZATION_NAME, "Box")]),
            x509.RelativeDistinguishedName(
                [
                    attribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "a"),
                    attribute(NameOID.COMMON_NAME, "Two"),
                ]
            ),
        ]
        return self.grid.user(x509.Name(rdns))

    def under(self, issuer: Credential, name: str, ca: bool = False) -> Credential:
        """A certificate, no proxy, that a user or proxy has signed."""
        own = issuer.certificate
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.grid.user(name).certificate.subject)
            .issuer_name(own.subject)
            .public_key(self.key.public_key())
            .serial_number(7)
            .not_valid_before(own.not_valid_before_utc)
            .not_valid_after(own.not_valid_after_utc)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), True)
        )
        signed = builder.sign(issuer.key, hashes.SHA256())
        return Credential(signed, self.key, (own, *issuer.issuers))

    def false_ca(self) -> Authority:
        """A user with a home-made CA's certificate."""
        made = self.under(self.ann(), "False CA", ca=True)
        return Authority(Credential(made.certificate, made.key, (made.certificate, *made.issuers)))

    def server_only(self) -> Credential:
        own = self.ann().certificate
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = (
            x509.CertificateBuilder()
            .subject_name(own.subject)
            .issuer_name(own.issuer)
            .public_key(self.key.public_key())
            .serial_number(8)
            .not_valid_before(own.not_valid_before_utc)
            .not_valid_after(own.not_valid_after_utc)
            .add_extension(uses, False)
        )
        signed = builder.sign(self.grid.authority.own.key, hashes.SHA256())
        return Credential(signed, self.key)

    def odd(self, cert_info: bytes | None = None, **options: Any) -> Credential:
        """A proxy of Ann's with something odd in it."""
        return odd_proxy(self.ann(), cert_info, **options)

    def twice(self) -> Credential:
        """A proxy with one extension two times, of a kind that OpenSSL does not know."""
        kinds = [
            x509.ObjectIdentifier(kind) for kind in ("1.3.6.1.4.1.8005.1", "1.3.6.1.4.1.8005.2")
        ]
        plain = self.odd(more=[x509.UnrecognizedExtension(kind, b"") for kind in kinds])
        first, second = (der_oid(kind.dotted_string) for kind in kinds)
        return patched(plain, self.ann(), second, first)

    def without_signatures(self) -> Credential:
        """Ann with a key that may not sign."""
        ann = self.ann()
        signs, encrypts = (der(0x04, bytes.fromhex(bits)) for bits in ("030205a0", "03020520"))
        return patched(ann, self.grid.authority.own, signs, encrypts)

    def critical(self) -> Credential:
        """A proxy with a critical extension that nobody knows."""
        kind = x509.ObjectIdentifier("1.3.6.1.4.1.8005.1")
        plain = self.odd(more=[x509.UnrecognizedExtension(kind, bytes(3))])
        name, value = der_oid(kind.dotted_string), der(0x04, bytes(3))
        critical = b"\x01\x01\xff" + der(0x04, b"")
        return patched(plain, self.ann(), name + value, name + critical)

    def of_no_ca(self) -> Credential:
        """Of one whose key may sign certificates, but who is not called a CA."""
        root, key = self.grid.authority, ca.key("another")
        name = self.name((NameOID.COMMON_NAME, "No CA"))
        builder = begin(name, root.own.certificate.subject, key.public_key(), (-DAY, DAY))
        builder = with_key_ids(
            builder.add_extension(usage(signs_certificates=True), True), key, root.own.key
        )
        signed = builder.sign(root.own.key, hashes.SHA256())
        by = Authority(Credential(signed, key, (signed,)))
        by.install(self.grid.certificates)
        return self.issue(by)

    def old_proxy(self) -> Credential:
        """As Globus made them before there was an RFC: nothing but a name."""
        return self.under(self.ann(), f"{BASE}/CN=Ann/CN=proxy")


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Cases, Service]]:
    with ca.shared_folder() as folder:
        cases = Cases(Grid(folder))
        with ca.service(cases.grid) as service:
            yield cases, service


GOOD: dict[str, tuple[Make, str]] = {
    "a certificate": (lambda c: c.ann(), f"{BASE}/CN=Ann"),
    "a proxy": (lambda c: c.proxy(), f"{BASE}/CN=Ann"),
    "a proxy of a proxy": (lambda c: c.proxies(2), f"{BASE}/CN=Ann"),
    "eight proxies": (lambda c: c.proxies(8), f"{BASE}/CN=Ann"),
    "a proxy that allows none below": (lambda c: c.proxy(path_length=0), f"{BASE}/CN=Ann"),
    "a proxy of one that allows one": (
        lambda c: c.proxy(c.proxy(path_length=1)),
        f"{BASE}/CN=Ann",
    ),
    "of an intermediate CA": (lambda c: c.issue(c.sub, "Sub Ann"), f"{BASE}/CN=Sub Ann"),
    "a proxy below an intermediate CA": (
        lambda c: c.proxy(c.issue(c.sub, "Sub Ann")),
        f"{BASE}/CN=Sub Ann",
    ),
    "a service": (lambda c: c.called("host/ann.example"), f"{BASE}/CN=host/ann.example"),
    "a name with numbers, as CERN's": (
        lambda c: c.grid.user("Ann/CN=1234567/CN=Ann A"),
        f"{BASE}/CN=Ann/CN=1234567/CN=Ann A",
    ),
    "its proxy": (
        lambda c: c.proxy(c.grid.user("Ann/CN=1234567/CN=Ann A")),
        f"{BASE}/CN=Ann/CN=1234567/CN=Ann A",
    ),
    "a name beyond ASCII": (lambda c: c.grid.user("Søren"), f"{BASE}/CN=S\\xC3\\xB8ren"),
    "a name of domains": (
        lambda c: c.grid.user("/DC=org/DC=box/UID=ann/CN=Ann"),
        "/DC=org/DC=box/UID=ann/CN=Ann",
    ),
    "a name with mail": (
        lambda c: c.grid.user(f"{BASE}/emailAddress=ann@box.example"),
        f"{BASE}/emailAddress=ann@box.example",
    ),
    "two values in one part": (lambda c: c.two_in_one(), f"{BASE}/OU=a+CN=Two"),
}

# Refused by OpenSSL, for the reason in the log.
BAD_TLS: dict[str, tuple[Make, str]] = {
    "of an unknown CA": (lambda c: c.issue(c.stranger), "unable to get local issuer"),
    "of another CA with the same name": (lambda c: c.issue(c.twin), "local issuer"),
    "expired": (lambda c: c.grid.user("Ann", life=(-2 * DAY, -DAY)), "has expired"),
    "not yet valid": (lambda c: c.grid.user("Ann", life=(DAY, 2 * DAY)), "not yet valid"),
    "revoked": (lambda c: c.revoked, "revoked"),
    "a proxy of a revoked one": (lambda c: c.proxy(c.revoked), "revoked"),
    "a proxy of a proxy of a revoked one": (lambda c: c.proxy(c.proxy(c.revoked)), "revoked"),
    "of a revoked CA": (lambda c: c.issue(c.revoked_sub), "revoked"),
    "of a CA without CRL": (lambda c: c.issue(c.no_crl), "unable to get certificate CRL"),
    "of a CA with an old CRL": (lambda c: c.issue(c.old_crl), "CRL has expired"),
    "of a CA with another's CRL": (lambda c: c.issue(c.other_crl), "CRL signature failure"),
    "an expired proxy": (lambda c: c.proxy(life=(-2 * DAY, -DAY)), "has expired"),
    "a proxy of tomorrow": (lambda c: c.proxy(life=(DAY, 2 * DAY)), "not yet valid"),
    "a proxy of an expired one": (
        lambda c: c.proxy(c.grid.user("Ann", life=(-2 * DAY, -DAY))),
        "has expired",
    ),
    "one proxy too many": (
        lambda c: c.proxy(c.proxy(path_length=0)),
        "proxy path length constraint exceeded",
    ),
    "a proxy called as another user": (
        lambda c: c.proxy(name=c.grid.alice.certificate.subject),
        "proxy subject name violation",
    ),
    "a proxy called as its issuer": (
        lambda c: c.proxy(name=c.ann().certificate.subject),
        "self-signed certificate",
    ),
    "a proxy with two names more": (
        lambda c: c.proxy(name=c.name(*[(NameOID.COMMON_NAME, cn) for cn in ("Ann", "1", "2")])),
        "proxy subject name violation",
    ),
    "signed by a user": (lambda c: c.under(c.ann(), "Alice"), "invalid CA certificate"),
    "signed by a user, called a CA": (
        lambda c: c.issue(c.false_ca(), "Alice"),
        "invalid CA certificate",
    ),
    "signed by a proxy": (lambda c: c.under(c.proxy(), "Alice"), "invalid CA certificate"),
    "signed by one who is not called a CA": (lambda c: c.of_no_ca(), "invalid CA certificate"),
    "a proxy of before the RFC": (lambda c: c.old_proxy(), "invalid CA certificate"),
    "for servers only": (lambda c: c.server_only(), "unsuitable certificate purpose"),
    "signed by itself": (
        lambda c: c.stranger.own,
        "self-signed certificate",
    ),
    # The client's own OpenSSL would not load these three as leaves.
    "below a proxy with another name beside": (
        lambda c: c.proxy(c.odd(more=[x509.SubjectAlternativeName([x509.DNSName("ann.example")])])),
        "local issuer",
    ),
    "below a proxy whose issuer has another name beside": (
        lambda c: c.proxy(c.odd(more=[x509.IssuerAlternativeName([x509.DNSName("ann.example")])])),
        "local issuer",
    ),
    "below a proxy that is a CA": (
        lambda c: c.proxy(c.odd(more=[x509.BasicConstraints(ca=True, path_length=None)])),
        "local issuer",
    ),
    "a proxy for encryption only": (
        lambda c: c.odd(key_usage=encryption_only()),
        "unsuitable certificate purpose",
    ),
    "a proxy of a key that may not sign": (
        lambda c: odd_proxy(c.without_signatures()),
        "unsuitable certificate purpose",
    ),
    "a proxy with an unknown critical extension": (
        lambda c: c.critical(),
        "unhandled critical extension",
    ),
    "a proxy signed by another key": (
        lambda c: Credential(
            proxy(
                Credential(c.ann().certificate, c.grid.alice.key, c.ann().issuers), key=c.key
            ).certificate,
            c.key,
            (c.ann().certificate,),
        ),
        "signature failure",
    ),
}

# Taken by OpenSSL, refused here; whoami tells why.
BAD: dict[str, tuple[Make, str]] = {
    "a limited proxy": (lambda c: c.proxy(language=LIMITED), "limited"),
    "below a limited proxy": (lambda c: c.proxy(c.proxy(language=LIMITED)), "limited"),
    "two below a limited proxy": (
        lambda c: c.proxy(c.proxy(c.proxy(language=LIMITED))),
        "limited",
    ),
    "a limited proxy of a proxy": (lambda c: c.proxy(c.proxy(), language=LIMITED), "limited"),
    "an independent proxy": (lambda c: c.proxy(language=INDEPENDENT), "independent"),
    "below an independent proxy": (
        lambda c: c.proxy(c.proxy(language=INDEPENDENT)),
        "independent",
    ),
    "a proxy with a policy of its own": (lambda c: c.proxy(language="1.2.3.4"), "1.2.3.4"),
    "a proxy that old programs may overlook": (lambda c: c.odd(critical=False), "not critical"),
    "below one that old programs may overlook": (
        lambda c: c.proxy(c.odd(critical=False)),
        "not critical",
    ),
    "a proxy that inherits all, and yet has a policy": (
        lambda c: c.odd(info(text=b"only to read")),
        "text that its language does not allow",
    ),
    "a proxy that inherits all, and has an empty policy": (
        lambda c: c.odd(info(text=b"")),
        "text that its language does not allow",
    ),
    "two ProxyCertInfos in one": (lambda c: c.odd(info() + info()), "can't be read"),
    "a path length below zero": (
        lambda c: c.odd(info(path=der(0x02, b"\xff"))),
        "allows -1 below itself",
    ),
    "an extension two times": (lambda c: c.twice(), "can't be read"),
    "nine proxies": (lambda c: c.proxies(9), "9 proxies"),
    "a user called proxy": (lambda c: c.called("proxy"), "called one"),
    "a user called limited proxy": (lambda c: c.called("Limited Proxy"), "called one"),
    "a NUL in the name": (lambda c: c.called("Alice\0.evil"), "control characters"),
    "a new line in the name": (lambda c: c.called("Ann\nallowed"), "control characters"),
    "another name in the name": (lambda c: c.called("x/CN=Alice"), "another part"),
    "a part of a part in the name": (lambda c: c.called("x+CN=Alice"), "another part"),
    "an escape in the name": (lambda c: c.called("S\\xC3\\xB8ren"), "escaped"),
    "a bad name in a proxy": (
        lambda c: c.proxy(
            name=c.name((NameOID.COMMON_NAME, "Ann"), (NameOID.COMMON_NAME, "1/CN=x"))
        ),
        "another part",
    ),
    "a CA itself": (lambda c: c.grid.authority.own, "signed by a CA"),
    "an intermediate CA itself": (
        lambda c: Credential(c.sub.own.certificate, c.sub.own.key),
        "a CA's own certificate",
    ),
    "a name that the CA may not sign": (lambda c: c.issue(c.sub, "Alice"), "signing policy"),
    "of a CA with a broken policy": (lambda c: c.issue(c.broken_policy), "can't be read"),
    "a user without account": (lambda c: c.called("Nobody"), "no local account"),
    "a user of a pool that has no account": (lambda c: c.called("Dots"), "no account of the pool"),
    "a banned user": (lambda c: c.called("Banned"), "banned"),
    "a proxy of a banned user": (lambda c: c.proxy(c.called("Banned")), "banned"),
}


@pytest.mark.parametrize("what", GOOD)
def test_taken(place: tuple[Cases, Service], what: str) -> None:
    cases, service = place
    make, dn = GOOD[what]
    seen = service.ask(make(cases))
    assert (seen["refused"], seen["dn"], seen["account"]) == (None, dn, "ann")


@pytest.mark.parametrize("what", BAD_TLS)
def test_refused_by_tls(
    place: tuple[Cases, Service], what: str, caplog: pytest.LogCaptureFixture
) -> None:
    cases, service = place
    make, reason = BAD_TLS[what]
    with pytest.raises(OSError, match=r"alert|reset"):
        service.ask(make(cases))
    eventually(lambda: [text for text in caplog.messages if "refused at TLS" in text])
    told = [text for text in caplog.messages if "refused at TLS" in text]
    assert told[0].startswith("refused at TLS: address=127.0.0.1 ")
    assert reason in told[0]


@pytest.mark.parametrize("what", BAD)
def test_refused_by_us(place: tuple[Cases, Service], what: str) -> None:
    cases, service = place
    make, reason = BAD[what]
    seen = service.ask(make(cases))
    assert reason in seen["refused"]
    assert seen["account"] is None


def test_without_a_certificate(place: tuple[Cases, Service]) -> None:
    assert place[1].ask(None)["refused"] == "a client certificate or proxy is needed"
