"""An issuer's public keys: a JSON Web Key Set (RFC 7517), of which only good ones count. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from occi_bridge.identity.chains import strong
from wnodes_lrms.errors import RejectedError

Public = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

_MOST = 100  # keys of one issuer
_LARGEST = 8192  # bits of an RSA key: to verify with larger ones takes long
_READERS: Mapping[str, Any] = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})


@dataclass(frozen=True)
class Key:
    """A public key, and the signatures that it may be used for."""

    public: Public
    algorithms: frozenset[str]


def keys(document: Mapping[str, Any]) -> dict[str, Key]:
    """The keys of a set by their ids (kid); those that can't sign tokens are left out.

    Of two with one id neither counts: which of them is meant nobody can tell. Raises RejectedError
    if it is no key set.
    """
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise RejectedError("is no set of keys")
    if len(listed) > _MOST:
        raise RejectedError(f"has more than {_MOST} keys")
    ids = [each.get("kid") for each in listed if isinstance(each, dict)]
    found = {}
    for each in listed:
        if not isinstance(each, dict) or ids.count(each.get("kid")) > 1:
            continue
        key = _key(each)
        if key and isinstance(each.get("kid"), str):
            found[each["kid"]] = key
    return found


def _key(each: Mapping[str, Any]) -> Key | None:
    operations = each.get("key_ops", ["verify"])
    if each.get("use", "sig") != "sig" or not isinstance(operations, list):
        return None
    reader = _READERS.get(str(each.get("kty")))
    if not reader or "verify" not in operations or "d" in each:  # d: a private key, for all to see
        return None
    try:
        public = reader.from_jwk(dict(each))
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
    usable = _algorithms(public)
    named = each.get("alg")
    if named is not None:
        usable &= {str(named)}
    return Key(public, usable) if usable else None


def _algorithms(public: object) -> frozenset[str]:
    if not strong(public):
        return frozenset()
    if isinstance(public, rsa.RSAPublicKey):
        return _RSA if public.key_size <= _LARGEST else frozenset()
    if isinstance(public, ec.EllipticCurvePublicKey):
        return frozenset({_CURVES[public.curve.name]} if public.curve.name in _CURVES else ())
    return frozenset({"EdDSA"} if isinstance(public, ed25519.Ed25519PublicKey) else ())
