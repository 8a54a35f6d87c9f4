"""Where a container is: one folder, of which most is kept between runs."""

import os
from dataclasses import dataclass
from pathlib import Path

from ..box.errors import SiteError

SUITES = ("bookworm", "trixie")  # Debian 12 and 13
HOST = "hv1"  # its host name; with the domain, those that the documentation's examples have
DOMAIN = "example.org"
ALIASES = ("bridge",)  # that it answers to as well
ADDRESS = "10.0.2.100"  # what slirp4netns gives; its own name server is .3
NAME_SERVER = "10.0.2.3"
SOURCES = "/usr/src/wnodes-lrms"  # this repository's files, inside


@dataclass(frozen=True)
class Place:
    """The container's folder and what is where in it."""

    suite: str
    folder: Path

    @property
    def root(self) -> Path:
        """The files as they were installed; nothing that runs in the container changes them."""
        return self.folder / "root"

    @property
    def recipe(self) -> Path:
        """Written when the root is complete: of what recipe it is."""
        return self.folder / "recipe"

    @property
    def archives(self) -> Path:
        """Packages of the distribution that were downloaded; kept."""
        return self.folder / "archives"

    @property
    def pip(self) -> Path:
        """What pip downloaded; kept."""
        return self.folder / "pip"

    @property
    def log(self) -> Path:
        """What the first process says, and what made the root; kept."""
        return self.folder / "log"

    @property
    def state(self) -> Path:
        """The process that is to be ended."""
        return self.folder / "state.json"

    def layer(self, *, kept: bool) -> Path:
        """What the container has changed in its files: gone with it, or for the next time."""
        return self.folder / ("kept" if kept else "layer")


def place(suite: str) -> Place:
    """That of this Debian: in $WNODES_CONTAINER, or /var/lib/wnodes-container, with its name.

    Raises SiteError if it can't be there.
    """
    base = os.environ.get("WNODES_CONTAINER") or "/var/lib/wnodes-container"
    # Such a path ends up in the options of a mount.
    if not all(c.isalnum() or c in "/._-" for c in base) or base[0] != "/":
        raise SiteError(
            f"a container can't be in «{base}»",
            "set WNODES_CONTAINER to an absolute path of letters, digits, . _ -",
        )
    return Place(suite, Path(f"{base}-{suite}"))
