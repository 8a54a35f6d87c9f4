"""The parts of certificates that the small CA makes: names, extensions, times, files."""

import datetime
import ipaddress
import os
import re
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

Life = tuple[float, float]  # seconds from now
_TYPES = {
    "C": NameOID.COUNTRY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "L": NameOID.LOCALITY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "CN": NameOID.COMMON_NAME,
    "DC": NameOID.DOMAIN_COMPONENT,
    "UID": NameOID.USER_ID,
    "emailAddress": NameOID.EMAIL_ADDRESS,
}


def one_line(name: x509.Name) -> str:
    """A name as grid files have it."""
    short = {oid: key for key, oid in _TYPES.items()}
    return "".join(f"/{short[each.oid]}={each.value!s}" for each in name)


def parse_name(name: str | x509.Name) -> x509.Name:
    """A name as cryptography has it, from one line."""
    if isinstance(name, x509.Name):
        return name
    parts = [part.partition("=") for part in re.split(r"/(?=[A-Za-z]+=)", name)[1:]]
    return x509.Name([x509.NameAttribute(_TYPES[key], value) for key, _, value in parts])


def begin(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPublicKey, life: Life
) -> x509.CertificateBuilder:
    """A certificate to be, with all that every certificate has."""
    first, last = times(life)
    serial = x509.random_serial_number()
    return x509.CertificateBuilder(issuer, subject, key, serial, first, last)


def as_ca(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    """The same as a CA's."""
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    return builder.add_extension(usage(signs_certificates=True), True)


def with_key_ids(
    builder: x509.CertificateBuilder, key: rsa.RSAPrivateKey, issuer: rsa.RSAPrivateKey
) -> x509.CertificateBuilder:
    """voms-proxy-fake wants them."""
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
    return builder.add_extension(own, False).add_extension(above, False)


def usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """What the key may be used for."""
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not signs_certificates,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def host_name(name: str) -> x509.GeneralName:
    """A host by its name or its address."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def proxy_cert_info(language: str, path_length: int | None) -> bytes:
    """The value of a proxy's ProxyCertInfo (RFC 3820, 3.8)."""
    limit = b"" if path_length is None else der(0x02, bytes([path_length]))
    return der(0x30, limit, der(0x30, der_oid(language)))


def der(tag: int, *parts: bytes) -> bytes:
    """A value in DER, made of these."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def der_oid(dotted: str) -> bytes:
    """An object identifier in DER."""
    first, second, *rest = map(int, dotted.split("."))
    content = bytes([40 * first + second])
    for number in rest:
        digits = [number & 0x7F]
        while number := number >> 7:
            digits.append(number & 0x7F | 0x80)
        content += bytes(reversed(digits))
    return der(0x06, content)


def times(life: Life) -> tuple[datetime.datetime, datetime.datetime]:
    """As points in time, without the fractions that certificates can't have."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    first, last = (now + datetime.timedelta(seconds=seconds) for seconds in life)
    return first, last


def pem(certificate: x509.Certificate) -> bytes:
    """The certificate as text."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: rsa.RSAPrivateKey) -> bytes:
    """The key as text, in the form that old grid clients read."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def write_private(path: Path, data: bytes) -> None:
    """A file for its owner only."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def replace(path: Path, data: bytes) -> None:
    """In one step, as whoever reads it may be about to."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(data)
    fresh.replace(path)
