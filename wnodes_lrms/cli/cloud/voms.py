"""VOMS proxies by the programs of voms-clients, and what these say put into words."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from wnodes_lrms.cli.cloud.programs import ask
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.run import run

_PACKAGE = "voms-clients"
_SPEC = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(:/[A-Za-z0-9._/=-]+)?")
_DEADLINE = 30.0  # seconds, of programs that ask nobody
_TIMES = ("-timeleft", "-actimeleft")
_BITS = "2048"  # the least that the service takes
# What voms-proxy-init says (2.1), and what it means.
_MEANINGS: Sequence[tuple[str, str]] = (
    (r"Unable to find user certificate or key: (.*)", r"there is no certificate or key at \1"),
    (
        r"Couldn't find valid credentials",
        "certificate and key can't be used: are they there, and is the key yours alone"
        " (chmod 400)?",
    ),
    (r"Your certificate expired (.*)", r"your certificate expired on \1"),
    (r"VOMS Server for (\S+) not known", r"no server of VO \1 is known here: see /etc/vomses"),
    (r"user key and certificate don't match", "your key is not your certificate's"),
    (r"(?i)bad (password|decrypt)|maybe_wrong|password read", "the pass phrase is not the key's"),
    (r"Unable to satisfy|User unknown to this VO", "the VO refuses what you ask"),
    (r"Cannot write proxy to: (.*)", r"the proxy can't be written to \1"),
    (
        r"None of the contacted servers for (\S+) were capable",
        r"no server of VO \1 answers with your attributes",
    ),
)
_NOISE = re.compile(r"\.*Cannot open fileFilename=.*|Function:.*|\s*File=.*|[.+*]+|oid exists")


def get(spec: str, place: Path, cert: Path | None, key: Path | None) -> None:
    """Make a proxy with the attributes of a VO (`spec`: VO[:FQAN]), at a place of one's own.

    What is there stays until the new one is whole. Raises RejectedError.
    """
    if not _SPEC.fullmatch(spec):
        raise RejectedError(f"«{spec}» is not a VO, nor VO:/vo/group/Role=role")
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".wnodes-") as folder:
        new = Path(folder, "proxy")
        argv = ["voms-proxy-init", "-rfc", "-bits", _BITS, "-voms", spec, "-out", str(new)]
        argv += ["-cert", str(cert)] if cert else []
        argv += ["-key", str(key or cert)] if cert else []
        ended = ask(argv, _PACKAGE)
        if ended.status != 0 or not new.exists():
            raise RejectedError(f"no proxy of VO {spec}: {meaning(ended.errors + ended.output)}")
        new.replace(place)


def left(place: Path) -> float:
    """For how many seconds a proxy and its attributes are still good. Raises WnodesError."""
    told = [run([*_info(place), which], deadline=_DEADLINE) for which in _TIMES]
    return min(float(number) for number in " ".join(told).split())


def attributes(place: Path) -> list[str]:
    """A proxy's FQANs. Raises WnodesError."""
    return run([*_info(place), "-fqan"], deadline=_DEADLINE).split()


def destroy(place: Path) -> None:
    """Overwrite and remove a proxy. Raises WnodesError."""
    run(["voms-proxy-destroy", "-file", str(place)], deadline=_DEADLINE)


def meaning(said: str) -> str:
    """What a program of voms-clients has said, in words; else its last line that says something."""
    for pattern, words in _MEANINGS:
        found = re.search(pattern, said)
        if found:
            return found.expand(words).strip()
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if not _NOISE.fullmatch(line)]
    return telling[-1] if telling else "voms-proxy-init does not say why"


def _info(place: Path) -> list[str]:
    # Attributes are shown as they are: the service verifies them, and only it has to.
    return ["voms-proxy-info", "-dont-verify-ac", "-file", str(place)]
