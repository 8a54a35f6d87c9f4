"""What a site's OpenPBS gets of the hooks, decided from what its server has now.

Pure: installation.py reads what is decided from, lrms/hookfiles.py writes. PBS keeps hooks
in its own database, and that is the site's: the lines for qmgr are told, never run. Sources:
qmgr(8B), pbs_hook_attributes(7B) and pbs_resources(7B) of OpenPBS 23.06.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wnodes_lrms.lrms.hookset import LEASE_PROGRAM, STARTER_FILES, File, HookSet, Site
from wnodes_lrms.lrms.lease import FEATURE
from wnodes_lrms.policy import Policy
from wnodes_lrms.resources import render

HOOK = "wnodes"
CODE = "openpbs.py"
CONFIG = "openpbs.json"
COPIED = (*STARTER_FILES, "lease.py", CODE)
EVENTS = ("queuejob", "modifyjob", "movejob", "execjob_launch", "execjob_epilogue")
# r: users can't ask for it; m: moms see it; h: of a host.
RESOURCES = {
    "vm": {"type": "string"},
    FEATURE: {"type": "boolean", "flag": "h"},
    "wnodes_by": {"type": "string", "flag": "rm"},
}
_ABOUT = "wnodes-lrms: written by `wnodes hooks install`; changes here are lost"


@dataclass(frozen=True)
class Present:
    """What the server has: attributes of our resources and of our hook, what it has imported, and
    whether some node has a bait by its word."""

    resources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    hook: Mapping[str, str] | None = None
    code: bytes = b""
    config: bytes = b""
    nodes: bool = False


def plan(site: Site, policy: Policy, now: Present | None, sources: Mapping[str, bytes]) -> HookSet:
    """The files of a site, and the lines for its qmgr. `sources` are the COPIED files.

    `now` is None where the server does not tell: only root on its own host may read hooks."""
    files = [File(site.folder / name, sources[name], 0o644) for name in COPIED]
    starter = render(
        "openpbs/starter.py.j2",
        folder=site.folder,
        socket=site.socket,
        retries=site.retries,
    )
    program = render("openpbs/lease.sh.j2", program=site.folder / "lease.py", socket=site.socket)
    for name, text in (("starter", starter), (LEASE_PROGRAM, program)):
        files.append(File(site.folder / name, text.encode(), 0o755))
    config = _config_file(site)
    files += [policy_file(site, policy), config]
    lines = _lines(site, now, sources[CODE], config.content) if now else []
    return HookSet(tuple(files), lines=tuple(lines))


def policy_file(site: Site, policy: Policy) -> File:
    """What the hook reads at each submission, on the server's host."""
    said = {
        "about": _ABOUT,
        "tags": sorted(policy.tags),
        "defaults": [
            {key: getattr(rule, key) for key in ("image", "partition", "account", "qos")}
            for rule in policy.defaults
        ],
        "allow": [
            {
                "image": rule.image,
                "users": sorted(rule.users),
                "groups": sorted(rule.groups),
                "accounts": sorted(rule.accounts),
            }
            for rule in policy.allow
        ],
        "lease_users": list(policy.lease_users),
    }
    return _json(site.folder / "policy.json", said)


def _config_file(site: Site) -> File:
    """What PBS hands to the hook, on all hosts."""
    said = {
        "about": _ABOUT,
        "socket": site.socket,
        "starter": str(site.folder / "starter"),
        "lease": str(site.folder / LEASE_PROGRAM),
        "policy": str(site.folder / "policy.json"),
        "retries": site.retries,
    }
    return _json(site.folder / CONFIG, said)


def _json(path: Path, said: Mapping[str, object]) -> File:
    return File(path, (json.dumps(said, indent=1) + "\n").encode(), 0o644)


def _lines(site: Site, now: Present, code: bytes, config: bytes) -> list[str]:
    lines = []
    for name, wanted in RESOURCES.items():
        found = now.resources.get(name)
        if found is None:
            words = ",".join(f"{key}={value}" for key, value in wanted.items())
            lines.append(f"create resource {name} {words}")
        else:
            lines += [
                f"set resource {name} {key} = {value}"
                for key, value in wanted.items()
                if set(found.get(key, "")) != set(value)
            ]
    hook = now.hook or {}
    if now.hook is None:
        lines.append(f"create hook {HOOK}")
    if set(hook.get("event", "").split(",")) != set(EVENTS):
        lines.append(f'set hook {HOOK} event = "{",".join(EVENTS)}"')
    for form, name, wanted_content, found_content in (
        ("config", CONFIG, config, now.config),
        ("python", CODE, code, now.code),
    ):
        # qmgr's export ends with a line end of its own.
        if found_content.rstrip() != wanted_content.rstrip():
            path = site.folder / name
            lines.append(f"import hook {HOOK} application/x-{form} default {path}")
    if hook.get("enabled", "").lower() != "true" and now.hook is not None:
        lines.append(f"set hook {HOOK} enabled = True")
    if not now.nodes:
        lines.append(
            f"set node NAME resources_available.{FEATURE} = True    (each that runs a bait)"
        )
    return lines


def take_back(now: Present | None) -> list[str]:
    """What must be undone in PBS before the hooks' files can go."""
    return [f"delete hook {HOOK}"] if now and now.hook is not None else []


def parse_print(text: str) -> dict[str, dict[str, str]]:
    """Resource → attributes, from `qmgr -c 'print server'`."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if made := re.fullmatch(r"create resource (\S+)", line):
            found[made[1]] = {}
        elif word := re.fullmatch(r"set resource (\S+) (\S+) = (.*)", line):
            found.setdefault(word[1], {})[word[2]] = word[3].strip('"')
    return found


def parse_hooks(text: str) -> dict[str, str] | None:
    """The attributes of our hook in `qmgr -c 'list hook'`; None if it is not there."""
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("Hook "):
            current = found.setdefault(line.removeprefix("Hook ").strip(), {})
        elif " = " in line:
            key, _, value = line.strip().partition(" = ")
            current[key] = value
        elif line.startswith("\t") and current:  # qmgr breaks long values
            current[next(reversed(current))] += line.strip()
    return found.get(HOOK)
