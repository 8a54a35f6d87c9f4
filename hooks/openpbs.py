"""wnodes-lrms: gives an OpenPBS job that wishes for a machine the starter in place of its shell.

One hook for the events queuejob, modifyjob and movejob of the server, execjob_launch and
execjob_epilogue of the moms; it runs as root in PBS's own interpreter. A wish is `-l vm=<tag>`,
WNODES_IMAGE=<tag> in the job's environment, or the site's own default by queue. At
submission it becomes the resources vm and wnodes_by, and the need of a node with wnodes=True; what
cannot work is refused there, with one sentence to the user. Users can't write wnodes_by: it alone
tells the moms that a job has a machine, or is a lease. A job without it costs one comparison.

Moms start an interpreter for each job and event, where a module more costs milliseconds: each is
imported where it is needed.

Paths come from PBS's file of configuration for this hook, what the site offers from policy.json,
read anew for each submission; `wnodes hooks install` writes both.

Seen on OpenPBS 23.06 and minded below:
  * For a script, argv is empty and mom writes the spooled script's path to the shell's standard
    input; argv[0] becomes the program's name with a dash before it. `qsub -- CMD` has a full argv.
  * execjob_launch also comes for each task that is spawned beside the job's first.
  * run_count is 1 in the first run. Users can raise it, never lower it.
  * rerun() also runs a job again that was submitted with -r n, and moms don't know which were.
  * A resource that is not defined raises AttributeError; one that is not asked for is None.
  * Of what an epilogue sets, a job's comment does not reach the server; its hold and its
    environment do.
  * event.reject() and event.accept() end the hook by raising SystemExit.
"""

from __future__ import annotations

import os

import pbs  # type: ignore[import-not-found]  # of PBS's own interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

MARK = "wnodes_by"  # environment, resource or default: what named the image; or LEASE
LEASE = "lease"
ONCE = "+once"  # after the mark of a job that may not be run again: moms don't have that
LEASE_NAME = r"wnodes-lease-[A-Za-z0-9-]+"
# How a starter ends that had no machine, see hooks/requeue.py: no script's own code is a signal.
AGAIN, HOLD = 256 + 30, 256 + 29  # SIGPWR, SIGIO
TELL, ASK = 0.5, 10.0  # seconds for a message to the bait, without and with its answer
LONGEST_ANSWER = 65536


class Refused(Exception):  # noqa: N818 (no fault of anybody)
    """What cannot work, in words for the job's user."""


def shown(text: object) -> str:
    """A user's text, fit for a message."""
    import re

    return re.sub(r"[^ -~]", "?", str(text)[:100])


def as_value(text: str) -> str:
    """A text as the value of a job's variable. It may end with what a guest has printed, and what
    follows a comma in a list of variables is another one."""
    import re

    return re.sub(r"""[,"'\\]""", ";", shown(text))


def default_image(policy: Json, queue: str) -> str | None:
    """The image of the first [[default]] that fits the queue. One that needs an account or a QOS
    fits no job: PBS takes the user's word for the first, and knows no QOS."""
    for rule in policy["defaults"]:
        if rule["partition"] in (None, queue) and not (rule["account"] or rule["qos"]):
            return str(rule["image"])
    return None


def groups_of(user: str) -> set[str]:
    """The names of a user's groups."""
    import grp
    import pwd

    try:
        numbers = os.getgrouplist(user, pwd.getpwnam(user).pw_gid)
        return {grp.getgrgid(number).gr_name for number in numbers}
    except KeyError:
        return set()


def may_use(rules: list[Json], image: str, user: str) -> bool:
    """Whether the rules let this user have this image; wnodes_lrms/policy.py has the same rule.

    An account lets nobody in: PBS takes the user's word for it.
    """
    about = [rule for rule in rules if rule["image"] in (image, "*")]
    return not about or any(
        user in rule["users"] or (rule["groups"] and not groups_of(user).isdisjoint(rule["groups"]))
        for rule in about
    )


def on_one_node(select: str, nodes: str) -> tuple[str, str]:
    """Both texts with the need of a node that has a bait. Raises Refused for several chunks."""
    import re

    for option, text in (("select", select), ("nodes", nodes)):
        first, *more = text.split(":")
        if "+" in text or (first.isdigit() and int(first) != 1):
            raise Refused(
                "a job in a VM runs in one chunk on one node, and this one asks for"
                f" -l {option}={shown(text)}"
            )
        if any(re.fullmatch(r"wnodes=f(alse)?|wnodes=[n0].*", term, re.I) for term in more):
            raise Refused("a job in a VM needs a node with wnodes=True")
    if select and not re.search(r"(^|:)wnodes=", select):
        select += ":wnodes=True"
    if nodes and "wnodes" not in nodes.split("#")[0].split(":"):
        spec, *rest = nodes.split("#", 1)
        nodes = "#".join([spec + ":wnodes", *rest])
    return select, nodes


def refuse_sandbox(job: Any) -> None:
    """Refuse a job that would begin in a folder which mom makes on the node."""
    if str(job.sandbox or "").upper() == "PRIVATE":
        raise Refused("a job in a VM has no private folder on its node (-W sandbox=PRIVATE)")


def require_node(resources: Any) -> None:
    """Have the job need a node with a bait. Raises Refused."""
    select, nodes = resources["select"], resources["nodes"]
    wanted = on_one_node(str(select or ""), str(nodes or ""))
    if select:
        resources["select"] = pbs.select(wanted[0])
    elif nodes:
        resources["nodes"] = wanted[1]
    elif resources["place"]:  # PBS takes no single resource beside it
        resources["select"] = pbs.select("1:wnodes=True")
    else:
        resources["wnodes"] = True


def is_lease(job: Any, variables: Any) -> bool:
    """Whether a job looks like one that carries a cloud user's machine. Anybody can write such."""
    import re

    select = str(job.Resource_List["select"] or "")
    return bool(
        re.fullmatch(LEASE_NAME, str(job.Job_Name or ""))
        and "WNODES_LEASE" in variables
        and re.search(r":(wnodes=True|vnode=)", select, re.I)
    )


def carries_leases(user: str, users: list[str]) -> bool:
    """Whether leases may run as this user; wnodes_lrms/lrms/lease.py has the same rule."""
    return any(user.startswith(name[:-1]) if name.endswith("*") else user == name for name in users)


def queuejob(event: Any, config: Json) -> None:
    """Make a job ready for a machine. Raises Refused."""
    job, user = event.job, event.requestor
    resources, variables = job.Resource_List, job.Variable_List or {}
    asked, named = variables.get("WNODES_IMAGE") or None, resources["vm"]
    if asked and named and asked != named:
        raise Refused(
            f"WNODES_IMAGE={shown(asked)} and -l vm={shown(named)} name different images;"
            " a job runs in one"
        )
    policy = read(config["policy"])
    if not named and is_lease(job, variables):
        if not carries_leases(user, policy["lease_users"]):
            raise Refused(f"leases do not run as {shown(user)}: [cloud] accounts names the users")
        resources[MARK] = LEASE
        return
    image = named or asked
    if not image and policy["defaults"]:  # the default queue is dear to ask for: some milliseconds
        image = default_image(policy, queue_of(job))
    if not image:
        return
    whose = "" if named or asked else " (the site runs this job in a VM, by its queue)"
    if image not in policy["tags"]:
        there = ", ".join(sorted(policy["tags"])[:10]) or "none"
        raise Refused(f"no image {shown(image)} here; there are: {there}{whose}")
    if not may_use(policy["allow"], image, user):
        raise Refused(f"you may not use the image {image}{whose}")
    if job.interactive:
        raise Refused(f"a VM runs a batch script: submit it without -I{whose}")
    refuse_sandbox(job)
    require_node(resources)
    resources["vm"] = image
    by = "resource" if named else "environment" if asked else "default"
    resources[MARK] = by if job.Rerunable else by + ONCE


def queue_of(job: Any) -> str:
    """The queue that the user has named, else the server's default."""
    queue = str(job.queue or "").partition("@")[0]
    return queue or str(pbs.server().default_queue or "")


def modifyjob(event: Any, _config: Json) -> None:
    """A job with a machine keeps its image and its one node; no other gets one. Raises Refused."""
    new, old = event.job, event.job_o
    resources = new.Resource_List
    mark, image = old.Resource_List[MARK], old.Resource_List["vm"]
    wanted = resources["vm"]
    if mark == LEASE or not mark:
        if wanted:
            raise Refused("a VM is asked for at submission: submit the job again")
        return
    if wanted and wanted != image:
        raise Refused(f"the job runs in {image}: submit it again for {shown(wanted)}")
    refuse_sandbox(new)
    if resources["select"] or resources["nodes"]:
        require_node(resources)
    if new.Rerunable is not None:
        by = str(mark).removesuffix(ONCE)
        resources[MARK] = by if new.Rerunable else by + ONCE


def movejob(event: Any, config: Json) -> None:
    """A job can't move into a queue that gives another default image. Raises Refused."""
    if event.job.Resource_List[MARK]:
        return
    policy = read(config["policy"])
    given = default_image(policy, queue_of(event.job))
    if given and given != default_image(policy, str(event.src_queue)):
        raise Refused(
            f"the site runs such jobs in {given}, which is given at submission: submit it again"
        )


def launch(event: Any, config: Json) -> None:
    """Put the starter, or the lease program, in place of what would run. Raises Refused."""
    job, node = event.job, pbs.get_local_nodename()
    mark = str(job.Resource_List[MARK])
    if str(event.env.get("PBS_TASKNUM")) != "1":
        raise Refused("this job runs in a VM: nothing else of it runs on the node")
    command = list(event.argv)
    if mark == LEASE:
        program, words = config["lease"], []
    elif command:
        program, words = config["starter"], ["command", *command]
    else:
        program, words = config["starter"], ["script", str(event.progname)]
    if mark != LEASE:
        try:
            exchange(config["socket"], node, {"op": "prepare", "job": str(job.id)}, TELL)
        except OSError as trouble:  # the starter asks for the machine itself
            log(job, f"prepare: {trouble}")
    # For what the starter tells the user; a job that may run but once is not tried again.
    event.env["WNODES_RUN"] = "" if mark.endswith(ONCE) else str(job.run_count or 1)
    event.progname = program
    event.argv = []
    for word in (program, str(job.id), node, *words):
        event.argv.append(word)


def epilogue(event: Any, config: Json) -> None:
    """Tell the bait that the job has ended. One whose starter had no machine runs again, or is held
    with the reason: the starter is the owner's, who may do neither."""
    job = event.job
    mark = str(job.Resource_List[MARK])
    message = {"op": "release", "job": str(job.id)}
    try:
        answer = exchange(config["socket"], pbs.get_local_nodename(), message, ASK)
    except (OSError, ValueError) as trouble:
        log(job, f"release: {trouble}")
        answer = {"error": f"the bait on {pbs.get_local_nodename()} does not answer"}
    if mark == LEASE or job.Exit_status not in (AGAIN, HOLD):
        return
    reason = (
        answer.get("failed") or answer.get("error") or "why is on the standard error of the job"
    )
    runs = int(job.run_count or 1)
    log(job, f"run {runs} of {config['retries'] + 1} had no VM: {reason}")
    if mark.endswith(ONCE):
        return
    if job.Exit_status == HOLD or runs > config["retries"]:
        job.Hold_Types = pbs.hold_types("u")
        job.Variable_List["WNODES_HELD"] = as_value(reason)
    job.rerun()


def exchange(pattern: str, node: str, message: Json, seconds: float) -> Json:
    """Send one line to the bait; its answer, where time is given to wait for one.

    `seconds` bounds each step. Raises OSError, ValueError."""
    import json
    import socket

    answer = b""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(seconds)
        link.connect(pattern.replace("%n", node))
        link.sendall(json.dumps(message).encode() + b"\n")
        while seconds == ASK and b"\n" not in answer and len(answer) < LONGEST_ANSWER:
            piece = link.recv(4096)
            if not piece:
                break
            answer += piece
    said: Json = json.loads(answer) if answer else {}
    return said


def log(job: Any, text: str) -> None:
    pbs.logjobmsg(str(job.id), f"wnodes: {' '.join(text.split())}")


def read(path: str) -> Json:
    import json

    with open(path, encoding="utf-8") as file:
        said: Json = json.load(file)
    return said


def wishes(event: Any) -> bool:
    """Whether a job may wish for a machine, asked when this hook has failed."""
    job = event.job
    try:
        named = job.Resource_List["vm"]
    except AttributeError:  # that resource is not defined
        named = None
    return bool(named or "WNODES_IMAGE" in (job.Variable_List or {}))


EVENTS = {
    pbs.QUEUEJOB: queuejob,
    pbs.MODIFYJOB: modifyjob,
    pbs.MOVEJOB: movejob,
    pbs.EXECJOB_LAUNCH: launch,
    pbs.EXECJOB_EPILOGUE: epilogue,
}


def main() -> None:
    """See the head of this file."""
    event = pbs.event()
    try:
        if (
            event.type not in (pbs.EXECJOB_LAUNCH, pbs.EXECJOB_EPILOGUE)
            or (event.job.Resource_List[MARK])
        ):
            EVENTS[event.type](event, read(pbs.hook_config_filename))
    except Refused as why:
        event.reject(f"wnodes: {why}")
    except Exception as fault:
        # A plain job passes; one that wishes for a machine must not run outside of one.
        pbs.logmsg(pbs.LOG_ERROR, f"wnodes: {type(fault).__name__}: {fault}")
        if event.type != pbs.EXECJOB_EPILOGUE and wishes(event):
            event.reject(
                "wnodes: VMs cannot be given at the moment; please tell your administrator"
                " (the reason is in PBS's log)"
            )
    event.accept()


main()
