"""A computing element in front of the site's Slurm: ARC's A-REX with its REST interface.

Grid users submit to it with arcsub and their proxies. It is unmodified; what it knows of machines
are the runtime environments of contrib/ce/arc. It listens on all addresses: its configuration has
no word for one of them.
"""

import os
from collections.abc import Callable
from pathlib import Path
from string import Template

from . import people
from .grid import CE, VO, Grid, user_name
from .layout import IMAGE, REPOSITORY, Layout, Memory
from .part import Part
from .ports import port
from .process import run, succeeds

TEMPLATE = Path(__file__).parent / "arc.conf.in"
OFFER = REPOSITORY / "contrib" / "ce" / "arc" / "offer"
START = Path("/usr/share/arc")
USERS = ("alice", "bob")  # who may submit without a VO
# arcctl keeps in /run/arc what it has read, and would take it there for another ARC's.
_APART = (
    *("unshare", "--mount", "--", "sh", "-c"),
    *('mount -t tmpfs tmpfs /run && mkdir /run/arc && exec "$@"', "sh"),
)


def wanted(memory: Memory) -> bool:
    """Whether this site has the CE: `up` was told so."""
    ce: str | None = memory.get("ce")
    return ce == "arc"


def configure(site: Layout, memory: Memory) -> None:
    """Write arc.conf, make the folders, offer the images."""
    etc, spool = _etc(site), _spool(site)
    for folder in (etc, spool, spool / "control", _sessions(site), site.run / "arc"):
        folder.mkdir(parents=True, exist_ok=True)
    temporary = spool / "tmp"
    temporary.mkdir(exist_ok=True)
    temporary.chmod(0o1777)  # mapped users' scripts are written there
    grid = Grid(site)
    (etc / "people").write_text("".join(f'"{user_name(user)}"\n' for user in USERS))
    _conf(site).write_text(
        Template(TEMPLATE.read_text()).substitute(
            certificate=grid.host_certificate(CE),
            key=grid.host_key(CE),
            certificates=grid.certificates,
            vomsdir=grid.vomsdir,
            vo=VO,
            people=etc / "people",
            user=people.USER,
            etc=etc,
            log=site.log,
            run=site.run / "arc",
            spool=spool,
            sessions=_sessions(site),
            url=url(memory),
        )
    )
    _parameters(spool / "control" / "dhparam.pem")
    run([*_APART, str(OFFER), str(etc / "rte"), IMAGE], _env(site))


def _parameters(path: Path) -> None:
    """Known ones for the key exchange: the service would compute its own for minutes, apart."""
    if not path.exists():
        made = ["openssl", "genpkey", "-genparam", "-algorithm", "DH"]
        run([*made, "-pkeyopt", "group:ffdhe4096", "-out", str(path)])
        path.chmod(0o600)


def parts(site: Layout, memory: Memory) -> list[Part]:
    """What brings jobs to Slurm, then what takes them from users; none on a site without it."""
    if not wanted(memory):
        return []
    return [
        _part(
            site, "arex", "arc-arex-start", lambda: _listens(_spool(site) / "control" / "gm.fifo")
        ),
        _part(site, "arex-ws", "arc-arex-ws-start", lambda: _answers(site, memory)),
    ]


def environment(site: Layout, memory: Memory) -> dict[str, str]:
    """What shells need on a site with the CE: where it is, and its configuration for arcctl."""
    return {"WNODES_CE": url(memory), **_env(site)} if wanted(memory) else {}


def url(memory: Memory) -> str:
    """Where jobs are submitted: `arcsub --computing-element` takes it."""
    return f"https://localhost:{port(memory, 'arex')}/arex"


def _part(site: Layout, name: str, program: str, ready: Callable[[], bool]) -> Part:
    """ARC's own start script, which replaces itself by the daemon."""
    env = {**_env(site), "SLURM_CONF": str(site.slurm_conf)}
    return Part(name, [str(START / program), "--foreground"], ready, env=env, patience=60)


def _listens(fifo: Path) -> bool:
    """Whether A-REX reads the file by which it is told of new jobs."""
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def _answers(site: Layout, memory: Memory) -> bool:
    grid = Grid(site)
    proxy = str(grid.proxy(USERS[0]))
    trust = ["--capath", str(grid.certificates), "--cert", proxy, "--key", proxy]
    return succeeds(["curl", "--silent", "--fail", *trust, f"{url(memory)}/rest/1.0/jobs"])


def _env(site: Layout) -> dict[str, str]:
    return {"ARC_CONFIG": str(_conf(site))}


def _conf(site: Layout) -> Path:
    return _etc(site) / "arc.conf"


def _etc(site: Layout) -> Path:
    return site.etc / "arc"


def _spool(site: Layout) -> Path:
    return site.spool / "arc"


def _sessions(site: Layout) -> Path:
    """Jobs' folders; below the homes, which machines see."""
    return site.home / "sessions"
