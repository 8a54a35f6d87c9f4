"""Names of certificates as grid files have them: /C=IT/O=INFN/CN=Someone, in one line.

The one-line form is OpenSSL's X509_NAME_oneline up to 1.1: RDNs in order, short names of the types,
bytes that are not printable ASCII as \\xHH. (OpenSSL 3 escapes / and + in values, grid files do
not.) It is not injective: a value may look like a part of another name. Such names are refused, so
that two names never have one line.
"""

import re
from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID, ObjectIdentifier

from wnodes_lrms.errors import RejectedError

PROXY_CERT_INFO = ObjectIdentifier("1.3.6.1.5.5.7.1.14")  # RFC 3820, 3.8

# What the library raises for a certificate that it does not read.
_UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)

# OpenSSL's short names; other types are written as their number, as OpenSSL does.
_SHORT = {
    NameOID.BUSINESS_CATEGORY: "businessCategory",
    NameOID.COMMON_NAME: "CN",
    NameOID.COUNTRY_NAME: "C",
    NameOID.DN_QUALIFIER: "dnQualifier",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.EMAIL_ADDRESS: "emailAddress",
    NameOID.GENERATION_QUALIFIER: "generationQualifier",
    NameOID.GIVEN_NAME: "GN",
    NameOID.INITIALS: "initials",
    NameOID.LOCALITY_NAME: "L",
    NameOID.ORGANIZATION_IDENTIFIER: "organizationIdentifier",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.POSTAL_ADDRESS: "postalAddress",
    NameOID.POSTAL_CODE: "postalCode",
    NameOID.PSEUDONYM: "pseudonym",
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.STREET_ADDRESS: "street",
    NameOID.SURNAME: "SN",
    NameOID.TITLE: "title",
    NameOID.USER_ID: "UID",
    NameOID.X500_UNIQUE_IDENTIFIER: "x500UniqueIdentifier",
}

# What other programs write for the same type, in maps and in policies of CAs.
_SPELLINGS = {"e": "emailAddress", "email": "emailAddress", "userid": "UID"}
_SPELLINGS |= {short.lower(): short for short in _SHORT.values()}

_LOOKS_LIKE_A_PART = re.compile(r"[/+][A-Za-z0-9.]+=")
_PART = re.compile(r"([/+])([A-Za-z0-9.]+)=")


def dn_of(certificate: bytes | x509.Certificate) -> str:
    """The subject's name in one line; a certificate is DER.

    Raises RejectedError where it can't be read, or has no name that is safe to compare.
    """
    if isinstance(certificate, bytes):
        certificate = parse(certificate)
    return one_line(certificate.subject)


def parse(der: bytes) -> x509.Certificate:
    """A certificate. Raises RejectedError where it can't be read, its names and extensions too."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        _ = certificate.subject, certificate.issuer, certificate.extensions
    except _UNREADABLE as error:
        raise RejectedError(f"a certificate that can't be read: {error}") from error
    return certificate


def one_line(name: x509.Name) -> str:
    """A name in one line. Raises RejectedError if it is empty or another could have the same."""
    text = ""
    for rdn in name.rdns:
        for number, attribute in enumerate(rdn):
            key = _SHORT.get(attribute.oid, attribute.oid.dotted_string)
            text += f"{'+' if number else '/'}{key}={_value(attribute.value)}"
    if not text:
        raise RejectedError("a certificate without a name")
    return text


def _value(value: str | bytes) -> str:
    if isinstance(value, bytes):
        raise RejectedError("a name with a value that is no text")
    if any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in value):
        raise RejectedError(f"a name with control characters: {value!a}")
    if _LOOKS_LIKE_A_PART.search(value):
        raise RejectedError(f"a name with a value that looks like another part: {value!a}")
    if "\\x" in value:
        raise RejectedError(f"a name with a value that looks escaped: {value!a}")
    return "".join(
        c if " " <= c <= "~" else "".join(f"\\x{byte:02X}" for byte in c.encode()) for c in value
    )


def normal(text: str) -> str:
    """A one-line name as it would be written here: Email and E become emailAddress, and so on.

    Characters beyond ASCII become \\xHH.
    """
    keyed = _PART.sub(lambda part: f"{part[1]}{_SPELLINGS.get(part[2].lower(), part[2])}=", text)
    return "".join(
        c if c < "\x7f" else "".join(f"\\x{byte:02X}" for byte in c.encode()) for c in keyed
    )


def is_proxy(certificate: x509.Certificate) -> bool:
    """Whether it is a proxy: its extension tells, never its name."""
    return any(extension.oid == PROXY_CERT_INFO for extension in certificate.extensions)


def end_entity(chain: Sequence[bytes]) -> x509.Certificate:
    """The user's own certificate in a chain (DER, leaf first): the first that is no proxy.

    Raises RejectedError if there is none.
    """
    for der in chain:
        certificate = parse(der)
        if not is_proxy(certificate):
            return certificate
    raise RejectedError("a chain without a certificate of a person or host")
