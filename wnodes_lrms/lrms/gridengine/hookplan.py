"""What a site's Grid Engine gets of the hooks, decided from its configuration. Pure.

installation.py reads what is decided from, lrms/hookfiles.py writes the files. A queue's
own prolog and epilog are run by ours, as its arguments. Sources: queue_conf(5), sge_conf(5),
complex(5).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wnodes_lrms.errors import RejectedError
from wnodes_lrms.lrms.hookset import LEASE_PROGRAM, STARTER_FILES, File, HookSet, Site
from wnodes_lrms.lrms.lease import FEATURE
from wnodes_lrms.policy import DefaultRule, Policy
from wnodes_lrms.resources import render, shlex_quote

COPIED = (*STARTER_FILES, "hook.py", "lease.py", "jsv.py")
ACTS = {"prolog": "prepare", "epilog": "release"}
STARTER = "starter_method"
# As `qconf -sc` lists them. `!=`: a host that has vm=none offers every image but none.
COMPLEXES = {
    FEATURE: f"{FEATURE} {FEATURE} BOOL == YES NO 0 0",
    "vm": "vm vm STRING != YES NO NONE 0",
}
MEMORY = "mem_free mf MEMORY <= YES YES 1G 0"


@dataclass(frozen=True)
class Facts:
    """What Grid Engine is configured with, in the words of qconf.

    `queues`: of each cluster queue its settings. `complexes`: name to the words of its line.
    `offers`: whether a host has wnodes and vm. `parallel`: allocation rules by name.
    """

    queues: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    jsv_url: str = "none"
    complexes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    offers: bool = False
    parallel: Mapping[str, str] = field(default_factory=dict)


def files(
    site: Site, policy: Policy, parallel: Mapping[str, str], sources: Mapping[str, bytes]
) -> Iterator[File]:
    """Every file of ours. Raises RejectedError if a [[default]] can't hold in Grid Engine."""
    queues = "|".join(shlex_quote(name) for name in default_queues(policy.defaults))
    yield from (File(site.folder / name, sources[name], 0o644) for name in COPIED)
    for hook, act in ACTS.items():
        yield _program(
            site, hook, "guard", "hook.py", hook=hook, act=act, queues=queues, socket=site.socket
        )
    yield _program(
        *(site, "starter", "starter", "starter.py"),
        lease=site.folder / LEASE_PROGRAM,
        queues=queues,
        socket=site.socket,
        retries=site.retries,
    )
    yield _program(site, LEASE_PROGRAM, "lease", "lease.py", socket=site.socket)
    yield policy_file(site, policy, parallel)
    yield _program(site, "jsv", "jsv", "jsv.py", folder=site.folder)


def _program(site: Site, name: str, template: str, program: str, **values: Any) -> File:
    text = render(f"gridengine/{template}.sh.j2", program=site.folder / program, **values)
    return File(site.folder / name, text.encode(), 0o755)


def default_queues(rules: Sequence[DefaultRule]) -> list[str]:
    """The queues whose jobs the site runs in machines.

    Raises RejectedError for a rule that needs more than a queue, or a project, to decide."""
    names = []
    for rule in rules:
        if rule.qos or (rule.partition is None) == (rule.account is None):
            raise RejectedError(
                f"[[default]] image = {rule.image}: with Grid Engine either partition, which is a"
                " queue, or account, which is a project, has to be set, and no qos"
            )
        if rule.partition is not None:
            names.append(rule.partition)
    return names


def policy_file(site: Site, policy: Policy, parallel: Mapping[str, str]) -> File:
    """What jsv.py reads for each job; `parallel` has the allocation rule of each environment."""
    table = {
        "by": "wnodes-lrms: written by `wnodes hooks install` and `wnodes image add|remove`",
        "tags": sorted(policy.tags),
        "projects": {
            rule.account: rule.image for rule in policy.defaults if rule.account is not None
        },
        "allow": [
            {
                "image": rule.image,
                "users": list(rule.users),
                "groups": list(rule.groups),
                "accounts": list(rule.accounts),
            }
            for rule in policy.allow
        ],
        "lease": str(site.folder / LEASE_PROGRAM),
        "lease_users": list(policy.lease_users),
        "parallel": dict(parallel),
    }
    return File(site.folder / "policy.json", (json.dumps(table, indent=1) + "\n").encode(), 0o644)


def plan(site: Site, policy: Policy, facts: Facts, sources: Mapping[str, bytes]) -> HookSet:
    """The files, and the commands that Grid Engine still needs. Raises RejectedError."""
    return HookSet(
        tuple(files(site, policy, facts.parallel, sources)), lines=tuple(lines(site, facts))
    )


def lines(site: Site, facts: Facts) -> Iterator[str]:
    """What is to be typed, by a manager of Grid Engine, until nothing is missing.

    Raises RejectedError where a queue has a starter of its own, or the site a verifier."""
    for name, wanted in COMPLEXES.items():
        if list(facts.complexes.get(name, ())) != wanted.split():
            yield f"qconf -mc    and there the line: {wanted}"
    words = facts.complexes.values()
    if not any(len(row) == 8 and row[2] == "MEMORY" and row[5] != "NO" for row in words):
        yield f"qconf -mc    and there, so that jobs are granted memory: {MEMORY}"
    if not facts.offers:
        yield (
            f"qconf -aattr exechost complex_values {FEATURE}=true,vm=none HOST"
            "    (on each host that runs a bait)"
        )
    for queue, settings in facts.queues.items():
        if "BATCH" not in settings.get("qtype", ""):
            continue
        for hook in ACTS:
            own, ours = settings.get(hook, "NONE"), f"root@{site.folder / hook}"
            if own.upper() == "NONE":
                yield f"qconf -mattr queue {hook} '{ours}' {queue}"
            elif own.split()[0] != ours:
                yield f"qconf -mattr queue {hook} '{ours} {_as_root(queue, hook, own)}' {queue}"
        own = settings.get(STARTER, "NONE")
        if own.upper() == "NONE":
            yield f"qconf -mattr queue {STARTER} {site.folder / 'starter'} {queue}"
        elif own != str(site.folder / "starter"):
            raise RejectedError(f"queue {queue} has the {STARTER} {own}: there can be only one")
    if facts.jsv_url.lower() == "none":
        yield f"qconf -mconf    and there: jsv_url {jsv_url(site)}"
    elif facts.jsv_url != jsv_url(site):
        raise RejectedError(f"Grid Engine has the jsv_url {facts.jsv_url}: there can be only one")


def jsv_url(site: Site) -> str:
    """What the global configuration says of our verifier."""
    return f"script:{site.folder / 'jsv'}"


def _as_root(queue: str, hook: str, own: str) -> str:
    """A queue's own hook, as arguments of ours, which runs as root."""
    user, at, program = own.partition("@")
    if at and "/" not in user:
        if user == "root":
            return program
        own = f"{own} (as {user})"
    raise RejectedError(
        f"queue {queue} has the {hook} {own}, which does not run as root: make it one that does"
        f" ({hook} root@…) and gives its rights up by itself"
    )


def take_back(site: Site, facts: Facts) -> list[str]:
    """What is to be typed before the hooks can go; nothing if they can go now."""
    typed = []
    for queue, settings in facts.queues.items():
        for hook in ACTS:
            first, _, own = settings.get(hook, "NONE").partition(" ")
            if first == f"root@{site.folder / hook}":
                typed.append(
                    f"qconf -mattr queue {hook} '{'root@' + own if own else 'NONE'}' {queue}"
                )
        if settings.get(STARTER) == str(site.folder / "starter"):
            typed.append(f"qconf -mattr queue {STARTER} NONE {queue}")
    if facts.jsv_url == jsv_url(site):
        typed.append("qconf -mconf    and there: jsv_url none")
    return typed
