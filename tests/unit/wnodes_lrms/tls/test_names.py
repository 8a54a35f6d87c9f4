"""names.py against OpenSSL's own one-line form, and names that could be taken for others."""

import subprocess

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID, ObjectIdentifier

from contrib.site.box.ca import proxy
from tests.unit import ca
from tests.unit.ca import BASE, Grid
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.tls import names, oneline

common = ca.common
CN = NameOID.COMMON_NAME


def name(*parts: tuple[ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


EASY = {
    "of domains": name((NameOID.DOMAIN_COMPONENT, "org"), (NameOID.USER_ID, "x"), (CN, "Ann B")),
    "with mail": name((NameOID.COUNTRY_NAME, "IT"), (NameOID.EMAIL_ADDRESS, "a@b.org")),
    "with many types": name(
        *(
            (ObjectIdentifier(number), "value")
            for number, short in oneline.SHORT.items()
            if short not in ("C", "x500UniqueIdentifier")
        )
    ),
    "beyond ASCII": name((NameOID.ORGANIZATION_NAME, "Élan"), (CN, "Ł, «ø» €")),
    "of an unknown type": name((ObjectIdentifier("1.2.3.4.5"), "x y"), (CN, "z")),
    "with signs": name((CN, "O'Neil (ann) @ x = y, \\ z: 1;\"")),
}


@pytest.mark.parametrize("what", EASY)
def test_as_openssl_writes_it(common: Grid, what: str) -> None:
    user = common.user(EASY[what])
    argv = ["openssl", "x509", "-noout", "-subject", "-nameopt", "compat", "-inform", "DER"]
    said = subprocess.run(argv, input=user.chain[0], capture_output=True, check=True)
    assert names.dn_of(user.chain[0]) == said.stdout.decode().strip().removeprefix("subject=")


def test_a_service_has_its_slash_bare() -> None:
    assert names.one_line(name((CN, "host/x.org"))) == "/CN=host/x.org"


@pytest.mark.parametrize(
    "value",
    [
        *("a/CN=b", "a+CN=b", "a/1.2.3=b", "/O=b", "a\0b", "a\nb", "a\x7f", "a\x85", "x/E=1"),
        *("\\x41", "\\X41", "a\\\\b", 'a\\"', "a\\/b", "a\\,b", "a\\", " a", "a "),
    ],
)
def test_what_could_be_another_name_is_refused(value: str) -> None:
    with pytest.raises(RejectedError, match="a name with") as caught:
        names.one_line(name((NameOID.ORGANIZATION_NAME, "Box"), (CN, value)))
    assert str(caught.value).isprintable()


def test_no_name_at_all() -> None:
    with pytest.raises(RejectedError, match="without a name"):
        names.one_line(x509.Name([]))


@pytest.mark.parametrize("der", [b"", b"0", b"\x30\x82\xff\xff", b"no certificate"])
def test_no_certificate_at_all(der: bytes) -> None:
    with pytest.raises(RejectedError, match="can't be read"):
        names.dn_of(der)


def test_every_cut_of_a_certificate(common: Grid) -> None:
    (whole,) = common.alice.chain
    for end in range(0, len(whole), 7):
        with pytest.raises(RejectedError):
            names.parse(whole[:end])


def test_the_end_entity_is_told_by_the_extension(common: Grid) -> None:
    numbered = common.user(f"{BASE}/CN=Ann/CN=12345")
    below = proxy(proxy(numbered, key=common.key), key=common.key)
    assert names.dn_of(names.end_entity(common.chain(below))) == f"{BASE}/CN=Ann/CN=12345"
    with pytest.raises(RejectedError, match="without a certificate of a person"):
        names.end_entity(below.chain[:1])
