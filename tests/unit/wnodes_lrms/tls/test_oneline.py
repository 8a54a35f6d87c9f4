"""All spellings of a name in files are one name, and none of them is another's."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import ca
from tests.unit.ca import Grid
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.tls import names, oneline

common = ca.common
RENE = "/C=IT/O=Box/CN=Ren\\xC3\\xA9 M"


@pytest.mark.parametrize(
    "text",
    [
        RENE,
        "/C=IT/O=Box/CN=René M",
        "/C=IT/O=Box/CN=Ren\\xc3\\xa9 M",
        "/C=IT/O=Box/CN=Ren\\xC3\\xa9 M",
        "/C=IT/O=Box/CN=Ren\\XC3\\XA9 M",
        "/C=IT/O=B\\x6Fx/CN=\\x52en\\xC3\\xA9\\x20M",
        "/c=IT/organizationName=Box/commonName=René M",
        "/2.5.4.6=IT/OID.2.5.4.10=Box/CN=René M",
        "  /C=IT/O=Box/CN=René M ",
        "CN=René M,O=Box,C=IT",
        "CN=Ren\\C3\\A9 M,O=Box,C=IT",
        "CN=Ren\\c3\\a9\\ M, O=Box, C=IT",
        "cn=René M;o=Box;c=IT",
        "C = IT, O = Box, CN = René M",
        'C = IT, O = "Box", CN = Ren\\C3\\A9 M',
        "2.5.4.3=René M,O=Box,C=IT",
    ],
)
def test_one_name(text: str) -> None:
    assert oneline.normal(text) == RENE


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("/C=IT/Email=a@b/E=c/e=d", "/C=IT/emailAddress=a@b/emailAddress=c/emailAddress=d"),
        ("/emailaddress=a/USERID=u/cn=Ann", "/emailAddress=a/UID=u/CN=Ann"),
        ("/DC=x+Email=y", "/DC=x+emailAddress=y"),
        ("/CN=a = E", "/CN=a = E"),
        ("/1.2.3=x", "/1.2.3=x"),
        ("/CN=host/x.org", "/CN=host/x.org"),
        ("/CN=host\\/x.org", "/CN=host/x.org"),  # as OpenSSL 3 has it
        ("/CN=host\\x2Fx.org", "/CN=host/x.org"),
        ('/CN=\\"Ann\\"', '/CN="Ann"'),
        ("/O=Box\\, Inc./CN=a\\+b", "/O=Box, Inc./CN=a+b"),
        ("CN=a,O=Box\\, Inc.,C=IT", "/C=IT/O=Box, Inc./CN=a"),
        ('C = IT, O = "Box, Inc.", CN = a', "/C=IT/O=Box, Inc./CN=a"),
        ("UID=ann,DC=box,DC=org", "/DC=org/DC=box/UID=ann"),
        ("EMAILADDRESS=a@b,CN=a,C=IT", "/C=IT/CN=a/emailAddress=a@b"),
        ("/CN=DOMAIN\\ada", "/CN=DOMAIN\\ada"),
    ],
)
def test_spellings(text: str, normal: str) -> None:
    assert oneline.normal(text) == normal
    assert oneline.normal(normal) == normal


@pytest.mark.parametrize(
    "text",
    [
        *("", "/", "Ann", "/Ann", "/CN", "CN=Ann", "CN=Ann,UID=ann", "O=Box,OU=x"),
        *(
            "/CN=\\xC3",
            "/CN=\\xE9",
            "/CN=\\x4",
            "/CN=\\xGG",
            "/CN=\udcff",
            "/CN=a\\x00b",
            "/CN=a\n/O=b",
        ),
        *("/O=x\\x2FCN=y", "/O=x\\/CN=y", "/CN=\\x5Cx41", "/O=Box /CN=a", "/XYZ=a", "/CN=a\\\\"),
        *("CN=a+UID=b,O=Box", "CN=#0c0161,O=Box", "CN=a\\zb,O=Box", 'CN="a,O=Box', "CN=a,,O=Box"),
        "\ufeff/CN=a",
    ],
)
def test_what_is_nobodys_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"name|known|UTF-8|told") as caught:
        oneline.normal(text)
    assert str(caught.value).isascii() or "«" in str(caught.value)


def test_a_backslash_before_an_escape_of_ours_is_refused() -> None:
    """A line would have two in a row, which are an escaped one."""
    with pytest.raises(RejectedError, match="looks escaped"):
        oneline.value("a\\\u00a1")


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.data())
def test_whatever_is_escaped(text: str, data: st.DataObject) -> None:
    """A value that a certificate may have is the same with any of its bytes escaped, and no value
    that is not in a line is read from it."""
    try:
        line = f"/O=Box/CN={oneline.value(text)}"
    except RejectedError:
        with pytest.raises(ValueError, match="name"):
            oneline.normal("/O=Box/CN=" + "".join(f"\\x{byte:02x}" for byte in text.encode()))
        return
    assert oneline.normal(line) == line
    cut = data.draw(st.integers(0, len(text)))
    spelled = "".join(f"\\x{byte:02x}" for byte in text[:cut].encode()) + text[cut:]
    assert oneline.normal(f"/O=Box/CN={spelled}") == line
    assert oneline.normal(f"/O=Box/CN={text}") == line


@pytest.mark.parametrize("form", ["RFC2253", "oneline", "RFC2253,-esc_msb"])
def test_as_openssl_prints_it(common: Grid, form: str) -> None:
    name = '/C=IT/O=Box, "Inc." + <x>/CN=René; a=b'
    user = common.user(name)
    argv = ["openssl", "x509", "-noout", "-subject", "-nameopt", form, "-inform", "DER"]
    said = subprocess.run(argv, input=user.chain[0], capture_output=True, check=True)
    subject = said.stdout.decode().strip().removeprefix("subject=")
    assert oneline.normal(subject) == names.dn_of(user.chain[0]) == oneline.normal(name)


def test_wildcards() -> None:
    wild = {"*": ".*", "?": r"(?:\\x..\\x..|.)"}
    fits = oneline.matcher("/C=IT/CN=R?n*\\x2a", wild).fullmatch
    for name in ("Ren*", "R\\xC3\\xA9n x*"):
        assert fits(f"/C=IT/CN={name}")
    for name in ("Ren", "Ren x", "Rn*"):
        assert not fits(f"/C=IT/CN={name}")
    assert oneline.matcher("/*", wild).fullmatch("/CN=x")
    for broken in ("*/CN=x", "/CN=\ufdd0"):
        with pytest.raises(ValueError, match=r"name|none"):
            oneline.matcher(broken, wild)
