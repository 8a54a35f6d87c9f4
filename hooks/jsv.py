"""wnodes-lrms: looks at each job that comes to Grid Engine: is what it wishes for possible?

    jsv.py FOLDER

A job submission verifier, jsv(1): the qmaster runs it, as its own user, and asks it of every job.
A wish is `-l vm=<tag>` or WNODES_IMAGE=<tag> in the job's environment. A job with a wish is sent to
nodes with a bait (`-l wnodes=true`), and the hooks see its wish in its environment. What can't work
is refused with one sentence to the user. A job without a wish passes untouched.

policy.json in FOLDER says what the site offers, and is read anew for each job. The same is decided
with authority by the bait, from what Grid Engine says of the job. Standard library only.
"""

import fnmatch
import grp
import json
import os
import pwd
import re
import sys
from collections.abc import Mapping
from typing import Any

TAG = re.compile(r"[a-z0-9][a-z0-9.-]*_[a-z0-9.-]+_[a-z0-9_]+")
LEASE = "wnodes-lease"
ONE_HOST = "$pe_slots"


class RefusedError(Exception):
    """Why the job can't be taken, in words for its user."""


def requests(text: str) -> dict[str, str]:
    """The complexes of a `-l`."""
    pairs = (part.partition("=") for part in text.split(",") if part)
    return {name: value for name, _, value in pairs}


def shown(text: str) -> str:
    """A user's text, fit for a line."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:100])


def wish(asked: Mapping[str, str], environment: Mapping[str, str]) -> str:
    """The tag that a job names; empty if it names none. Raises RefusedError."""
    resource, variable = asked.get("vm", ""), environment.get("WNODES_IMAGE", "")
    if resource and variable and resource != variable:
        raise RefusedError(
            f"WNODES_IMAGE={shown(variable)} and -l vm={shown(resource)} name different images;"
            " a job runs in one"
        )
    return resource or variable


def may_use(rules: list[dict[str, Any]], tag: str, user: str, project: str) -> bool:
    """Whether this user may have this image; the same rule stands in wnodes_lrms/policy.py."""
    about = [rule for rule in rules if rule["image"] in (tag, "*")]
    return not about or any(
        user in rule["users"]
        or project in rule["accounts"]
        or not groups_of(user).isdisjoint(rule["groups"])
        for rule in about
    )


def groups_of(user: str) -> set[str]:
    """The names of a user's groups."""
    try:
        gids = os.getgrouplist(user, pwd.getpwnam(user).pw_gid)
    except KeyError:
        return set()
    names = set()
    for gid in gids:
        try:
            names.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return names


def check_lease(job: Mapping[str, str], policy: Mapping[str, Any]) -> None:
    """A job that is called a lease runs the lease program, as one of the site's lease users."""
    if job.get("CMDNAME") != policy["lease"]:
        raise RefusedError(f"names that begin with {LEASE}- are those of leases")
    user = job.get("USER", "")
    if not any(fnmatch.fnmatchcase(user, pattern) for pattern in policy["lease_users"]):
        raise RefusedError(f"leases do not run as {shown(user)}: [cloud] accounts names the users")


def check_shape(job: Mapping[str, str], environment: Mapping[str, str], rules: Any) -> None:
    """A machine runs a batch job, on one host."""
    if "QRSH_PORT" in environment or job.get("CMDNAME") == "INTERACTIVE":
        raise RefusedError("a VM runs a batch job: submit it with qsub")
    name, slots = job.get("pe_name", ""), job.get("pe_max", "1")
    rule = (rules or {}).get(name, ONE_HOST)  # one that is not known here is the bait's to judge
    if name and rule != ONE_HOST and slots != "1" and rule != slots:
        raise RefusedError(
            f"a job in a VM runs on one node: the parallel environment {shown(name)} may"
            f" spread its slots ({rule}), ask for one whose allocation rule is {ONE_HOST}"
        )


def answer(
    job: Mapping[str, str], environment: Mapping[str, str], policy: Mapping[str, Any]
) -> list[str]:
    """What is to be changed in a job, as lines of the protocol. Raises RefusedError."""
    hard = job.get("l_hard", "")
    asked = requests(hard)
    if "vm" in requests(job.get("l_soft", "")):
        raise RefusedError("-soft -l vm=… leaves open whether the job runs in a VM")
    tag = wish(asked, environment)
    if job.get("N", "").startswith(f"{LEASE}-"):
        if tag:
            raise RefusedError("a lease carries the VM of its order, and names no image")
        check_lease(job, policy)
        return []
    tag = tag or policy["projects"].get(job.get("P", ""), "")
    if not tag:
        return []
    if not TAG.fullmatch(tag):
        raise RefusedError(f"{shown(tag)} is no image: a tag is NAME_OS_ARCH")
    if tag not in policy["tags"]:
        known = ", ".join(policy["tags"][:10]) or "none"
        raise RefusedError(f"no image {tag} here; there are: {known}")
    if not may_use(policy["allow"], tag, job.get("USER", ""), job.get("P", "")):
        raise RefusedError(f"you may not use the image {tag}")
    check_shape(job, environment, policy["parallel"])
    changes = []
    if asked.get("wnodes") is None:
        changes.append(f"PARAM l_hard {hard + ',' if hard else ''}wnodes=true")
    if not environment.get("WNODES_IMAGE"):
        changes.append(f"ENV ADD WNODES_IMAGE {tag}")
    return changes


def verdict(job: Mapping[str, str], environment: Mapping[str, str], folder: str) -> list[str]:
    """The whole answer about one job, as lines of the protocol.

    If this is broken, a job that may wish for a machine is refused, for it would otherwise run
    outside one; any other passes.
    """
    try:
        with open(f"{folder}/policy.json", encoding="utf-8") as file:
            policy = json.load(file)
        changes = answer(job, environment, policy)
    except RefusedError as error:
        return [f"RESULT STATE REJECT wnodes: {error}"]
    except Exception as error:
        if "WNODES_IMAGE" not in environment and "vm=" not in job.get("l_hard", ""):
            return ["RESULT STATE ACCEPT"]
        return [
            f"LOG ERROR wnodes: {' '.join(str(error).split())}",
            "RESULT STATE REJECT wnodes: VMs cannot be given at the moment; please tell your"
            " administrator (the reason is in the qmaster's messages)",
        ]
    return [*changes, "RESULT STATE CORRECT" if changes else "RESULT STATE ACCEPT"]


def main(folder: str) -> None:
    """Answer until the qmaster says QUIT."""
    job: dict[str, str] = {}
    environment: dict[str, str] = {}
    for line in sys.stdin:
        word, _, rest = line.rstrip("\n").partition(" ")
        name, _, value = rest.partition(" ")
        replies: list[str] = []
        if word == "START":
            job, environment = {}, {}
            replies = ["SEND ENV", "STARTED"]
        elif word == "PARAM":
            job[name] = value
        elif word == "ENV":
            variable, _, content = value.partition(" ")
            environment[variable] = content
        elif word == "BEGIN":
            replies = verdict(job, environment, folder)
        elif word == "QUIT":
            return
        for reply in replies:
            print(reply, flush=True)


if __name__ == "__main__":
    sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    main(*sys.argv[1:])
