"""Attribute certificates (RFC 5755) in the form that VOMS gives them, as values. Pure.

Nothing is verified here: see voms.py.

A proxy bears them in an extension: SEQUENCE { SEQUENCE OF AttributeCertificate }. What VOMS adds to
the RFC (OIDs below 1.3.6.1.4.1.8005.100.100): the attribute .4, whose policyAuthority is the URI
vo://host:port and whose values are FQANs; the extension .10, with the server's certificate and
those above it. The RFC's limits hold: what is not read here is refused, not skipped, but for
extensions that are not critical.
"""

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier

from occi_bridge.identity import der, fqans
from occi_bridge.identity.fqans import Fqan, Host, Vo
from wnodes_lrms.errors import RejectedError

EXTENSION = ObjectIdentifier("1.3.6.1.4.1.8005.100.100.5")
_FQANS, _CERTIFICATES = "1.3.6.1.4.1.8005.100.100.4", "1.3.6.1.4.1.8005.100.100.10"
_TARGETS, _NEVER_REVOKED = "2.5.29.55", "2.5.29.56"
_URI = re.compile(r"([^/:]+)://([^/:]+):[0-9]{1,5}")
_TIME = re.compile(rb"[0-9]{14}Z")
_GENERAL_URI, _DIRECTORY = 0x86, 0xA4  # kinds of GeneralName
_STRINGS = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}

# A name for comparing, whatever kinds of strings it is made of: its RDNs, each of types and values.
Name = tuple[frozenset[tuple[str, str]], ...]


@dataclass(frozen=True)
class AttributeCertificate:
    """What one says, with nothing verified yet. Times are epoch seconds."""

    signed: bytes
    algorithm: str  # of the signature: an OID
    signature: bytes
    holder: Name  # who issued the holder's certificate; from VOMS also: the holder
    serial: int  # of the holder's certificate
    issuer: Name
    begins: float
    ends: float
    vo: Vo
    host: Host  # the VO's server
    fqans: tuple[Fqan, ...]
    certificates: tuple[bytes, ...]  # DER: the server's, and what is above it
    targets: tuple[str, ...] | None  # the hosts that it is for; None: all


def parse(extension: bytes) -> list[AttributeCertificate]:
    """All in a proxy's extension. Raises RejectedError, with the reason, if any is malformed."""
    try:
        sequence = der.only(der.only(extension, der.SEQUENCE), der.SEQUENCE)
        found = [_one(each) for each in der.each(sequence, der.SEQUENCE)]
        if not found:
            raise ValueError("there is none")
    except ValueError as error:
        raise RejectedError(f"an attribute certificate that can't be read: {error}") from error
    return found


def name_of(name: x509.Name) -> Name:
    """A certificate's name, to compare."""
    return tuple(
        frozenset((each.oid.dotted_string, str(each.value)) for each in rdn) for rdn in name.rdns
    )


def _one(content: bytes) -> AttributeCertificate:
    whole = der.Fields(content)
    info = whole.take(der.SEQUENCE)
    algorithm = whole.take(der.SEQUENCE)
    signature = der.bits(whole.take(der.BIT_STRING).content)
    whole.end()
    fields = der.Fields(info.content)
    if der.integer(fields.take(der.INTEGER).content) != 1:
        raise ValueError("it is not of version 2")
    holder, serial = _holder(fields.take(der.SEQUENCE).content)
    issuer = _directory_name(fields.take(0xA0).content)
    if fields.take(der.SEQUENCE).whole != algorithm.whole:
        raise ValueError("it names two algorithms for one signature")
    fields.take(der.INTEGER)
    begins, ends = map(_time, der.each(fields.take(der.SEQUENCE).content, der.GENERALIZED_TIME))
    vo, host, granted = _attributes(fields.take(der.SEQUENCE).content)
    extensions = _extensions(fields.take(der.SEQUENCE).content)
    fields.end()
    certificates = der.only(der.only(extensions[_CERTIFICATES], der.SEQUENCE), der.SEQUENCE)
    targets = extensions.get(_TARGETS)
    return AttributeCertificate(
        signed=info.whole,
        algorithm=der.oid(der.values(algorithm.content)[0].content),
        signature=signature,
        holder=holder,
        serial=serial,
        issuer=issuer,
        begins=begins,
        ends=ends,
        vo=vo,
        host=host,
        fqans=granted,
        certificates=tuple(each.whole for each in der.values(certificates)),
        targets=None if targets is None else tuple(_targets(targets)),
    )


def _holder(content: bytes) -> tuple[Name, int]:
    """By the issuer and number of their certificate; the RFC's other ways are not VOMS's."""
    fields = der.Fields(der.only(content, 0xA0))
    name = _directory_name(fields.take(der.SEQUENCE).whole)
    serial = der.integer(fields.take(der.INTEGER).content)
    fields.end()
    return name, serial


def _directory_name(general_names: bytes) -> Name:
    name = der.only(der.only(general_names, der.SEQUENCE), _DIRECTORY)
    rdns = der.each(der.only(name, der.SEQUENCE), der.SET)
    return tuple(frozenset(_part(each) for each in der.each(rdn, der.SEQUENCE)) for rdn in rdns)


def _part(content: bytes) -> tuple[str, str]:
    fields = der.Fields(content)
    kind = der.oid(fields.take(der.OID).content)
    [value] = der.values(content)[1:]
    if value.tag not in _STRINGS:
        raise ValueError("a name with a value that is no text")
    return kind, value.content.decode(_STRINGS[value.tag])


def _attributes(content: bytes) -> tuple[Vo, Host, tuple[Fqan, ...]]:
    found = []
    for attribute in der.each(content, der.SEQUENCE):
        fields = der.Fields(attribute)
        kind = der.oid(fields.take(der.OID).content)
        value = fields.take(der.SET).content
        fields.end()
        if kind == _FQANS:
            found.append(value)
    if len(found) != 1:
        raise ValueError("it has not just one attribute of VOMS's")
    fields = der.Fields(der.only(found[0], der.SEQUENCE))
    uri = der.only(fields.take(0xA0).content, _GENERAL_URI).decode("ascii")
    granted = [each.decode() for each in der.each(fields.take(der.SEQUENCE).content, 0x04)]
    fields.end()
    parts = _URI.fullmatch(uri)
    if not parts:
        raise ValueError(f"«{ascii(uri)[1:-1][:80]}» is not of the form vo://host:port")
    if not granted:
        raise ValueError("it has no FQAN")
    vo = fqans.vo(parts[1])
    return vo, fqans.host(parts[2]), fqans.of_vo(vo, granted)


def _extensions(content: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for extension in der.each(content, der.SEQUENCE):
        fields = der.Fields(extension)
        kind = der.oid(fields.take(der.OID).content)
        critical = fields.maybe(der.BOOLEAN)
        value = fields.take(der.OCTET_STRING).content
        fields.end()
        if kind in found:
            raise ValueError(f"it has the extension {kind} twice")
        if bool(critical) != (kind == _TARGETS):  # the only one that is, and it must be
            raise ValueError(f"its extension {kind} is {'' if critical else 'not '}critical")
        found[kind] = value
    for kind, what in ((_NEVER_REVOKED, "that it is never revoked"), (_CERTIFICATES, "its server")):
        if kind not in found:
            raise ValueError(f"it does not say {what}: there is no extension {kind}")
    return found


def _targets(extension: bytes) -> Sequence[str]:
    """Those given as a URI, which VOMS fills with the bare name of a host.

    In the RFC a target is a [0] or another way to name one, in VOMS a SEQUENCE with that in it.
    """
    targets = der.values(der.only(der.only(extension, der.SEQUENCE), der.SEQUENCE))
    ways = [way for each in targets for way in _ways(each)]
    named = [der.values(way.content) for way in ways if way.tag == 0xA0]
    return [
        name.content.decode("ascii") for each in named for name in each if name.tag == _GENERAL_URI
    ]


def _ways(target: der.Value) -> list[der.Value]:
    return der.values(target.content) if target.tag == der.SEQUENCE else [target]


def _time(content: bytes) -> float:
    if not _TIME.fullmatch(content):
        raise ValueError("a time that is not in its only form")
    read = datetime.datetime.strptime(content.decode(), "%Y%m%d%H%M%SZ")
    return read.replace(tzinfo=datetime.UTC).timestamp()
