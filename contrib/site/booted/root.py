"""Makes the files of a Debian, once: its base, and the batch system of a site that is there.

Packages come from where this machine has its own from, with its settings of apt and pip, and
with the CAs that it trusts.
"""

import hashlib
import platform
import re
import shutil
import tempfile
from pathlib import Path

from ..box.process import run
from .place import ADDRESS, ALIASES, DOMAIN, HOST, NAME_SERVER, Place

BASE = (
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "ca-certificates", "iproute2", "procps"),
    *("kmod", "man-db", "curl", "git", "netbase", "openssh-client", "make"),
)
# What a site has before it hears of us: Slurm with its accounting, and its database.
SITE = ("mariadb-server", "munge", "slurm-client", "slurmctld", "slurmd", "slurmdbd")
MIRROR = "http://deb.debian.org"  # for a machine that is no Debian with a code name
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_EDITION = 2  # of what `make` does with the rest
# Nobody looks for a manual page by its words there; each installation would wait for that index.
_NO_INDEX = (
    "--essential-hook=echo man-db man-db/auto-update boolean false"
    ' | chroot "$1" debconf-set-selections'
)
LONG = 3600  # seconds that a slow mirror may take
# Until a boot's network is there, which comes from outside a moment after its first process.
ONLINE = """[Unit]
Description=The network of this container
DefaultDependencies=no
Before=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'until ip -4 address show tap0 2>&1 | grep -q inet; do sleep 0.1; done'

[Install]
WantedBy=network-online.target
"""


def make(place: Place) -> None:
    """Make what is not there yet. Raises SiteError with what a command that failed has said."""
    recipe = _recipe(place.suite)
    if place.recipe.exists() and place.recipe.read_text() == recipe:
        return
    place.recipe.unlink(missing_ok=True)
    for folder in (place.root, place.layer(kept=True)):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (place.archives, place.pip, place.log):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        acquire = Path(name) / "acquire.conf"
        acquire.write_text(_acquire())
        # Services start with the first boot, not now.
        run(
            [
                *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"),
                *(f"--include={','.join((*BASE, *SITE))}", f"--keyring={KEYRING}"),
                *(f"--aptopt={acquire}", "--dpkgopt=force-unsafe-io", _NO_INDEX),
                *(place.suite, str(place.root), *_sources(place.suite)),
            ],
            timeout=LONG,
        )
    for name, text in _files(place.suite).items():
        path = place.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    shutil.copy(CERTIFICATES, place.root / "etc/ssl/certs")
    systemctl = ["chroot", str(place.root), "systemctl"]
    run([*systemctl, "enable", "container-network.service"])
    # Newer ones fail at a boot before they are configured.
    run([*systemctl, "disable", "slurmctld.service", "slurmd.service", "slurmdbd.service"])
    (place.root / "etc/resolv.conf").unlink(missing_ok=True)
    (place.root / "etc/resolv.conf").write_text(f"nameserver {NAME_SERVER}\n")
    place.recipe.write_text(recipe)


def _recipe(suite: str) -> str:
    """Follows from all that decides what the root is."""
    text = repr((_EDITION, BASE, SITE, sorted(_files(suite).items())))
    return hashlib.sha256(text.encode()).hexdigest()


def _files(suite: str) -> dict[str, str]:
    names = " ".join(f"{name}.{DOMAIN} {name}" for name in (HOST, *ALIASES))
    return {
        "etc/hostname": f"{HOST}\n",
        "etc/hosts": f"127.0.0.1 localhost\n{ADDRESS} {names}\n",
        "etc/apt/sources.list": "".join(f"{line}\n" for line in _sources(suite)),
        "etc/apt/apt.conf.d/90host": _acquire(),
        # Nobody is there to be asked, and what is needed is to be said in full.
        "etc/apt/apt.conf.d/95container": (
            'APT::Get::Assume-Yes "true";\nAPT::Install-Recommends "false";\n'
            'Dpkg::Use-Pty "false";\n'
        ),
        "etc/dpkg/dpkg.cfg.d/unsafe-io": "force-unsafe-io\n",
        # Slurm's steps do not end when they are asked to at a shutdown, which waits for them.
        "etc/systemd/system.conf.d/container.conf": "[Manager]\nDefaultTimeoutStopSec=20s\n",
        "etc/pip.conf": _pip(),
        "etc/systemd/system/container-network.service": ONLINE,
    }


def _sources(suite: str) -> list[str]:
    """Where this machine has Debian from, with its updates."""
    asked = ["--format", "$(REPO_URI) $(CODENAME)", "Origin: Debian", "Created-By: Packages"]
    said = run(["apt-get", "indextargets", *asked])
    return sources(said, platform.freedesktop_os_release().get("VERSION_CODENAME", ""), suite)


def sources(said: str, own: str, suite: str) -> list[str]:
    """apt's lines for a Debian, from what a machine with the Debian `own` has. Pure.

    `said`: a repository's address and the name of its distribution, a line each.
    """
    found = {
        (suite + name.removeprefix(own), uri.rstrip("/"))
        for uri, _, name in (line.partition(" ") for line in said.splitlines())
        if own and name.startswith(own)
    }
    if not found:
        names = {"": "debian", "-updates": "debian", "-security": "debian-security"}
        found = {(suite + part, f"{MIRROR}/{folder}") for part, folder in names.items()}
    ordered = sorted(found, key=lambda each: (len(each[0]), each))
    return [f"deb {uri} {name} main" for name, uri in ordered]


def _acquire() -> str:
    """How this machine's apt gets at it: proxies, and what it checks."""
    said = run(["apt-config", "dump"])
    wanted = re.compile(r"Acquire::(http|https|ftp|Check|Retries)[-\w]*(::\S+)? \".+\";$", re.I)
    return "".join(f"{line}\n" for line in said.splitlines() if wanted.match(line))


def _pip() -> str:
    """This machine's settings of pip, but for folders that are only here."""
    path = Path("/etc/pip.conf")
    lines = path.read_text().splitlines() if path.exists() else []
    return "".join(
        f"{line}\n" for line in lines if "file:" not in line and "find-links" not in line
    )
