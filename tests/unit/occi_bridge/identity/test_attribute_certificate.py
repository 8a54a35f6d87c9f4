"""Reading of attribute certificates, of LSC files and of DER: the pure parts."""

from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import example, given
from hypothesis import strategies as st

from contrib.site.box.ca import Authority, write_lsc
from contrib.site.box.certificates import der as written
from contrib.site.box.certificates import der_oid
from occi_bridge.identity import attribute_certificate, der, fqans, lsc
from tests.attributecertificates import TARGETS, Made, extension, integer, sequence
from tests.unit import ca
from tests.unit.ca import BASE, VO
from wnodes_lrms.errors import RejectedError

ROOT = Authority.make(f"{BASE}/CN=Box CA", ca.key("authority"))
ALICE = ROOT.issue(f"{BASE}/CN=Alice", key=ca.key("alice"))
SERVER = ROOT.issue(f"{BASE}/CN=host/voms.example", key=ca.key("voms"))
MADE = Made(ALICE, SERVER)
GOOD = sequence(sequence(MADE.data))
CHAIN = [SERVER.certificate, ROOT.own.certificate]


def test_what_it_says() -> None:
    [found] = attribute_certificate.parse(GOOD)
    assert (found.vo, found.host) == (VO, "voms.example")
    assert found.fqans == (f"/{VO}/Role=pilot", f"/{VO}")
    assert found.serial == ALICE.certificate.serial_number
    assert found.holder == attribute_certificate.name_of(ALICE.certificate.issuer)
    assert found.issuer == attribute_certificate.name_of(SERVER.certificate.subject)
    assert found.certificates == SERVER.chain
    assert found.targets is None
    assert found.ends - found.begins == 3660


def test_names_are_compared_by_what_they_say() -> None:
    parts = [x509.NameAttribute(x509.NameOID.COMMON_NAME, "A", kind) for kind in STRINGS]
    names = [attribute_certificate.name_of(x509.Name([part])) for part in parts]
    assert len(set(names)) == 1
    for part, name in zip(parts, names, strict=True):
        made = MADE.but(holder_name=x509.Name([part]))
        assert attribute_certificate.parse(sequence(sequence(made.data)))[0].holder == name


STRINGS = (
    x509.name._ASN1Type.UTF8String,
    x509.name._ASN1Type.PrintableString,
    x509.name._ASN1Type.BMPString,
)


def test_targets_as_the_rfc_has_them_too() -> None:
    ways = [written(0xA0, written(0x86, b"a")), written(0xA1, written(0x86, b"group"))]
    made = MADE.but(more=[extension(TARGETS, sequence(sequence(*ways)), critical=True)])
    assert attribute_certificate.parse(sequence(sequence(made.data)))[0].targets == ("a",)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_is_read_or_refused_and_no_more(place: int, change: int) -> None:
    changed = bytearray(GOOD)
    changed[place] ^= change
    try:
        found = attribute_certificate.parse(bytes(changed))
    except RejectedError:
        return
    assert len(found) == 1


@given(st.binary(max_size=64))
def test_bytes_are_values_or_a_value_error(data: bytes) -> None:
    try:
        found = der.values(data)
    except ValueError:
        return
    assert b"".join(each.whole for each in found) == data
    assert b"".join(written(each.tag, each.content) for each in found) == data


@given(
    st.lists(st.integers(0, 2**40), min_size=1, max_size=10), st.integers(0, 2), st.integers(0, 39)
)
def test_object_identifiers(rest: list[int], first: int, second: int) -> None:
    dotted = ".".join(map(str, (first, second, *rest)))
    assert der.oid(der.only(der_oid(dotted), der.OID)) == dotted


def test_an_object_identifier_costs_no_more_than_its_bytes() -> None:
    """One of 90,000 bytes took over a second of the process that judges everybody's."""
    longest = b"\x81" + 61 * b"\xff" + b"\x7f"
    assert der.oid(longest).startswith("2.")
    with pytest.raises(ValueError, match="an object identifier of 64 bytes"):
        der.oid(b"\xff" + longest)
    with pytest.raises(ValueError, match="an object identifier of 90000 bytes"):
        der.oid(90_000 * b"\1")


@given(st.integers())
@example(-128)
def test_integers(number: int) -> None:
    assert der.integer(der.only(integer(number), der.INTEGER)) == number


@pytest.mark.parametrize("content", ["", "0001", "007f", "ff80", "ffff"])
def test_what_is_no_integer(content: str) -> None:
    with pytest.raises(ValueError, match="integer"):
        der.integer(bytes.fromhex(content))


@pytest.mark.parametrize("content", ["", "80", "8001", "2a80", "2a8080"])
def test_what_is_no_object_identifier(content: str) -> None:
    with pytest.raises(ValueError, match="object identifier"):
        der.oid(bytes.fromhex(content))


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a.", ".a", "a..b", "a\n", "a\0", "a b", "a=b", "ü", "x" * 256]
)
def test_what_is_no_vo_and_no_host(name: str) -> None:
    for make in (fqans.vo, fqans.host):
        with pytest.raises(ValueError, match="is not the name of"):
            make(name)


@pytest.mark.parametrize("name", ["atlas", "vo.example.org", "EGI-1", "a.b-c.d"])
def test_vos_and_hosts(name: str) -> None:
    assert (fqans.vo(name), fqans.host(name)) == (name, name)


PAIR = f"{BASE}/CN=host/voms.example\n{BASE}/CN=Box CA\n"


@pytest.mark.parametrize(
    "text",
    [
        PAIR,
        f"# the server\n\n  {PAIR}",
        f"{PAIR}{BASE}/CN=Box CA\n{BASE}/CN=Box CA\n",
        f"/CN=x\n/CN=y\n------ NEXT CHAIN ------\n{PAIR}",
        "".join(f'"{line}"\n' for line in PAIR.splitlines()),
        PAIR.replace("host/", "host\\/"),
        PAIR.rstrip("\n"),
    ],
)
def test_an_lsc_file_that_names_the_server(text: str, tmp_path: Path) -> None:
    (tmp_path / VO).mkdir()
    (tmp_path / VO / "voms.example.lsc").write_text(text)
    lsc.require(tmp_path, fqans.vo(VO), fqans.host("voms.example"), CHAIN)
    assert lsc.parse(text)[-1][:2] == lsc.parse(PAIR)[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "------ NEXT CHAIN ------\n",
        f"{BASE}/CN=host/voms.example\n",
        f"{PAIR}{BASE}/CN=Box CA\n{BASE}/CN=Another CA\n",
        f"{PAIR}{PAIR}",
        PAIR.replace("Box CA", "Another CA"),
        PAIR.replace("voms", "VOMS"),
        "\n".join(PAIR.splitlines()[::-1]),
    ],
)
def test_an_lsc_file_that_does_not(text: str, tmp_path: Path) -> None:
    (tmp_path / VO).mkdir()
    (tmp_path / VO / "voms.example.lsc").write_text(text)
    with pytest.raises(RejectedError, match="by its LSC file"):
        lsc.require(tmp_path, fqans.vo(VO), fqans.host("voms.example"), CHAIN)


def test_lsc_files_that_are_not_there_or_unreadable(tmp_path: Path) -> None:
    write_lsc(tmp_path, "other", "voms.example", SERVER)
    (tmp_path / VO).mkdir()
    names = fqans.vo(VO), fqans.host("voms.example")
    with pytest.raises(RejectedError, match="no LSC file"):
        lsc.require(tmp_path, *names, CHAIN)
    (tmp_path / VO / "voms.example.lsc").write_bytes(b"\xff")
    with pytest.raises(RejectedError, match="can't be read"):
        lsc.require(tmp_path, *names, CHAIN)
