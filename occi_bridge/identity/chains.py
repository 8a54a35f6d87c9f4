"""What is demanded of every chain of certificates, users' and VOMS servers' alike. Pure.

OpenSSL has verified it: signatures, times, CRLs, who is a CA, path lengths. How strong keys and
signatures must be is said here, once, and not left to how OpenSSL is configured on a host: 112
bits, the least that NIST SP 800-57 still allows, which is OpenSSL's security level 2.
"""

from collections.abc import Sequence
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import SignatureAlgorithmOID

from occi_bridge.identity.signing_policy import SigningPolicies
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.tls import names

_RSA, _EC, _DIGEST = 2048, 224, 224  # bits: the least
_EDWARDS = (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)


def require_strong(chain: Sequence[x509.Certificate]) -> None:
    """Raises RejectedError for a weak key, or a weak signature by any but the root of the chain."""
    for number, certificate in enumerate(chain):
        name = names.dn_of(certificate)
        if not _strong_key(certificate):
            raise RejectedError(f"the key of {name} is too weak: RSA needs {_RSA} bits, EC {_EC}")
        if number < len(chain) - 1 and not _strong_signature(certificate):
            raise RejectedError(f"the certificate of {name} is signed with a weak digest or none")


def require_names(chain: Sequence[x509.Certificate], policies: SigningPolicies) -> None:
    """Raises RejectedError if a CA may not sign the name that it did, by its signing policy."""
    for signed, by in pairwise(chain):
        ca = by.public_bytes(Encoding.DER)
        policies.require(ca, names.dn_of(by), names.dn_of(signed))


def is_ca(certificate: x509.Certificate) -> bool:
    """Whether it says that it is a CA's."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _strong_key(certificate: x509.Certificate) -> bool:
    try:
        return strong(certificate.public_key())
    except (UnsupportedAlgorithm, ValueError):
        return False


def strong(key: object) -> bool:
    """Whether it is a public key of a kind and size that can't be forged."""
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size >= _RSA
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.key_size >= _EC
    return isinstance(key, _EDWARDS)


def _strong_signature(certificate: x509.Certificate) -> bool:
    try:
        digest = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return False
    if digest is None:  # Edwards curves sign without one of their own
        return certificate.signature_algorithm_oid in (
            SignatureAlgorithmOID.ED25519,
            SignatureAlgorithmOID.ED448,
        )
    return digest.digest_size * 8 >= _DIGEST
