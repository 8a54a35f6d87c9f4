"""The few settings of a site's slurm.conf that the hooks stand on. Read only, never written."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wnodes_lrms.errors import ConfigError

_PAIR = re.compile(r'(?:^|\s)(\w+)\s*=\s*("[^"]*"|\S+)')
_INCLUDE = re.compile(r"include\s+(\S+)", re.IGNORECASE)
_DEEPEST_INCLUDE = 10


@dataclass(frozen=True)
class SlurmConf:
    """What slurm.conf says, Include files and all; relative hooks are beside it, as for Slurm."""

    path: Path
    prolog: str | None = None
    epilog: str | None = None
    submit_plugins: tuple[str, ...] = ()
    features: frozenset[str] = frozenset()

    def hook(self, name: str) -> str | None:
        """The value of Prolog= or Epilog=, absolute: a path or a glob pattern."""
        value = {"prolog": self.prolog, "epilog": self.epilog}[name]
        return str(self.path.parent / value) if value else None


def read(path: Path) -> SlurmConf:
    """Read slurm.conf and what it includes. The last value of a key holds, as in Slurm.

    Raises ConfigError if a file can't be read."""
    settings: dict[str, str] = {}
    features: set[str] = set()
    for line in _lines(path, path.parent, 0):
        pairs = {key.lower(): value.strip('"') for key, value in _PAIR.findall(line)}
        if "nodename" in pairs:
            named = pairs.get("features", pairs.get("feature", ""))
            features.update(word for word in named.split(",") if word)
        else:
            settings.update(pairs)
    plugins = settings.get("jobsubmitplugins", "").split(",")
    return SlurmConf(
        path,
        settings.get("prolog"),
        settings.get("epilog"),
        tuple(plugin for plugin in plugins if plugin),
        frozenset(features),
    )


def _lines(path: Path, folder: Path, depth: int) -> Iterator[str]:
    """The logical lines: comments gone, continuations joined, includes put in."""
    if depth > _DEEPEST_INCLUDE:
        raise ConfigError(str(path), ["files include each other without end"])
    try:
        text = path.read_text(errors="surrogateescape")
    except OSError as error:
        raise ConfigError(str(path), [f"can't be read: {error.strerror}"]) from error
    for physical in re.sub(r"\\\n", "", text).splitlines():
        line = re.split(r"(?<!\\)#", physical, maxsplit=1)[0].strip()
        if included := _INCLUDE.fullmatch(line):
            yield from _lines(folder / included[1], folder, depth + 1)
        elif line:
            yield line
