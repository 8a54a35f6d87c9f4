"""What `wnodes doctor` looks at of a TLS service's own files: the same for bait and bridge."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from wnodes_lrms.doctor import Check, fault, ok, warning
from wnodes_lrms.errors import ConfigError
from wnodes_lrms.tls.context import server_context
from wnodes_lrms.tls.names import dn_of

_SOON = timedelta(days=14)


def certificate(section: str, certificate: str, key: str, ca_dir: str, now: datetime) -> Check:
    """Whether a service can run with these files, and for how much longer."""
    name = f"{section} certificate"
    remedy = f"see certificate, key and ca_dir in [{section}]"
    try:
        server_context(certificate, key, ca_dir, proxies=False, require=True)
        own = x509.load_pem_x509_certificate(Path(certificate).read_bytes())
        known = secret(name, key)
    except (ConfigError, OSError, ValueError) as error:
        return fault(name, str(error), remedy)
    if known:
        return known
    left = own.not_valid_after_utc - now
    seen = f"{dn_of(own)}, until {own.not_valid_after_utc:%Y-%m-%d}"
    if left < timedelta(0):
        return fault(name, f"{seen}: expired", "renew it; it is read again by itself")
    if left < _SOON:
        return warning(name, seen, "renew it; it is read again by itself")
    return ok(name, seen)


def secret(name: str, path: str) -> Check | None:
    """The fault of a file with a secret that every user of this host can read; None if there is
    none. Raises OSError."""
    mode = Path(path).stat().st_mode
    if not mode & stat.S_IRWXO:
        return None
    return fault(
        name,
        f"{path}: every user of this host may read it (mode {stat.S_IMODE(mode):04o})",
        f"chmod o= {path}, and replace it: others may have read it",
    )


def lists_of_the_revoked(section: str, ca_dir: str, now: datetime) -> Check:
    """Whether the CRLs that lie beside the CAs are still valid; an old one refuses everybody."""
    name = f"{section} CRLs"
    files = sorted(Path(ca_dir).glob("*.r[0-9]*"))
    old = []
    for file in files:
        try:
            data = file.read_bytes()
            form = x509.load_pem_x509_crl if b"-----BEGIN" in data else x509.load_der_x509_crl
            until = form(data).next_update_utc
        except (OSError, ValueError) as error:
            return fault(name, f"{file}: {error}", "run fetch-crl")
        if until and until < now:
            old.append(file.name)
    if old:
        return fault(
            name,
            f"{ca_dir}: out of date: {', '.join(old)}; who has them is refused",
            "run fetch-crl",
        )
    if not files:
        return warning(
            name, f"{ca_dir} has none: a revoked certificate is taken", "run fetch-crl regularly"
        )
    return ok(name, f"{len(files)} in {ca_dir}")


def today() -> datetime:
    """Now, as certificates tell the time."""
    return datetime.now(UTC)
