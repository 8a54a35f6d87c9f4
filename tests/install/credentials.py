"""What a site has from its CA and its VOs: a host certificate, trusted CAs, a user's VOMS proxy."""

import tempfile
from pathlib import Path

from contrib.site.box.ca import Authority, voms_proxy, write_lsc

VO = "atlas"
_BASE = "/C=IT/O=Example"
_SECURITY = "etc/grid-security"


def make(proxy: str) -> dict[str, tuple[bytes, int]]:
    """Files by name, each with its content and mode; `proxy` is the name of the user's.

    One host is bridge and node here, so one certificate names both.
    """
    authority = Authority.make(f"{_BASE}/CN=Example CA")
    host = authority.issue(
        f"{_BASE}/CN=bridge.example.org", hosts=("bridge.example.org", "hv1.example.org")
    )
    server = authority.issue(f"{_BASE}/CN=voms.example", hosts=("voms.example",))
    user = authority.issue(f"{_BASE}/CN=Alice")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority.install(folder / "certificates", subjects=[f"{_BASE}/*"])
        write_lsc(folder / "vomsdir", VO, "voms.example", server)
        host.write(folder / "hostcert.pem", folder / "hostkey.pem")
        voms_proxy(user, server, VO, [f"/{VO}"], folder / "proxy")
        files = {
            f"{_SECURITY}/{path.relative_to(folder)}": (path.read_bytes(), 0o644)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in ("proxy", "hostkey.pem")
        }
        files[f"{_SECURITY}/hostkey.pem"] = ((folder / "hostkey.pem").read_bytes(), 0o400)
        files[proxy] = ((folder / "proxy").read_bytes(), 0o600)
    return files
