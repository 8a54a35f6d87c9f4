"""Certificates, and whose they are: names in the one-line form of tls/oneline.py."""

from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ObjectIdentifier

from wnodes_lrms.errors import RejectedError
from wnodes_lrms.tls import oneline

PROXY_CERT_INFO = ObjectIdentifier("1.3.6.1.5.5.7.1.14")  # RFC 3820, 3.8

# What the library raises for a certificate that it does not read.
_UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


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
        for place, attribute in enumerate(rdn):
            number = attribute.oid.dotted_string
            key = oneline.SHORT.get(number, number)
            text += f"{'+' if place else '/'}{key}={_value(attribute.value)}"
    if not text:
        raise RejectedError("a certificate without a name")
    return text


def _value(value: str | bytes) -> str:
    if isinstance(value, bytes):
        raise RejectedError("a name with a value that is no text")
    return oneline.value(value)


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


def owner(chain: Sequence[bytes]) -> str:
    """The DN of the end entity of a chain; empty where it can't be told. For logs and answers."""
    try:
        return dn_of(end_entity(chain))
    except RejectedError:
        return ""
