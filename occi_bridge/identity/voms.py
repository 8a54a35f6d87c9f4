"""Judges the VOMS attributes in a chain of certificates: RFC 5755, and what VOMS adds to it.

libvomsapi is not asked: it demands less, and lets the server choose by its own URI where its trust
is read (docs/security.md).
"""

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from occi_bridge.identity import attribute_certificate, chains, lsc
from occi_bridge.identity.anchors import Anchors
from occi_bridge.identity.attribute_certificate import AttributeCertificate, name_of
from occi_bridge.identity.fqans import Fqan, Vo
from occi_bridge.identity.signing_policy import SigningPolicies
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.tls import names

_AHEAD = 300.0  # seconds that a server's clock may be ahead of ours, as in libvomsapi
_MOST = 200  # FQANs: of their longest, what fits into an answer
_RSA: dict[str, hashes.HashAlgorithm] = {
    "1.2.840.113549.1.1.11": hashes.SHA256(),
    "1.2.840.113549.1.1.12": hashes.SHA384(),
    "1.2.840.113549.1.1.13": hashes.SHA512(),
}
_ECDSA: dict[str, hashes.HashAlgorithm] = {
    "1.2.840.10045.4.3.2": hashes.SHA256(),
    "1.2.840.10045.4.3.3": hashes.SHA384(),
    "1.2.840.10045.4.3.4": hashes.SHA512(),
}


@dataclass(frozen=True)
class Attributes:
    """What one attribute certificate says, verified."""

    vo: Vo
    fqans: tuple[Fqan, ...]
    until: float  # epoch seconds


class Judge:
    """Knows the VOs' servers (LSC files) and the CAs by their folders."""

    def __init__(self, voms_dir: str, ca_dir: str, *, crls: bool) -> None:
        """crls: every CA of a server's chain needs a valid one. Raises OSError without OpenSSL."""
        self._voms_dir = Path(voms_dir)
        self._anchors = Anchors(ca_dir, crls=crls)
        self._policies = SigningPolicies(ca_dir)
        self._policies.renew()
        self._host = socket.gethostname()

    def verify(self, chain: Sequence[bytes]) -> list[Attributes]:
        """The attributes in a user's verified chain (DER, leaf first), of all its VOs.

        They are those of the proxy nearest to the leaf that has any: it stands for those below, and
        what another above it has is superseded, as in VOMS. Raises RejectedError if there are none,
        or if any of them is not as it should be.
        """
        certificates = [names.parse(each) for each in chain]
        own = names.end_entity(chain)
        borne = [
            extension.value.public_bytes()
            for each in certificates[: certificates.index(own) + 1]
            for extension in each.extensions
            if extension.oid == attribute_certificate.EXTENSION
        ]
        if not borne:
            raise RejectedError("there is no attribute certificate")
        found = [self._judge(each, own) for each in attribute_certificate.parse(borne[0])]
        if sum(len(each.fqans) for each in found) > _MOST:
            raise RejectedError(f"more than {_MOST} FQANs")
        return found

    def _judge(self, given: AttributeCertificate, own: x509.Certificate) -> Attributes:
        now = time.time()
        if given.begins > now + _AHEAD or given.begins > given.ends:
            raise RejectedError("the attribute certificate is not yet valid")
        if given.ends <= now:
            raise RejectedError("the attribute certificate has expired")
        if given.targets is not None and self._host not in given.targets:
            raise RejectedError(f"the attribute certificate is for other hosts than {self._host}")
        holders = (name_of(own.issuer), name_of(own.subject))
        if given.serial != own.serial_number or given.holder not in holders:
            raise RejectedError("the attribute certificate was granted to a different certificate")
        chain = self._server(given)
        lsc.require(self._voms_dir, given.vo, given.host, chain)
        _require_signature(given, chain[0])
        ends = [each.not_valid_after_utc.timestamp() for each in chain]
        return Attributes(given.vo, given.fqans, min(given.ends, *ends))

    def _server(self, given: AttributeCertificate) -> list[x509.Certificate]:
        """The verified chain of the server. Raises RejectedError if it may not be one."""
        if not given.certificates:
            raise RejectedError("the attribute certificate is without its server's")
        server, *others = given.certificates
        try:
            verified = self._anchors.chain(server, others)
        except RejectedError as error:
            raise RejectedError(f"the VOMS server's certificate: {error}") from error
        chain = [names.parse(each) for each in verified]
        name = names.dn_of(chain[0])
        chains.require_strong(chain)
        chains.require_names(chain, self._policies)
        if given.issuer != name_of(chain[0].subject):
            raise RejectedError(
                f"the attribute certificate is not {name}'s, who should have signed"
            )
        if chains.is_ca(chain[0]) or not _may_sign(chain[0]):
            raise RejectedError(f"{name} may not sign attribute certificates")
        return chain


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    except x509.ExtensionNotFound:
        return True


def _require_signature(given: AttributeCertificate, server: x509.Certificate) -> None:
    key = server.public_key()
    try:
        if isinstance(key, rsa.RSAPublicKey) and given.algorithm in _RSA:
            digest = _RSA[given.algorithm]
            return key.verify(given.signature, given.signed, padding.PKCS1v15(), digest)
        if isinstance(key, ec.EllipticCurvePublicKey) and given.algorithm in _ECDSA:
            return key.verify(given.signature, given.signed, ec.ECDSA(_ECDSA[given.algorithm]))
    except InvalidSignature:
        raise RejectedError("the attribute certificate's signature is wrong") from None
    raise RejectedError(f"a signature of the kind {given.algorithm}: it is weak or not known here")
