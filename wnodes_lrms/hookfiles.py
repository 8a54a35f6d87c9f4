"""Puts the hooks of hookset's plan in place, compares them, and takes them off again.

Each write is a whole file that appears at once, and is made only where something differs. What is
not recognisably ours is never overwritten or removed.
"""

import contextlib
import glob
import os
import shlex
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wnodes_lrms import hookset, resources, slurmconf
from wnodes_lrms.errors import RejectedError, WnodesError
from wnodes_lrms.hookset import File, HookSet, Link, Present, Site, is_ours
from wnodes_lrms.luapolicy import Policy
from wnodes_lrms.slurmconf import SlurmConf


class HooksInUseError(WnodesError):
    """slurm.conf still names the hooks; `lines` are what it must say before they can go."""

    retry = False

    def __init__(self, conf: Path, lines: list[str]) -> None:
        self.lines = lines
        super().__init__(
            f"{conf} still names the hooks, and Slurm drains nodes whose hooks are gone;"
            " nothing was removed. Set these, run `scontrol reconfigure`, and try again: "
            + "; ".join(lines)
        )


@dataclass(frozen=True)
class Outcome:
    """`changed`: what was written, moved or removed. `lines`: what slurm.conf should say, as yet
    unsaid. `left`: what was found and not touched, with the reason."""

    changed: tuple[str, ...]
    lines: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A difference between what is there and what should be."""

    what: str
    where: str
    remedy: str


def install(site: Site, policy: Policy) -> Outcome:
    """Write what is missing or differs. Can be run again at any time.

    Raises RejectedError where a file that is not ours stands in the way, ConfigError where
    slurm.conf can't be read, OSError where a write fails."""
    wanted = _plan(site, policy)
    _refuse_foreign(site, wanted)
    changed: list[str] = []
    if not site.folder.is_dir():
        site.folder.mkdir(parents=True)
        changed.append(str(site.folder))
    _set_owner(site.folder, 0o755, site.owner)
    if wanted.adopt:
        _set_aside(site)
        changed.append(f"{site.loader} -> {site.site_script}")
    changed += [str(file.path) for file in wanted.files if _write(file, site.owner)]
    changed += [str(link.path) for link in wanted.links if _link(link)]
    return Outcome(tuple(changed), wanted.lines)


def check(site: Site, policy: Policy) -> list[Finding]:
    """Every difference from what `install` would leave, and every line missing in slurm.conf."""
    again = "run `wnodes hooks install` again"
    try:
        wanted = _plan(site, policy)
    except RejectedError as error:
        return [Finding(str(error), str(site.slurm_conf), "then " + again)]
    findings: list[Finding] = []
    for file in wanted.files:
        what: str | None
        if file.path == site.loader and wanted.adopt:
            what = "the site's own script stands here, so wishes for machines are not seen"
        else:
            what = _difference(file, site.owner)
        if what:
            findings.append(Finding(what, str(file.path), again))
    if site.folder.is_dir() and (wrong := _wrong_mode(site.folder.stat(), 0o755, site.owner)):
        findings.append(Finding(wrong, str(site.folder), again))
    findings += [
        Finding(f"does not lead to {link.target}", str(link.path), again)
        for link in wanted.links
        if not _leads(link)
    ]
    return findings + [
        Finding(f"lacks {line}", str(site.slurm_conf), "set it and run `scontrol reconfigure`")
        for line in wanted.lines
    ]


def remove(site: Site) -> Outcome:
    """Take everything of ours off, and put the site's own job_submit.lua back as it was.

    Raises HooksInUseError, before anything is removed, while slurm.conf names the hooks."""
    conf = slurmconf.read(site.slurm_conf)
    now = _present(site)
    links = list(_our_links(site, conf))
    lone = [hook for hook, path in links if _matches(conf, hook) == [str(path)]]
    if lines := hookset.take_back(site, conf, now, lone):
        raise HooksInUseError(site.slurm_conf, lines)
    changed: list[str] = []
    left: list[str] = []
    if now.loader is not None and is_ours(now.loader):
        if now.site_script is not None:
            site.site_script.replace(site.loader)
            changed.append(f"{site.site_script} -> {site.loader}")
        else:
            site.loader.unlink()
            changed.append(str(site.loader))
    elif now.site_script is not None and now.installed:
        if now.site_script == now.loader:
            site.site_script.unlink()
            changed.append(str(site.site_script))
        else:
            left.append(f"{site.site_script}: an earlier script of the site's, which only it knows")
    for _, path in links:
        path.unlink()
        changed.append(str(path))
    for path in sorted(site.folder.iterdir()) if site.folder.is_dir() else ():
        content = _content(path)
        if content is not None and is_ours(content):
            path.unlink()
            changed.append(str(path))
        else:
            left.append(f"{path}: not ours")
    if site.folder.is_dir() and not left:
        site.folder.rmdir()
        changed.append(str(site.folder))
    return Outcome(tuple(changed), left=tuple(left))


def write_policy(site: Site, policy: Policy) -> bool:
    """Bring the table of tags up to date, if hooks are installed here. Returns whether it changed.

    Submissions see it at once: slurmctld need not be told."""
    if not (site.folder / "job_submit.lua").exists():
        return False
    return _write(hookset.policy_file(site, policy), site.owner)


def _plan(site: Site, policy: Policy) -> HookSet:
    sources = {name: (resources.folder("hooks") / name).read_bytes() for name in hookset.COPIED}
    conf = slurmconf.read(site.slurm_conf)
    return hookset.plan(site, policy, conf, _present(site), sources)


def _present(site: Site) -> Present:
    return Present(
        installed=(site.folder / "job_submit.lua").exists(),
        loader=_content(site.loader),
        site_script=_content(site.site_script),
        site_hooks=dict(_recorded_hooks(site)),
    )


def _recorded_hooks(site: Site) -> Iterator[tuple[str, str]]:
    """The site's own hooks, as the last line of our composed guards runs them."""
    for hook in hookset.ACTS:
        content = _content(hookset.composed_path(site, hook))
        if content and is_ours(content):
            command, *words = shlex.split(content.decode().splitlines()[-1])
            if command == "exec" and words:
                yield hook, words[0]


def _our_links(site: Site, conf: SlurmConf) -> Iterator[tuple[str, Path]]:
    for hook in hookset.ACTS:
        for name in _matches(conf, hook):
            path = Path(name)
            if path.is_symlink() and path.readlink() == site.folder / hook:
                yield hook, path


def _matches(conf: SlurmConf, hook: str) -> list[str]:
    return glob.glob(conf.hook(hook) or "")  # noqa: PTH207 (Slurm's own kind of pattern)


def _content(path: Path) -> bytes | None:
    """A regular file's bytes; None if there is none (a dangling link counts as none)."""
    try:
        return path.read_bytes() if path.is_file() else None
    except FileNotFoundError:
        return None


def _refuse_foreign(site: Site, wanted: HookSet) -> None:
    for file in wanted.files:
        if file.path == site.loader and wanted.adopt:
            continue
        content = _content(file.path)
        if (content is not None and not is_ours(content)) or file.path.is_dir():
            raise RejectedError(f"{file.path} is there already and not ours: move it away first")
    for link in wanted.links:
        if os.path.lexists(link.path) and not link.path.is_symlink():
            raise RejectedError(f"{link.path} is there already and not ours: move it away first")


def _set_aside(site: Site) -> None:
    """Give the site's script its second name. A hard link keeps its owner, mode and times, and
    leaves no moment in which slurmctld finds none."""
    if site.site_script.exists() and site.site_script.samefile(site.loader):
        return  # an install that was interrupted
    spare = site.site_script.with_name(f".{site.site_script.name}.{os.getpid()}")
    os.link(site.loader, spare, follow_symlinks=False)
    spare.replace(site.site_script)


def _write(file: File, owner: int) -> bool:
    if _difference(file, owner) is None:
        return False
    descriptor, name = tempfile.mkstemp(dir=file.path.parent, prefix=f".{file.path.name}.")
    spare = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(file.content)
        _set_owner(spare, file.mode, owner)
        spare.replace(file.path)
    except BaseException:
        spare.unlink(missing_ok=True)
        raise
    return True


def _link(link: Link) -> bool:
    if _leads(link):
        return False
    # The dot keeps the spare out of the site's pattern.
    spare = link.path.with_name(f".{link.path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        spare.unlink()
    spare.symlink_to(link.target)
    spare.replace(link.path)
    return True


def _leads(link: Link) -> bool:
    return link.path.is_symlink() and link.path.readlink() == link.target


def _set_owner(path: Path, mode: int, owner: int) -> None:
    if path.stat().st_uid != owner:
        os.chown(path, owner, -1)
    path.chmod(mode)


def _difference(file: File, owner: int) -> str | None:
    content = _content(file.path)
    if content is None:
        return "is missing"
    if content != file.content:
        return "differs from what belongs here"
    return _wrong_mode(file.path.stat(), file.mode, owner)


def _wrong_mode(status: os.stat_result, mode: int, owner: int) -> str | None:
    if status.st_uid != owner:
        return f"belongs to uid {status.st_uid}, not {owner}"
    if stat.S_IMODE(status.st_mode) != mode:
        return f"has mode {stat.S_IMODE(status.st_mode):o}, not {mode:o}"
    return None
