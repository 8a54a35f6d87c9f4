"""LSC files: whose attribute certificates a VO's folder vouches for.

`<voms_dir>/<vo>/<host>.lsc` has a line with the name of the VO's server, then one with its CA's;
whoever likes goes on with further pairs, of the CA and the CA above it. Other chains may follow
after a line `------ NEXT CHAIN ------`. Names may be quoted.
"""

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from occi_bridge.identity.fqans import Host, Vo
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.tls import names, oneline

_NEXT = "------ NEXT CHAIN ------"


def require(voms_dir: Path, vo: Vo, host: Host, chain: Sequence[x509.Certificate]) -> None:
    """Raises RejectedError if the VO's folder does not vouch for this chain of its server."""
    try:
        allowed = parse((voms_dir / vo / f"{host}.lsc").read_text())
    except FileNotFoundError:
        raise RejectedError(f"no LSC file names a server {host} of the VO {vo}") from None
    except (OSError, ValueError):
        raise RejectedError(f"the LSC file of the server {host} of {vo} can't be read") from None
    pairs = [names.one_line(name) for each in chain for name in (each.subject, each.issuer)]
    if not any(pairs[: len(told)] == told for told in allowed):
        raise RejectedError(f"{pairs[0]} is not the server {host} of the VO {vo}, by its LSC file")


def parse(text: str) -> list[list[str]]:
    """The chains in a file: each the names of a server, its CA, and so on.

    Raises ValueError for a name that can't be read.
    """
    chains: list[list[str]] = [[]]
    for line in text.splitlines():
        bare = line.strip()
        if bare == _NEXT:
            chains.append([])
        elif bare and not bare.startswith("#"):
            chains[-1].append(oneline.normal(bare.strip('"')))
    return [chain for chain in chains if len(chain) >= 2]
