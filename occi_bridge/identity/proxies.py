"""What OpenSSL takes and a grid service must not: the second look at a client's verified chain.

Proxies are told by their ProxyCertInfo (RFC 3820), never by their names. OpenSSL has verified
signatures, times and CRLs; what a proxy's policy says is for the application.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import NameOID

from occi_bridge.identity import attribute_certificate, chains, der
from occi_bridge.identity.signing_policy import SigningPolicies
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.tls import names

_MOST = 8  # proxies in a chain
_INHERIT_ALL = "1.3.6.1.5.5.7.21.1"  # RFC 3820, 3.8.2
_INDEPENDENT = "1.3.6.1.5.5.7.21.2"
_LIMITED = "1.3.6.1.4.1.3536.1.1.1.9"  # Globus: may move data, may not start anything
_CALLED_PROXY = ("proxy", "limited proxy")  # as Globus's first proxies were, before the RFC


@dataclass(frozen=True)
class Credential:
    """What a chain that may be used says."""

    dn: str  # the end entity's
    expires: float  # epoch seconds: the first end of any of its certificates
    attributes: bool  # there are VOMS attributes, to be verified


def judge(chain: Sequence[bytes], policies: SigningPolicies) -> Credential:
    """A verified chain (DER, leaf first, root last) as the credential of a person or host.

    Raises RejectedError, with the reason, for what may not be used here.
    """
    certificates = [names.parse(each) for each in chain]
    proxies = 0
    while proxies < len(certificates) and names.is_proxy(certificates[proxies]):
        proxies += 1
    if proxies > _MOST:
        raise RejectedError(f"a chain of {proxies} proxies: {_MOST} are the most")
    if len(certificates) < proxies + 2:
        raise RejectedError("a chain without a certificate of a person or host, signed by a CA")
    if any(names.is_proxy(each) for each in certificates[proxies:]):
        raise RejectedError("a proxy above the certificate of a person or host")
    for depth, proxy in enumerate(certificates[:proxies]):
        _judge_proxy(proxy, certificates[depth + 1], depth)
    own = certificates[proxies]
    dn = _judge_own(own)
    chains.require_strong(certificates)
    chains.require_names(certificates[proxies:], policies)
    return Credential(
        dn=dn,
        expires=min(each.not_valid_after_utc.timestamp() for each in certificates),
        attributes=any(
            extension.oid == attribute_certificate.EXTENSION
            for each in certificates[: proxies + 1]
            for extension in each.extensions
        ),
    )


def _judge_proxy(proxy: x509.Certificate, issuer: x509.Certificate, below: int) -> None:
    """One proxy; `below` it are as many others."""
    name = names.dn_of(proxy)
    language, longest = _proxy_cert_info(proxy)
    if language == _LIMITED:
        raise RejectedError("a limited proxy: it may not start VMs; make a full one")
    if language == _INDEPENDENT:
        raise RejectedError("an independent proxy: it has none of its owner's rights")
    if language != _INHERIT_ALL:
        raise RejectedError(f"a proxy with a policy that is not known here: {language}")
    if longest is not None and below > longest:
        raise RejectedError(f"a proxy of a proxy that allows {longest} below itself, not {below}")
    rdns, above = proxy.subject.rdns, issuer.subject.rdns
    common = [attribute.oid for attribute in rdns[-1]]
    if rdns[:-1] != above or common != [NameOID.COMMON_NAME]:
        raise RejectedError(f"a proxy whose name is not its issuer's and a CN: {name}")


def _judge_own(own: x509.Certificate) -> str:
    dn = names.dn_of(own)
    if chains.is_ca(own):
        raise RejectedError(f"a CA's own certificate: {dn}")
    last = [str(attribute.value).lower() for attribute in own.subject.rdns[-1]]
    if any(value in _CALLED_PROXY for value in last):
        raise RejectedError(f"a certificate that is no proxy but is called one: {dn}")
    return dn


def _proxy_cert_info(proxy: x509.Certificate) -> tuple[str, int | None]:
    """The language of the proxy's policy and its pCPathLenConstraint.

    ProxyCertInfo ::= SEQUENCE { pCPathLenConstraint INTEGER OPTIONAL, proxyPolicy SEQUENCE {
    policyLanguage OBJECT IDENTIFIER, policy OCTET STRING OPTIONAL } }; critical (RFC 3820, 3.8),
    and without a policy's text where the language says all (3.8.2).
    """
    extension = proxy.extensions.get_extension_for_oid(names.PROXY_CERT_INFO)
    if not extension.critical:
        raise RejectedError("a proxy whose ProxyCertInfo is not critical")
    try:
        info = der.Fields(der.only(extension.value.public_bytes(), der.SEQUENCE))
        longest = info.maybe(der.INTEGER)
        policy = der.Fields(info.take(der.SEQUENCE).content)
        info.end()
        language = der.oid(policy.take(der.OID).content)
        text = policy.maybe(der.OCTET_STRING)
        policy.end()
        below = None if longest is None else der.integer(longest.content)
    except ValueError as error:
        raise RejectedError(f"a proxy whose ProxyCertInfo can't be read: {error}") from error
    if text and language in (_INHERIT_ALL, _INDEPENDENT):
        raise RejectedError("a proxy whose policy has a text that its language does not allow")
    return language, below
