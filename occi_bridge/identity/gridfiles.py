"""The grid's authorization files: who is banned, and which local account a user has.

A line is `"/C=IT/O=INFN/CN=Someone" account`, a # begins a comment line; a name may be spelled in
all the ways that oneline.normal() reads. Files are read at the start, and again when they change.
What is wrong is logged with file and line, and opens no door: a broken mapping maps nobody, and
while the ban file is broken, what it said before holds too.
"""

import codecs
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from occi_bridge.identity import grants
from wnodes_lrms.order import Account
from wnodes_lrms.tls.context import stamp

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)+)"\s*(.*)')
_BARE = re.compile(r"(\S+)\s*(.*)")
_ACCOUNT = TypeAdapter[str](Account)

log = logging.getLogger(__name__)


class Mapping(NamedTuple):
    """Whom a line of a map is about, and the account it gives: .name is a pool, "" is broken."""

    where: str
    who: str
    account: str


class _File:
    """A file, and whether it is another one than when it was last looked at."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._stamp: object = None

    def changed(self) -> bool:
        now = stamp(self.path)
        changed = now != self._stamp
        self._stamp = now
        return changed

    def look(self) -> None:
        """Read it if it is another one."""
        if self.changed():
            self._load()

    def _load(self) -> None:
        raise NotImplementedError


class Bans(_File):
    """The ban file: a DN or an FQAN a line; * in a DN is any text, /vo/* all of a VO."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._patterns: frozenset[str] | None = None  # None: nothing is known, nobody may enter
        self._globs: list[re.Pattern[str]] = []

    def refusal(self, dn: str, fqans: Sequence[str]) -> str | None:
        """Why this user may not enter; None if they may."""
        self.look()
        if self._patterns is None:
            return f"nobody may enter: {self.path} is broken"
        banned = next((each for each in self._patterns if grants.fits(each, dn, fqans)), None)
        if banned or any(glob.fullmatch(dn) for glob in self._globs):
            return f"banned: {self.path} names {dn if banned in (None, dn) else banned}"
        return None

    def _load(self) -> None:
        before = self._patterns
        try:
            patterns, faults = bans(self.path)
        except FileNotFoundError:
            if before is None:
                self._patterns = frozenset()
            else:
                log.error("%s is gone: what it said holds; an empty one bans nobody", self.path)
            return
        except OSError as error:
            log.error("%s can't be read: %s; what it said before holds", self.path, error.strerror)
            return
        for fault in faults:
            log.error("%s; what the file said before holds too", fault)
        if faults and before is None:
            return
        self._patterns = frozenset(patterns) | (before if faults and before else frozenset())
        self._globs = [_glob(each) for each in self._patterns if grants.is_dn(each) and "*" in each]
        log.info("%s: %d banned", self.path, len(self._patterns))


class Maps(_File):
    """A grid-mapfile (of DNs) or a voms-mapfile (of FQANs): who has which account."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._mappings: dict[str, Mapping] = {}

    def account(self, dn: str, fqans: Sequence[str]) -> Mapping | None:
        """The first line for the DN, or for the first FQAN that has one; None if there is none."""
        self.look()
        if dn in self._mappings:
            return self._mappings[dn]
        for fqan in fqans:
            for pattern, mapping in self._mappings.items():
                if grants.fits(pattern, "", [fqan]):
                    return mapping
        return None

    def _load(self) -> None:
        self._mappings = {}
        try:
            self._mappings, faults = mappings(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            log.error("%s can't be read, it maps nobody: %s", self.path, error.strerror)
            return
        for fault in faults:
            log.error("%s", fault)
        log.info("%s: %d mappings", self.path, len(self._mappings))


def bans(path: Path) -> tuple[set[str], list[str]]:
    """Who is banned by a file, and what is wrong in it, line by line. Raises OSError."""
    patterns, faults = set(), []
    for where, line in _lines(path):
        quoted = _QUOTED.fullmatch(line)
        text, rest = (quoted[1], quoted[2]) if quoted else (line, "")
        try:
            if rest and not rest.startswith("#"):
                raise ValueError("there is text after the closing quote")
            bare = text if quoted else re.split(r"\s#", text)[0]
            patterns.add(_who(bare))
            if bare != text and grants.is_dn(bare):  # the # may belong to the name
                patterns.add(_who(text))
        except ValueError as error:
            faults.append(f"{where}: {error}")
    return patterns, faults


def mappings(path: Path) -> tuple[dict[str, Mapping], list[str]]:
    """Who has which account by a file, the first line of each; and what is wrong in it.

    Raises OSError.
    """
    found: dict[str, Mapping] = {}
    faults = []
    for where, line in _lines(path):
        match = _QUOTED.fullmatch(line) or _BARE.fullmatch(line)
        try:
            if not match or match[1].startswith('"'):
                raise ValueError('not of the form "name" account')
            who = _who(match[1])
        except ValueError as error:
            faults.append(f"{where}: {error}; the line is ignored")
            continue
        account = match[2].split("#")[0].split(",")[0].strip()
        try:
            if _ACCOUNT.validate_python(account.removeprefix(".")) == "root":
                raise ValueError("root")
        except (ValidationError, ValueError):
            # The line stays as one that gives nothing: a later one might give more.
            said = ascii(account)[1:-1]
            faults.append(f"{where}: «{said}» can't be an account; {who} has none")
            account = ""
        found.setdefault(who, Mapping(where, who, account))
    return found, faults


def _lines(path: Path) -> list[tuple[str, str]]:
    """The lines that say something, with their places."""
    found = []
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    for number, raw in enumerate(data.splitlines(), 1):
        line = raw.decode(errors="surrogateescape").strip()
        if line and not line.startswith("#"):
            found.append((f"{path}:{number}", line))
    return found


def _who(text: str) -> str:
    """A DN or FQAN as it is compared. Raises ValueError if it is none."""
    if text.strip() == "*":
        raise ValueError("«*» is no DN and no FQAN")
    return grants.pattern(text.strip())


def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")))
