"""The bridge on the site: who is who, its folder, its process, and what its users' shells need."""

import shutil

from . import people
from .grid import Grid
from .layout import REPOSITORY, Layout, Memory
from .part import Part
from .ports import port
from .process import run, succeeds

PROGRAMS = REPOSITORY / ".venv" / "bin"
_PROGRAM = str(PROGRAMS / "wnodes-bridge")
USER = "alice"  # whose credentials `site env` exports


def configure(site: Layout) -> None:
    """Make certificates, maps and proxies, and the bridge's own folder.

    Raises SiteError if that can't be done.
    """
    here = ["env", f"--chdir={REPOSITORY / 'contrib' / 'site'}", "PYTHONDONTWRITEBYTECODE=1"]
    run([*here, str(PROGRAMS / "python"), "-m", "box.identities"], {"WNODES_SITE": str(site.root)})
    folder = site.spool / "bridge"
    folder.mkdir(mode=0o700, exist_ok=True)
    shutil.chown(folder, people.BRIDGE, people.BRIDGE)


def part(site: Layout, memory: Memory) -> Part:
    """The OCCI service, as a user of its own that may nothing else."""
    return Part(
        "bridge",
        [*_as_bridge(), _PROGRAM, "--config", str(site.wnodes_config)],
        lambda: _answers(site, memory),
        patience=90,
    )


def issuer(site: Layout, memory: Memory) -> Part:
    """Who signs tokens: a server of its own, with no rights here."""
    argv = [
        *("setpriv", f"--reuid={people.NOBODY}", "--regid=nogroup", "--clear-groups"),
        *("--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--"),
        *("env", f"--chdir={REPOSITORY / 'contrib' / 'site'}", f"WNODES_SITE={site.root}"),
        *("PYTHONDONTWRITEBYTECODE=1", str(PROGRAMS / "python"), "-m", "box.issuer"),
        str(port(memory, "issuer")),
    ]
    return Part("issuer", argv, lambda: _discovered(site, memory), patience=30)


def environment(site: Layout, memory: Memory) -> dict[str, str]:
    """What the shell of a grid user needs, in the variables that grid clients know.

    Nothing before `up` has chosen the port.
    """
    if port(memory, "bridge") is None:
        return {}
    grid = Grid(site)
    return {
        "WNODES_URL": _url(memory),
        "WNODES_PAGE": f"https://localhost:{port(memory, 'page')}",
        "X509_CERT_DIR": str(grid.certificates),
        "X509_USER_CERT": str(grid.user(USER) / "usercert.pem"),
        "X509_USER_KEY": str(grid.user(USER) / "userkey.pem"),
        "X509_USER_PROXY": str(grid.voms_proxy(USER)),
        "BEARER_TOKEN_FILE": str(grid.token(people.GRACE)),
    }


def _url(memory: Memory) -> str:
    return f"https://localhost:{port(memory, 'bridge')}"


def _answers(site: Layout, memory: Memory) -> bool:
    grid = Grid(site)
    proxy = str(grid.proxy(USER))
    trust = ["--capath", str(grid.certificates), "--cert", proxy, "--key", proxy]
    return succeeds(["curl", "--silent", "--fail", *trust, f"{_url(memory)}/-/"])


def _discovered(site: Layout, memory: Memory) -> bool:
    url = f"https://localhost:{port(memory, 'issuer')}/.well-known/openid-configuration"
    trust = ["--capath", str(Grid(site).certificates)]
    return succeeds(["curl", "--silent", "--fail", *trust, url])


def _as_bridge() -> list[str]:
    return [
        *("setpriv", f"--reuid={people.BRIDGE}", f"--regid={people.BRIDGE}", "--init-groups"),
        *("--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--"),
    ]
