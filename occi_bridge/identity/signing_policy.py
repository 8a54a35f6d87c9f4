"""Which names each CA may sign: the signing_policy files beside the CAs' certificates.

The format is Globus's, an EACL, as the IGTF distributes it:

    access_id_CA   X509    '/C=IT/O=INFN/CN=INFN CA'
    pos_rights     globus  CA:sign
    cond_subjects  globus  '"/C=IT/O=INFN/*" "/C=IT/O=INFN/CN=INFN CA"'

`<hash>.signing_policy` belongs to the certificates `<hash>.0`, `<hash>.1`, …; in the patterns * is
any text and ? one character. A CA without such a file may sign any name.
"""

import hashlib
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from wnodes_lrms.errors import RejectedError
from wnodes_lrms.tls import oneline
from wnodes_lrms.tls.context import stamp_of

_LINE = re.compile(r"""(\w+)\s+(\w+)\s+(?:'([^']*)'|"([^"]*)"|([^\s'"]+))\s*""")

# In a name as it is compared, one character beyond ASCII is several bytes, each as \xHH.
_WILDCARDS = {"*": ".*", "?": r"(?:\\x[C-F][0-9A-F](?:\\x[89AB][0-9A-F])+|.)"}
Result = TypeVar("Result")

# The patterns of each CA in a file, by its name.
Policy = dict[str, tuple[re.Pattern[str], ...]]

log = logging.getLogger(__name__)


class SigningPolicies:
    """The policies of all CAs in a folder, read again when anything there changes."""

    def __init__(self, ca_dir: str) -> None:
        self._folder = ca_dir
        self._stamp: object = None
        self._policies: dict[bytes, Policy | None] = {}  # by the CA's SHA-256; None: unreadable

    def renew(self) -> None:
        """Look at the folder; blocks for some milliseconds where it has changed."""
        stamp = stamp_of(self._folder)
        if stamp != self._stamp:
            self._policies = _read(Path(self._folder))
            self._stamp = stamp

    def require(self, ca: bytes, ca_name: str, name: str) -> None:
        """Raises RejectedError if the CA (its certificate, DER) may not sign this name."""
        digest = hashlib.sha256(ca).digest()
        if digest not in self._policies:
            return
        policy = self._policies[digest]
        if policy is None:
            raise RejectedError(f"the signing policy of {ca_name} can't be read, see the log")
        if not any(pattern.fullmatch(name) for pattern in policy.get(ca_name, ())):
            raise RejectedError(f"by its signing policy {ca_name} may not sign {name}")


def parse(text: str) -> Policy:
    """The policies in a file. Raises ValueError, with the line, if it is malformed."""
    policy: Policy = {}
    ca, may_sign = "", False
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        match = _LINE.fullmatch(bare)
        if not match:
            raise ValueError(f"line {number}: not of the form «keyword authority value»")
        keyword = match[1]
        value = next(group for group in match.groups()[2:] if group is not None)
        if keyword == "access_id_CA":
            ca, may_sign = _named(number, oneline.normal, value), False
            policy.setdefault(ca, ())
        elif not ca:
            raise ValueError(f"line {number}: {keyword} before any access_id_CA")
        elif keyword == "pos_rights":
            may_sign = may_sign or value == "CA:sign"
        elif keyword == "cond_subjects" and may_sign:
            subjects = re.findall(r'"([^"]*)"', value) or value.split()
            policy[ca] += tuple(_named(number, _matcher, subject) for subject in subjects)
    return policy


def read(path: Path) -> Policy:
    """The same of a file. Raises OSError, ValueError."""
    return parse(path.read_text("utf-8-sig", "surrogateescape"))


def _matcher(subject: str) -> re.Pattern[str]:
    return oneline.matcher(subject, _WILDCARDS)


def _named(number: int, read: Callable[[str], Result], text: str) -> Result:
    """What is read, with the line in the fault where it can't be."""
    try:
        return read(text)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error


def _read(folder: Path) -> dict[bytes, Policy | None]:
    policies: dict[bytes, Policy | None] = {}
    for path in sorted(folder.glob("*.signing_policy")):
        policy: Policy | None = None
        try:
            policy = read(path)
        except (OSError, ValueError) as error:
            log.error("%s: %s; whom its CA vouches for is refused", path, error)
        for certificate in folder.glob(f"{path.stem}.[0-9]*"):
            try:
                ca = x509.load_pem_x509_certificate(certificate.read_bytes())
            except (OSError, ValueError) as error:
                log.error("%s: %s", certificate, error)
            else:
                digest = hashlib.sha256(ca.public_bytes(Encoding.DER)).digest()
                policies[digest] = policy
    return policies
