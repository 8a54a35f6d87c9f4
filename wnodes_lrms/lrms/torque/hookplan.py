"""What a site's Torque gets of the hooks, decided from its files and what it has now.

pbs_mom knows one prologue and one epilogue, by name: ours stand there, and go on to the site's
own, which wait beside them. `$job_starter` in mom_priv/config and, where jobs are submitted,
SUBMITFILTER in torque.cfg are the site's to set.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wnodes_lrms.lrms.hookset import (
    LEASE_PROGRAM,
    STARTER_FILES,
    File,
    HookSet,
    Place,
    is_ours,
)
from wnodes_lrms.lrms.torque.allocation import WISH
from wnodes_lrms.policy import Policy
from wnodes_lrms.resources import render

COPIED = (*STARTER_FILES, "hook.py", "lease.py", "submitfilter.py")
PELOGS = ("prologue", "epilogue")
_SHELLS = "bash | dash | sh | ksh | ksh93 | mksh | zsh | csh | tcsh | fish"
_STARTER = re.compile(r"^\s*\$job_starter\s+(\S+)", re.MULTILINE)
_FILTER = re.compile(r"^\s*SUBMITFILTER\s+(\S+)", re.MULTILINE)
_LOGIN = re.compile(r"^\s*\$source_login_(batch|interactive)\s+(\S+)", re.MULTILINE)
_NO = ("0", "false", "off", "no")


@dataclass(frozen=True)
class Site:
    """Where the hooks go, and what they are told. `home` is Torque's own folder; socket and
    run_dir are the bait's, with %n."""

    home: Path
    socket: str
    run_dir: str
    retries: int
    folder: Path
    owner: int = 0

    @property
    def mom(self) -> Path:
        """pbs_mom's own folder, on a node."""
        return self.home / "mom_priv"

    @property
    def places(self) -> tuple[Place, ...]:
        """Ours, and the site's own. Not prologue.site: `qsub -T site` would run that in place of
        ours."""
        return tuple(Place(self.mom / name, self.mom / f"site-{name}") for name in PELOGS)


@dataclass(frozen=True)
class Present:
    """What the host has now: pbs_mom's config, None where none was ever set up or has run;
    torque.cfg; and the content of each place, and of what waits beside it."""

    config: str | None
    cfg: str
    files: Mapping[Path, bytes | None]


def plan(site: Site, rules: Policy, now: Present, copied: Mapping[str, bytes]) -> HookSet:
    """The files and lines of a host. `copied` are the COPIED files."""
    files = [File(site.folder / name, copied[name], 0o644) for name in COPIED]
    files += [
        _rendered(site, LEASE_PROGRAM, "lease", program=site.folder / "lease.py"),
        _rendered(
            site,
            "submitfilter",
            "submitfilter",
            program=site.folder / "submitfilter.py",
            tags=site.folder / "tags",
        ),
        tags(site, rules),
    ]
    if now.config is None:
        ours = site.folder / "submitfilter"
        lacks = (
            [] if _filter(now) == str(ours) else [f"torque.cfg: SUBMITFILTER {ours}"]
        )  # a courtesy
        return HookSet(tuple(files), advice=tuple(lacks))
    files.append(
        _rendered(
            site,
            "starter",
            "starter",
            program=site.folder / "starter.py",
            retries=site.retries,
            lease=site.folder / LEASE_PROGRAM,
            node_in_marks="%n" in site.run_dir,
            login_shells=_login_shells(now.config),
        )
    )
    adopt = []
    for place in site.places:
        there, aside = now.files.get(place.path), now.files.get(place.aside)
        if there is not None and not is_ours(there):
            adopt.append(place)
        own = place.aside if place in adopt or aside is not None else None
        # Last of all: pbs_mom runs it as soon as it stands there.
        name = place.path.name
        text = _text(site, name, program=site.folder / "hook.py", own=own, wishes=_wishes(rules))
        files.append(File(place.path, text.encode(), 0o755))
    ours = site.folder / "starter"
    lines = [] if _starter(now) == str(ours) else [f"mom_priv/config: $job_starter {ours}"]
    return HookSet(tuple(files), lines=tuple(lines), adopt=tuple(adopt))


def take_back(site: Site, now: Present) -> list[str]:
    """What must go out of Torque's files before the hooks can go."""
    lines = []
    if _starter(now) == str(site.folder / "starter"):
        lines.append("mom_priv/config: (no $job_starter line)")
    if _filter(now) == str(site.folder / "submitfilter"):
        lines.append("torque.cfg: (no SUBMITFILTER line)")
    return lines


def _starter(now: Present) -> str:
    """What pbs_mom runs in place of a job's shell: of several lines the last holds."""
    return "".join(_STARTER.findall(now.config or "")[-1:])


def _filter(now: Present) -> str:
    """What qsub runs at a submission: of several lines the first holds."""
    return "".join(_FILTER.findall(now.cfg)[:1])


def tags(site: Site, rules: Policy) -> File:
    """The table of tags that the submit filter reads at each submission."""
    head = "# wnodes-lrms: tags of the catalogue; written by `wnodes hooks install`, `image add`\n"
    text = head + "".join(f"{tag}\n" for tag in sorted(rules.tags))
    return File(site.folder / "tags", text.encode(), 0o644)


def _wishes(rules: Policy) -> str:
    """Patterns of the prologue's «queue/,resources,» of jobs that get a machine."""
    patterns = [f"*,{WISH}=vm:*"]
    for rule in rules.defaults:
        if rule.qos is None and rule.account is None:  # neither of which Torque knows for certain
            patterns.append(f"{shlex.quote(rule.partition)}/*" if rule.partition else "*")
    return " | ".join(patterns)


def _login_shells(config: str) -> list[str]:
    """Patterns of «PBS_ENVIRONMENT/shell» where pbs_mom would start a login shell."""
    said = dict(_LOGIN.findall(config))
    kinds = (("PBS_BATCH", "batch"), ("PBS_INTERACTIVE", "interactive"))
    return [
        " | ".join(f"{kind}/{shell}" for shell in _SHELLS.split(" | "))
        for kind, key in kinds
        if said.get(key, "true").lower() not in _NO
    ]


def _rendered(site: Site, name: str, template: str, **values: object) -> File:
    return File(site.folder / name, _text(site, template, **values).encode(), 0o755)


def _text(site: Site, template: str, **values: object) -> str:
    marks = '"$node"'.join(shlex.quote(part) if part else "" for part in _marks(site).split("%n"))
    values |= {"socket": site.socket, "marks": marks}
    return render(f"torque/{template}.sh.j2", xml=False, **values)


def _marks(site: Site) -> str:
    """The folder with a file for each job that has a VM; see bait/reconcile/markers.py."""
    return f"{site.run_dir}/jobs"
