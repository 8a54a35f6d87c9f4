"""What the bait's HTTPS service and the leases need on this node, for `wnodes doctor`."""

import pwd
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from wnodes_lrms.config.load import Config
from wnodes_lrms.doctor import Check, fault, ok, warning
from wnodes_lrms.tls import check


def checks(config: Config) -> Iterator[Check]:
    """Nothing where the cloud service is not in use."""
    api = config.api
    if not api.clients:
        return
    now = check.today()
    yield check.certificate("api", api.certificate, api.key, api.ca_dir, now)
    yield check.lists_of_the_revoked("api", api.ca_dir, now)
    yield from (_order_key(Path(path)) for path in api.order_keys)
    if not api.order_keys:
        yield fault(
            "order keys",
            "none: every order is refused",
            "set order_keys in [api]: see docs/install-cloud.md",
        )
    yield from _accounts(config.cloud.accounts)
    pool = config.cloud.pool
    for key in ("volumes", "saved") if pool.kind == "directory" and pool.shared else ("saved",):
        folder = Path(getattr(config.cloud, key))
        if not folder.is_dir():
            yield warning(
                f"cloud {key}",
                f"{folder} is not there; the first use makes it, on this node alone",
                "mount the folder that all nodes share",
            )


def _order_key(path: Path) -> Check:
    name = "order keys"
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        return fault(name, f"{path}: {error}", "copy the bridge's public key there")
    if not isinstance(key, Ed25519PublicKey):
        return fault(name, f"{path} is no Ed25519 key", "copy the bridge's public key there")
    return ok(name, str(path))


def _accounts(accounts: tuple[str, ...]) -> Iterator[Check]:
    name = "lease accounts"
    if not accounts:
        yield fault(name, "none: no lease can be submitted", "set accounts in [cloud]")
    known = [user.pw_name for user in pwd.getpwall()]
    for account in accounts:
        stem = account.removesuffix("*")
        found = [n for n in known if n == account or (account != stem and n.startswith(stem))]
        yield (
            ok(name, f"{account}: {', '.join(found[:5])}{' …' if len(found) > 5 else ''}")
            if found
            else fault(name, f"{account}: this node knows no such user", "make the user here too")
        )
