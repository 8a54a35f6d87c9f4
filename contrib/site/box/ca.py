"""A small certification authority: users, hosts, proxies, VOMS servers and their attributes.

For the site in a box and for the tests; real sites have their CA elsewhere. In short:

    authority = Authority.make("/C=IT/O=Box/CN=Box CA")
    authority.install(certificates)                      # the folder that X509_CERT_DIR names
    alice = authority.issue("/C=IT/O=Box/CN=Alice")      # a user
    alice.write(home / "usercert.pem", home / "userkey.pem")
    host = authority.issue("/C=IT/O=Box/CN=localhost", hosts=("localhost", "127.0.0.1"))
    server = authority.issue("/C=IT/O=Box/CN=voms.example", hosts=("voms.example",))
    write_lsc(vomsdir, "testvo", "voms.example", server)
    proxy(alice).write_bundle(home / "proxy.pem")        # RFC 3820
    voms_proxy(alice, server, "testvo", ["/testvo/Role=pilot", "/testvo"], home / "voms.pem")

To go on with one another day: `authority.save(folder)` and `Authority.load(folder)`.
Names are one-line, as /C=IT/O=Box/CN=…; times of life are seconds from now, (begin, end).
"""

import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from .certificates import (
    Life,
    as_ca,
    begin,
    host_name,
    key_pem,
    one_line,
    parse_name,
    pem,
    proxy_cert_info,
    replace,
    times,
    usage,
    with_key_ids,
    write_private,
)
from .process import run

_YEAR = 365 * 86400.0
_DAY = 86400.0
_PROXY_CERT_INFO = ObjectIdentifier("1.3.6.1.5.5.7.1.14")

# Languages of a proxy's policy: RFC 3820, and Globus's for «may not start jobs».
INHERIT_ALL = "1.3.6.1.5.5.7.21.1"
INDEPENDENT = "1.3.6.1.5.5.7.21.2"
LIMITED = "1.3.6.1.4.1.3536.1.1.1.9"


@dataclass(frozen=True)
class Credential:
    """A certificate with its key, and the certificates from there up to the CA's, without it."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey
    issuers: tuple[x509.Certificate, ...] = ()

    def write(self, certificate: Path, key: Path) -> None:
        """As two files: the certificate with its issuers, and the key, for its owner only."""
        certificate.write_bytes(b"".join(pem(each) for each in (self.certificate, *self.issuers)))
        write_private(key, key_pem(self.key))

    def write_bundle(self, path: Path) -> None:
        """As one file, in the order of proxies: certificate, key, issuers."""
        parts = [pem(self.certificate), key_pem(self.key), *map(pem, self.issuers)]
        write_private(path, b"".join(parts))

    @property
    def dn(self) -> str:
        """The certificate's name in one line."""
        return one_line(self.certificate.subject)

    @property
    def chain(self) -> tuple[bytes, ...]:
        """DER of the certificate and its issuers."""
        certificates = (self.certificate, *self.issuers)
        return tuple(each.public_bytes(serialization.Encoding.DER) for each in certificates)


@dataclass
class Authority:
    """The CA: its own certificate and key, and the serial numbers that it has revoked."""

    own: Credential
    revoked: set[int] = field(default_factory=set)

    @classmethod
    def make(cls, name: str | x509.Name, key: rsa.RSAPrivateKey | None = None) -> "Authority":
        """A new one, good for ten years, that signs itself."""
        subject, key = parse_name(name), key or new_key()
        builder = begin(subject, subject, key.public_key(), (-_DAY, 10 * _YEAR))
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = as_ca(builder).add_extension(identifier, False)
        return cls(Credential(builder.sign(key, hashes.SHA256()), key))

    @classmethod
    def load(cls, folder: Path) -> "Authority":
        """The one that `save` has put there."""
        certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        serials = (folder / "revoked").read_text().split()
        return cls(Credential(certificate, key), {int(serial) for serial in serials})

    def save(self, folder: Path) -> None:
        """Keep key, certificate and what is revoked in a folder of its own."""
        folder.mkdir(parents=True, exist_ok=True)
        self.own.write(folder / "ca.pem", folder / "ca.key")
        (folder / "revoked").write_text("".join(f"{serial}\n" for serial in sorted(self.revoked)))

    def sub(self, name: str | x509.Name, key: rsa.RSAPrivateKey | None = None) -> "Authority":
        """An intermediate CA."""
        key = key or new_key()
        own = self.own.certificate
        builder = begin(parse_name(name), own.subject, key.public_key(), (-_DAY, 5 * _YEAR))
        builder = with_key_ids(as_ca(builder), key, self.own.key)
        certificate = builder.sign(self.own.key, hashes.SHA256())
        return Authority(Credential(certificate, key, (certificate,)))

    def issue(
        self,
        name: str | x509.Name,
        *,
        hosts: Sequence[str] = (),
        life: Life = (-3600, _YEAR),
        key: rsa.RSAPrivateKey | None = None,
    ) -> Credential:
        """A certificate for a user, or for hosts with these names and addresses.

        A host's is good for both ends of a connection.
        """
        key = key or new_key()
        own = self.own.certificate
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = begin(parse_name(name), own.subject, key.public_key(), life)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        builder = builder.add_extension(usage(signs_certificates=False), True)
        builder = with_key_ids(builder, key, self.own.key)
        if hosts:
            uses.append(ExtendedKeyUsageOID.SERVER_AUTH)
            names = x509.SubjectAlternativeName([host_name(host) for host in hosts])
            builder = builder.add_extension(names, False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), False)
        certificate = builder.sign(self.own.key, hashes.SHA256())
        return Credential(certificate, key, self.own.issuers)

    def revoke(self, credential: Credential) -> None:
        """Take a certificate back: from the next CRL on it is no good."""
        self.revoked.add(credential.certificate.serial_number)

    def crl(self, life: Life = (-3600, 30 * _DAY)) -> bytes:
        """A list of what is revoked (PEM), good for this time."""
        first, last = times(life)
        builder = x509.CertificateRevocationListBuilder(self.own.certificate.subject, first, last)
        for serial in sorted(self.revoked):
            entry = x509.RevokedCertificateBuilder(serial, first).build()
            builder = builder.add_revoked_certificate(entry)
        signed = builder.sign(self.own.key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    def install(
        self, folder: Path, *, crl: bytes | None = b"", subjects: Sequence[str] = ()
    ) -> None:
        """Put it among the trusted CAs: certificate, CRL, signing policy, under its hash.

        crl: another one than that of now; None: none. subjects: the names that it may sign, as
        "/C=IT/O=Box/*"; without any there is no signing policy.
        """
        folder.mkdir(parents=True, exist_ok=True)
        stem = folder / self.hash()
        replace(stem.with_suffix(".0"), pem(self.own.certificate))
        if crl is not None:
            replace(stem.with_suffix(".r0"), crl or self.crl())
        if subjects:
            replace(stem.with_suffix(".signing_policy"), self._signing_policy(subjects))

    def hash(self) -> str:
        """The name under which OpenSSL looks for it in a folder."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(pem(self.own.certificate))
            file.flush()
            return run(["openssl", "x509", "-hash", "-noout", "-in", file.name]).strip()

    def _signing_policy(self, subjects: Sequence[str]) -> bytes:
        patterns = " ".join(f'"{subject}"' for subject in subjects)
        lines = (
            f"access_id_CA   X509    '{self.own.dn}'",
            "pos_rights     globus  CA:sign",
            f"cond_subjects  globus  '{patterns}'",
        )
        return "".join(f"{line}\n" for line in lines).encode()


def new_key() -> rsa.RSAPrivateKey:
    """A fresh key; VOMS wants RSA."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def proxy(
    issuer: Credential,
    *,
    language: str = INHERIT_ALL,
    path_length: int | None = None,
    life: Life = (-300, _DAY / 2),
    name: x509.Name | None = None,
    key: rsa.RSAPrivateKey | None = None,
) -> Credential:
    """A proxy of RFC 3820 for a credential, which may be a proxy itself.

    language: what its policy says (an OID). name: another one than the issuer's with a CN more.
    """
    key = key or new_key()
    common = x509.NameAttribute(NameOID.COMMON_NAME, str(secrets.randbelow(10**10)))
    above = issuer.certificate.subject
    subject = name or x509.Name([*above.rdns, x509.RelativeDistinguishedName([common])])
    info = x509.UnrecognizedExtension(_PROXY_CERT_INFO, proxy_cert_info(language, path_length))
    certificate = (
        begin(subject, above, key.public_key(), life)
        .add_extension(usage(signs_certificates=False), True)
        .add_extension(info, True)
        .sign(issuer.key, hashes.SHA256())
    )
    return Credential(certificate, key, (issuer.certificate, *issuer.issuers))


def voms_proxy(
    user: Credential,
    server: Credential,
    vo: str,
    fqans: Sequence[str],
    path: Path,
    *options: str,
) -> None:
    """Write a proxy with a VO's attributes, as its VOMS server would sign them.

    Real voms-proxy-fake makes it; `options` are more of its own, such as -limited. Raises
    SiteError with what it says.
    """
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        user.write(folder / "usercert.pem", folder / "userkey.pem")
        server.write(folder / "hostcert.pem", folder / "hostkey.pem")
        asked = [word for fqan in fqans for word in ("-fqan", fqan)]
        run(
            [
                *("voms-proxy-fake", "-quiet", "-rfc", "-hours", "12", "-voms", vo),
                *("-cert", str(folder / "usercert.pem"), "-key", str(folder / "userkey.pem")),
                *("-hostcert", str(folder / "hostcert.pem")),
                *("-hostkey", str(folder / "hostkey.pem")),
                *("-uri", "voms.example:15000", "-certdir", text),  # any folder: it only looks
                *("-out", str(path), *asked, *options),
            ],
            env={"HOME": text},
        )


def write_lsc(vomsdir: Path, vo: str, host: str, server: Credential) -> None:
    """Trust a VOMS server of a VO: its name and its CA's, in the folder of the VO."""
    folder = vomsdir / vo
    folder.mkdir(parents=True, exist_ok=True)
    issuer = one_line(server.certificate.issuer)
    replace(folder / f"{host}.lsc", f"{server.dn}\n{issuer}\n".encode())
