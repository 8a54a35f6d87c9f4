"""What a site's Slurm gets of the hooks, decided from its configuration and what it has now.

Pure: installation.py reads what is decided from, lrms/hookfiles.py writes. The site keeps what
it has: its prolog and epilog are run by ours, or ours stands in its folder; its job_submit.lua is
loaded by ours. slurm.conf is the site's own: the lines to set are told, never written.
"""

import fnmatch
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from wnodes_lrms.errors import RejectedError
from wnodes_lrms.lrms.hookset import (
    LEASE_PROGRAM,
    STARTER_FILES,
    File,
    HookSet,
    Link,
    Place,
    is_ours,
)
from wnodes_lrms.lrms.slurm import luapolicy
from wnodes_lrms.lrms.slurm.conf import SlurmConf
from wnodes_lrms.policy import Policy
from wnodes_lrms.resources import render

FOLDER = Path("/usr/local/libexec/wnodes")
COPIED = (*STARTER_FILES, "hook.py", "lease.py", "job_submit.lua", "wish.lua")
ACTS = {"prolog": "prepare", "epilog": "release"}
_GLOB = set("*?[")


@dataclass(frozen=True)
class Site:
    """Where the hooks go, and what they are told: the bait's socket (with %n) and the retries."""

    slurm_conf: Path
    socket: str
    retries: int
    folder: Path = FOLDER
    owner: int = 0
    fetched_conf: Path = Path("/run/slurm/conf/slurm.conf")  # of a configless Slurm's slurmd

    @property
    def loader(self) -> Path:
        """The only Lua file that Slurm loads."""
        return self.slurm_conf.parent / "job_submit.lua"

    @property
    def site_script(self) -> Path:
        """Where the site's own job_submit.lua waits while ours stands in its place."""
        return self.slurm_conf.parent / "job_submit.site.lua"


@dataclass(frozen=True)
class Present:
    """What the site has now.

    `site_hooks` are its own prolog and epilog as an earlier guard of ours recorded them.
    """

    installed: bool = False
    loader: bytes | None = None
    site_script: bytes | None = None
    site_hooks: Mapping[str, str] | None = None


def plan(
    site: Site, policy: Policy, conf: SlurmConf, now: Present, sources: Mapping[str, bytes]
) -> HookSet:
    """The files, links and slurm.conf lines of a site. `sources` are the COPIED files.

    Raises RejectedError where the site's own files can't be told or kept."""
    files = [File(site.folder / name, sources[name], 0o644) for name in COPIED]
    starter = render(
        "slurm/starter.py.j2",
        folder=site.folder,
        socket=site.socket,
        retries=site.retries,
    )
    files.append(File(site.folder / "starter", starter.encode(), 0o755))
    program = render("slurm/lease.sh.j2", program=site.folder / "lease.py", socket=site.socket)
    files.append(File(site.folder / LEASE_PROGRAM, program.encode(), 0o755))
    files.append(policy_file(site, policy))
    links: list[Link] = []
    lines: list[str] = []
    for hook in ACTS:
        files.append(_guard(site, hook, None))
        own = conf.hook(hook)
        ours = site.folder / hook
        if own is None:
            lines.append(f"{hook.capitalize()}={ours}")
        elif _GLOB & set(own):
            links.append(Link(_place(own, hook), ours))
        elif own != str(ours):
            composed = composed_path(site, hook)
            if own == str(composed):
                own = (now.site_hooks or {}).get(hook)
                if own is None:
                    raise RejectedError(
                        f"{conf.path} runs {composed}, and this node does not know the site's own"
                        f" {hook} that belongs in it: copy {composed} from another node first"
                    )
            else:
                lines.append(f"{hook.capitalize()}={composed}")
            files.append(_guard(site, hook, own))
    for hook, other in (("prolog", "epilog"), ("epilog", "prolog")):
        pattern = conf.hook(other) or ""
        if any(link.target.name == hook and _finds(pattern, link.path) for link in links):
            raise RejectedError(
                f"{other.capitalize()}={pattern} in slurm.conf would run our {hook} too:"
                " give prologs and epilogs a folder each"
            )
    if not has_lua(conf):
        lines.append("JobSubmitPlugins=" + ",".join(("lua", *conf.submit_plugins)))
    if "wnodes" not in conf.features:
        lines.append("NodeName=... Feature=wnodes    (added on each node that runs a bait)")

    adopt, script = _site_script(site, now)
    # The loader comes last: Slurm reads it as soon as it stands there.
    files.append(_loader(site, script, sources))
    places = (Place(site.loader, site.site_script),) if adopt else ()
    return HookSet(tuple(files), tuple(links), tuple(lines), places)


def _loader(site: Site, script: bytes | None, sources: Mapping[str, bytes]) -> File:
    """What slurmctld reads as its job_submit.lua: ours, and before it the site's own `script`."""
    loaded = [sources["job_submit.lua"], sources["wish.lua"]] + ([script] if script else [])
    loader = render(
        "slurm/loader.lua.j2",
        lua=luapolicy.quote,
        site=site.site_script if script is not None else None,
        program=site.folder / "job_submit.lua",
        folder=site.folder,
        digests=[hashlib.sha256(content).hexdigest()[:16] for content in loaded],
    )
    return File(site.loader, loader.encode(), 0o644)


def policy_file(site: Site, policy: Policy) -> File:
    """The table that job_submit.lua reads at each submission."""
    text = luapolicy.text(policy, site.folder / "starter", site.folder / LEASE_PROGRAM)
    return File(site.folder / "policy.lua", text.encode(), 0o644)


def composed_path(site: Site, hook: str) -> Path:
    """Our guard that goes on to the site's own hook. Its name in slurm.conf tells a node that
    there is one, even a node that has never seen it."""
    return site.folder / f"{hook}.site"


def take_back(site: Site, conf: SlurmConf, now: Present, lone: Collection[str]) -> list[str]:
    """What must change in slurm.conf before the hooks can go; nothing if they can go now.

    A Prolog, Epilog or job_submit.lua that slurm.conf names and that is not there drains the nodes,
    or keeps slurmctld from starting. `lone`: the hooks whose pattern finds nothing but ours."""
    lines = []
    for hook in ACTS:
        own, key = conf.hook(hook), hook.capitalize()
        recorded = (now.site_hooks or {}).get(hook)
        if own == str(composed_path(site, hook)) and recorded:
            lines.append(f"{key}={recorded}")
        elif own in (str(site.folder / hook), str(composed_path(site, hook))) or hook in lone:
            lines.append(f"(no {key}= line)")
    script_is_ours = now.loader is not None and is_ours(now.loader)
    if has_lua(conf) and script_is_ours and now.site_script is None:
        rest = [plugin for plugin in conf.submit_plugins if not _is_lua(plugin)]
        lines.append(
            "JobSubmitPlugins=" + ",".join(rest) if rest else "(no JobSubmitPlugins= line)"
        )
    return lines


def has_lua(conf: SlurmConf) -> bool:
    """Whether this configuration loads scripts in Lua at submission."""
    return any(_is_lua(plugin) for plugin in conf.submit_plugins)


def _is_lua(plugin: str) -> bool:
    return plugin.removeprefix("job_submit/") == "lua"


def _guard(site: Site, hook: str, own: str | None) -> File:
    text = render(
        "slurm/guard.sh.j2",
        hook=hook,
        act=ACTS[hook],
        program=site.folder / "hook.py",
        socket=site.socket,
        site=own,
    )
    path = composed_path(site, hook) if own else site.folder / hook
    return File(path, text.encode(), 0o755)


def _place(pattern: str, hook: str) -> Path:
    """Where in the site's folder of hooks ours is found by the site's own pattern.

    The order against the site's hooks does not matter to ours, and is not to be relied on:
    Slurm 22.05 runs what the pattern finds from last to first."""
    folder = Path(pattern).parent
    for name in ("50-wnodes", "50-wnodes.sh", f"{hook}-wnodes", f"{hook}-wnodes.sh"):
        if not _GLOB & set(str(folder)) and _finds(pattern, folder / name):
            return folder / name
    raise RejectedError(
        f"{hook.capitalize()}={pattern} in slurm.conf finds no name that ours could have:"
        " let it find 50-wnodes too"
    )


def _finds(pattern: str, path: Path) -> bool:
    wanted = Path(pattern)
    return wanted.parent == path.parent and fnmatch.fnmatchcase(path.name, wanted.name)


def _site_script(site: Site, now: Present) -> tuple[bool, bytes | None]:
    """Whether the file at the loader's place is the site's own, to be moved aside, and the site's
    script as it will be. After the site's configuration management wrote its script over our
    loader, that one is the newer, and takes the place of the one set aside earlier."""
    adopt = now.loader is not None and not is_ours(now.loader)
    if now.site_script is not None and not now.installed and (adopt or now.loader is None):
        raise RejectedError(
            f"{site.site_script} is there already and not from here: move it away first"
        )
    return adopt, now.loader if adopt else now.site_script
