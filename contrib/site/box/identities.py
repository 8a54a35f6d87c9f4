"""Makes the grid of the site: a CA, hosts, users with their proxies, a VO, and who is who.

It runs by itself, in the project's own environment, as it needs `cryptography`:
`python -m box.identities`, for the site that $WNODES_SITE names. What is there already and good
for some hours more is left alone.
"""

import datetime
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from . import people
from .ca import Authority, Credential, new_key, proxy, voms_proxy, write_lsc
from .certificates import key_pem, write_private
from .grid import BASE, HOSTS, PASSWORD, SUBJECTS, VO, VOMS_HOST, Grid, host_name, user_name
from .issuer import CLIENT, claims, signer
from .layout import Memory, layout
from .ports import port

# Who is mapped to which local account, by their name, and by their first attribute.
ACCOUNTS = {"alice": "clouduser", "bob": "clouduser", "mallory": "clouduser", "trudy": "clouduser"}
BANNED, REVOKED = "mallory", "trudy"
VO_ACCOUNTS = {f"/{VO}/Role=pilot": "cloudpilot", f"/{VO}": "clouduser", f"/{VO}/*": "clouduser"}
FQANS = (f"/{VO}/Role=pilot", f"/{VO}")  # that the proxy in `site env` has
_FRESH = datetime.timedelta(hours=6)


def make(grid: Grid) -> None:
    """Make all that is missing; renew proxies that end soon, and the CRL."""
    authority = _authority(grid.ca)
    for host in HOSTS:
        _host(authority, grid, host)
    server = _voms_server(authority, grid)
    users = {name: _user(authority, grid, name) for name in ACCOUNTS}
    authority.revoke(users[REVOKED])
    authority.install(grid.certificates, subjects=[SUBJECTS])
    write_lsc(grid.vomsdir, VO, VOMS_HOST, server)
    _order_keys(grid)
    _issuer_key(grid)
    if not grid.issuer_secret.exists():
        write_private(grid.issuer_secret, CLIENT[1].encode())
    for path in (grid.host_key("bridge"), grid.order_key, grid.issuer_secret):
        shutil.chown(path, people.BRIDGE)
    for path in (grid.host_key("issuer"), grid.issuer_key):
        shutil.chown(path, people.NOBODY)
    _maps(grid, {name: user.dn for name, user in users.items()})
    for name in ("alice", "bob"):
        _proxies(grid, name, users[name], server)
        _pkcs12(grid, name, users[name])
    _token(grid)


def _authority(folder: Path) -> Authority:
    if not folder.exists():
        fresh = folder.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        Authority.make(f"{BASE}/CN=Box CA").save(fresh)
        fresh.chmod(0o700)
        fresh.rename(folder)
    return Authority.load(folder)


def _host(authority: Authority, grid: Grid, host: str) -> Credential:
    certificate, key = grid.host_certificate(host), grid.host_key(host)
    return _kept(authority, certificate, key, host_name(host), (host, "localhost", "127.0.0.1"))


def _voms_server(authority: Authority, grid: Grid) -> Credential:
    certificate, key = grid.voms_certificate, grid.voms_key
    return _kept(authority, certificate, key, host_name(VOMS_HOST), (VOMS_HOST,))


def _user(authority: Authority, grid: Grid, name: str) -> Credential:
    certificate, key = grid.user(name) / "usercert.pem", grid.user(name) / "userkey.pem"
    return _kept(authority, certificate, key, user_name(name))


def _kept(
    authority: Authority, certificate: Path, key: Path, name: str, hosts: Sequence[str] = ()
) -> Credential:
    """The credential in these files, which is made if its key, written last, is not there."""
    if not key.exists():
        certificate.parent.mkdir(parents=True, exist_ok=True)
        authority.issue(name, hosts=hosts).write(certificate, key)
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    assert isinstance(private, rsa.RSAPrivateKey)
    return Credential(x509.load_pem_x509_certificate(certificate.read_bytes()), private)


def _order_keys(grid: Grid) -> None:
    if not grid.order_key.exists():
        key = ed25519.Ed25519PrivateKey.generate()
        grid.order_public.write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        grid.order_key.touch(mode=0o600)
        grid.order_key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )


def _issuer_key(grid: Grid) -> None:
    if not grid.issuer_key.exists():
        write_private(grid.issuer_key, key_pem(new_key()))


def _token(grid: Grid) -> None:
    """A token of the one user who has no certificate."""
    path, memory = grid.token(people.GRACE), Memory(grid.site.root / "state.json")
    now = datetime.datetime.now(datetime.UTC)
    if path.exists():
        given: Any = {"verify_signature": False}
        end = jwt.decode(path.read_text(), options=given)["exp"]
        if end - now.timestamp() > _FRESH.total_seconds():
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    url, audience = (f"https://localhost:{port(memory, name)}" for name in ("issuer", "bridge"))
    life = int((now + datetime.timedelta(hours=24)).timestamp())
    given = claims(url, people.GRACE, audience, exp=life)
    write_private(path, signer(grid.issuer_key).sign(given).encode())


def _maps(grid: Grid, names: dict[str, str]) -> None:
    grid.pool.mkdir(exist_ok=True)
    _put(grid.grid_mapfile, [f'"{names[user]}" {account}' for user, account in ACCOUNTS.items()])
    _put(grid.voms_mapfile, [f'"{fqan}" {account}' for fqan, account in VO_ACCOUNTS.items()])
    _put(grid.ban_file, [f'"{names[BANNED]}"'])


def _put(path: Path, lines: Sequence[str]) -> None:
    """In one step: the bridge reads it at any time."""
    fresh = path.with_suffix(".new")
    fresh.write_text("".join(f"{line}\n" for line in lines))
    fresh.replace(path)


def _proxies(grid: Grid, name: str, user: Credential, server: Credential) -> None:
    if _ends_soon(grid.proxy(name)):
        proxy(user).write_bundle(grid.proxy(name))
    if _ends_soon(grid.voms_proxy(name)):
        grid.voms_proxy(name).unlink(missing_ok=True)
        voms_proxy(user, server, VO, FQANS, grid.voms_proxy(name))


def _pkcs12(grid: Grid, name: str, user: Credential) -> None:
    """For a browser."""
    if not grid.pkcs12(name).exists():
        locked = serialization.BestAvailableEncryption(PASSWORD.encode())
        packed = pkcs12.serialize_key_and_certificates(
            user.dn.encode(), user.key, user.certificate, None, locked
        )
        write_private(grid.pkcs12(name), packed)


def _ends_soon(bundle: Path) -> bool:
    if not bundle.exists():
        return True
    end = x509.load_pem_x509_certificate(bundle.read_bytes()).not_valid_after_utc
    return end - datetime.datetime.now(datetime.UTC) < _FRESH


if __name__ == "__main__":
    make(Grid(layout()))
