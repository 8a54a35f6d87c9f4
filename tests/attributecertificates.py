"""Attribute certificates, and proxies to bear them, as no VOMS server and no client makes them.

Everything is written by hand, so that everything can be wrong. What is not said is as it should be.
"""

import datetime
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID, ObjectIdentifier

from contrib.site.box.ca import INHERIT_ALL, Credential
from contrib.site.box.certificates import Life, begin, der, der_oid, times, usage

ATTRIBUTES = ObjectIdentifier("1.3.6.1.4.1.8005.100.100.5")
PROXY_CERT_INFO = ObjectIdentifier("1.3.6.1.5.5.7.1.14")
AUTHORITY_KEY, TARGETS, NEVER_REVOKED = "2.5.29.35", "2.5.29.55", "2.5.29.56"
_FQANS, CERTIFICATES = "1.3.6.1.4.1.8005.100.100.4", "1.3.6.1.4.1.8005.100.100.10"

MD5 = ("1.2.840.113549.1.1.4", hashes.MD5())  # noqa: S303 (that is what is refused)
SHA1 = ("1.2.840.113549.1.1.5", hashes.SHA1())  # noqa: S303
SHA224 = ("1.2.840.113549.1.1.14", hashes.SHA224())
SHA256 = ("1.2.840.113549.1.1.11", hashes.SHA256())
UNKNOWN = ("1.2.840.113549.1.1.99", hashes.SHA256())
Algorithm = tuple[str, hashes.HashAlgorithm]
NULL = b"\x05\x00"


def sequence(*parts: bytes) -> bytes:
    """A SEQUENCE, or a SEQUENCE OF."""
    return der(0x30, *parts)


def integer(number: int) -> bytes:
    """An INTEGER."""
    bits = max(number, ~number).bit_length()  # of -128, 7: with its sign it is one byte
    return der(0x02, number.to_bytes(bits // 8 + 1, "big", signed=True))


def extension(kind: str, value: bytes, *, critical: bool = False) -> bytes:
    """An extension of a certificate."""
    return sequence(der_oid(kind), *([b"\x01\x01\xff"] if critical else []), der(0x04, value))


def general_name(name: x509.Name) -> bytes:
    """A GeneralNames with one directoryName."""
    return sequence(der(0xA4, name.public_bytes()))


def target(*hosts: str) -> bytes:
    """The value of an extension that says for which hosts it is, as VOMS writes it."""
    each = [sequence(der(0xA0, der(0x86, host.encode()))) for host in hosts]
    return sequence(sequence(*each))


@dataclass(frozen=True)
class Made:
    """An attribute certificate of a user's, to be signed by a server."""

    holder: Credential
    server: Credential
    uri: str = "testvo://voms.example:15000"
    fqans: Sequence[bytes] = (b"/testvo/Role=pilot", b"/testvo")
    kind: Algorithm = SHA256
    inner: str = ""  # another algorithm's OID than that which signs
    version: int = 1
    serial: int = 0  # of the holder's certificate; 0: their own
    holder_name: x509.Name | None = None
    issuer_name: x509.Name | None = None
    life: Life = (-60, 3600)
    more: Sequence[bytes] = ()  # extensions
    without: Sequence[str] = ()  # the OIDs of those that it lacks
    attributes: int = 1  # how many of VOMS's
    unused: int = 0  # bits of the signature
    signature: bytes = b""  # another one

    def but(self, **changes: object) -> "Made":
        """The same with these changes."""
        return replace(self, **changes)  # type: ignore[arg-type]

    @property
    def data(self) -> bytes:
        """As it is carried by a proxy."""
        signed = self._signed()
        signature = self.signature or sign(self.server.key, signed, self.kind)
        return sequence(signed, _algorithm(self.kind), der(0x03, bytes([self.unused]), signature))

    def _signed(self) -> bytes:
        own, server = self.holder.certificate, self.server.certificate
        first, last = (_time(moment) for moment in times(self.life))
        holder = der(
            0xA0,
            general_name(self.holder_name or own.issuer),
            integer(self.serial or own.serial_number),
        )
        values = sequence(*(der(0x04, fqan) for fqan in self.fqans))
        uri = der(0xA0, der(0x86, self.uri.encode()))
        attribute = sequence(der_oid(_FQANS), der(0x31, sequence(uri, values)))
        return sequence(
            integer(self.version),
            sequence(holder),
            der(0xA0, general_name(self.issuer_name or server.subject)),
            _algorithm((self.inner, self.kind[1]) if self.inner else self.kind),
            integer(7),
            sequence(first, last),
            sequence(*[attribute] * self.attributes),
            sequence(*self._extensions(), *self.more),
        )

    def _extensions(self) -> list[bytes]:
        chain = sequence(sequence(*self.server.chain))
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            self.server.certificate.public_key()  # type: ignore[arg-type]
        )
        values = {
            CERTIFICATES: chain,
            NEVER_REVOKED: NULL,
            AUTHORITY_KEY: identifier.public_bytes(),
        }
        return [
            extension(kind, value) for kind, value in values.items() if kind not in self.without
        ]


def sign(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, data: bytes, kind: Algorithm
) -> bytes:
    """A signature of this kind."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(kind[1]))
    return key.sign(data, padding.PKCS1v15(), kind[1])


def again(made: Credential, issuer: Credential, kind: Algorithm) -> Credential:
    """The same certificate, signed by its issuer with another digest."""
    return patched(made, issuer, _algorithm(SHA256), _algorithm(kind), kind)


def patched(
    made: Credential, issuer: Credential, old: bytes, new: bytes, kind: Algorithm = SHA256
) -> Credential:
    """The same certificate with some of its bytes replaced by as many, and signed again."""
    signed = made.certificate.tbs_certificate_bytes
    assert signed.count(old) == 1
    assert len(old) == len(new)
    signed = signed.replace(old, new)
    whole = sequence(signed, _algorithm(kind), der(0x03, b"\0", sign(issuer.key, signed, kind)))
    return Credential(x509.load_der_x509_certificate(whole), made.key, made.issuers)


def bearing(*made: Made, user: Credential | None = None) -> Credential:
    """A proxy with attribute certificates: of the first one's holder, if nothing else is said."""
    value = sequence(sequence(*(each.data for each in made)))
    of = user or made[0].holder
    return odd_proxy(of, more=[x509.UnrecognizedExtension(ATTRIBUTES, value)])


def info(language: str = INHERIT_ALL, *, path: bytes = b"", text: bytes | None = None) -> bytes:
    """The value of a ProxyCertInfo."""
    policy = [] if text is None else [der(0x04, text)]
    return sequence(path, sequence(der_oid(language), *policy))


def odd_proxy(
    issuer: Credential,
    cert_info: bytes | None = None,
    *,
    critical: bool = True,
    more: Sequence[x509.ExtensionType] = (),
    key_usage: x509.KeyUsage | None = None,
    key: rsa.RSAPrivateKey | None = None,
) -> Credential:
    """A proxy with this ProxyCertInfo, and with more extensions, none of them critical."""
    own = issuer.certificate.subject
    key = key or issuer.key
    number = x509.NameAttribute(NameOID.COMMON_NAME, str(secrets.randbelow(10**10)))
    name = x509.Name([*own.rdns, x509.RelativeDistinguishedName([number])])
    builder = begin(name, own, key.public_key(), (-300, 43200))
    said = x509.UnrecognizedExtension(PROXY_CERT_INFO, cert_info or info())
    builder = builder.add_extension(said, critical)
    builder = builder.add_extension(key_usage or usage(signs_certificates=False), True)
    for each in more:
        builder = builder.add_extension(each, False)
    certificate = builder.sign(issuer.key, hashes.SHA256())
    return Credential(certificate, key, (issuer.certificate, *issuer.issuers))


def fat_proxy(issuer: Credential, size: int, key: rsa.RSAPrivateKey | None = None) -> Credential:
    """A proxy that has so many bytes more than it needs."""
    more = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4.5"), bytes(size))
    return odd_proxy(issuer, more=[more], key=key)


def _algorithm(kind: Algorithm) -> bytes:
    of_rsa = kind[0].startswith("1.2.840.113549.")
    return sequence(der_oid(kind[0]), *([NULL] if of_rsa else []))


def _time(moment: datetime.datetime) -> bytes:
    return der(0x18, f"{moment:%Y%m%d%H%M%SZ}".encode())
