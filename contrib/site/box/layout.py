"""Where everything of the site is: one folder, and one file that remembers what `up` chose."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import SiteError

NODES = ("hv1", "hv2")
IMAGE = "small_debian_x86_64"
DEBIAN_IMAGE = "debian12_linux_x86_64"
BARE_IMAGE = "bare_debian_x86_64"  # the same disk, prepared by libguestfs and not by a seed
REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Layout:
    """The site's folder and what is where in it."""

    root: Path

    @property
    def etc(self) -> Path:
        """Configuration of the batch system and of the product."""
        return self.root / "etc"

    @property
    def run(self) -> Path:
        """What is of no use once the processes are gone: sockets, keys, libvirt's own state."""
        return self.root / "run"

    @property
    def spool(self) -> Path:
        """What a crash must not lose: the batch system's jobs, the baits' ledgers and disks."""
        return self.root / "spool"

    @property
    def cache(self) -> Path:
        """What libvirt found out about QEMU, which takes it seconds; kept by `down`."""
        return self.root / "cache"

    @property
    def log(self) -> Path:
        """One file a process; kept by `down`."""
        return self.root / "log"

    @property
    def images(self) -> Path:
        """The built image; kept by `down`."""
        return self.root / "images"

    @property
    def debian(self) -> Path:
        """The large image, with cloud-init, if someone has built it: see contrib/images."""
        return self.images / "debian"

    @property
    def home(self) -> Path:
        """Homes of the site's users; the machines see it by virtiofs."""
        return self.root / "home"

    @property
    def slurm_conf(self) -> Path:
        """Slurm's configuration; job_submit.lua has to be in the same folder."""
        return self.etc / "slurm" / "slurm.conf"

    @property
    def wnodes_config(self) -> Path:
        """The product's configuration, one for both nodes."""
        return self.etc / "wnodes.toml"

    @property
    def hooks(self) -> Path:
        """What the batch system runs of the product."""
        return self.etc / "hooks"

    @property
    def munge_socket(self) -> Path:
        """Where munge listens."""
        return self.run / "munge" / "socket"

    @property
    def libvirt_uri(self) -> str:
        """How clients reach this libvirtd and not the machine's."""
        return f"qemu:///system?socket={self.run}/libvirt/libvirt-sock"

    def bait_socket(self, node: str) -> Path:
        """The control socket of a node's bait."""
        return self.run / node / "bait.sock"

    def environment(self) -> dict[str, str]:
        """What any shell needs to use the site, whatever its batch system."""
        return {
            "WNODES_SITE": str(self.root),
            "WNODES_CONFIG": str(self.wnodes_config),
            "LIBVIRT_DEFAULT_URI": self.libvirt_uri,
        }


def layout() -> Layout:
    """The site named by $WNODES_SITE, or /var/lib/wnodes-site. Raises SiteError if it can't be."""
    root = os.environ.get("WNODES_SITE") or "/var/lib/wnodes-site"
    # Such a path ends up in shell text, in Slurm's configuration and in a URI; and the name of
    # a UNIX socket has at most 107 characters, of which the site needs some forty.
    if not all(c.isalnum() or c in "/._-" for c in root) or len(root) > 60 or root[0] != "/":
        raise SiteError(
            f"the site can't be in «{root}»",
            "set WNODES_SITE to an absolute path of letters, digits, . _ -, of 60 at most",
        )
    return Layout(Path(root))


class Memory:
    """A small JSON file: processes, ports, and what of the machine `up` has to put back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, key: str, default: Any = None) -> Any:
        """What was remembered under this name."""
        return self._values.get(key, default)

    def set(self, key: str, value: Any) -> None:
        """Remember it, on disk, before this returns."""
        self._values[key] = value
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(self._values, indent=1) + "\n")
        fresh.replace(self._path)


@contextmanager
def locked(site: Layout) -> Iterator[None]:
    """Only one `up` or `down` at a time. Raises SiteError if there is another."""
    with (site.root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SiteError(
                f"another `site up` or `site down` works on {site.root}", "wait until it ends"
            ) from None
        yield
