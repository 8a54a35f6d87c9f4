"""What `wnodes doctor` finds about Torque. Pure but for `of_site` and `of_node`, which ask it."""

from collections.abc import Iterator

from wnodes_lrms.config import Config
from wnodes_lrms.doctor import FEATURE, Check, fault, ok, warning
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.run import run
from wnodes_lrms.torque import NodeState, parse_node

_DEADLINE = 10.0
_AWAY = frozenset(("down", "offline", "unknown"))


def node(name: str, said: NodeState) -> list[Check]:
    """Does Torque send it jobs, and jobs with machines?"""
    state = ",".join(sorted(said.state))
    why = f": {said.note}" if said.note else ""
    return [
        ok("torque property", f"node {name} has the property {FEATURE}")
        if FEATURE in said.properties
        else warning(
            "torque property",
            f"node {name} lacks the property {FEATURE}: jobs that ask for nodes=1:{FEATURE}, and"
            " leases, do not come here",
            f"`qmgr -c 'set node {name} properties += {FEATURE}'`",
        ),
        warning(
            "torque node",
            f"node {name} is {state}{why}",
            "`wnodes host resume`"
            if said.note.startswith("wnodes:")
            else f"mend the cause, then `pbsnodes -c {name}`",
        )
        if not _AWAY.isdisjoint(said.state)
        else ok("torque node", f"node {name} is {state}"),
    ]


def operator(name: str, settings: str) -> Check:
    """Whether the bait may hold and requeue, and take its node offline, by `qmgr -c 'print
    server'` as its root sees it: qmgr names the operators to everybody."""
    named = [
        line.split()[-1]
        for line in settings.splitlines()
        if line.startswith(("set server managers", "set server operators"))
    ]
    # *: any host, or a part of one, as in root@*.site.org
    if any(_fits(who, name) for who in named):
        return ok("torque operator", f"root@{name} may requeue, hold and drain")
    return warning(
        "torque operator",
        f"root@{name} is no operator: a job whose machine failed ends, it is not tried again; and"
        " `wnodes host drain` can't keep jobs away",
        f"`qmgr -c 'set server operators += root@{name}'`",
    )


def _fits(who: str, name: str) -> bool:
    user, _, host = who.partition("@")
    if user not in ("root", "*"):
        return False
    return host.endswith(name) or name.startswith(host.split(".")[0]) or host.startswith("*")


def of_site(_config: Config) -> Iterator[Check]:
    """Does the server answer?"""
    try:
        run(["qstat", "-B"], deadline=_DEADLINE)
        yield ok("torque", "pbs_server answers")
    except WnodesError as error:
        yield fault(
            "torque",
            f"does not answer: {error}",
            "see that pbs_server and, here, trqauthd run, and that server_name is right",
        )


def of_node(_config: Config, name: str) -> Iterator[Check]:
    """The node as Torque has it."""
    try:
        said = run(["pbsnodes", "-x", name], deadline=_DEADLINE)
        yield from node(name, parse_node(name, said))
        yield operator(name, run(["qmgr", "-c", "print server"], deadline=_DEADLINE))
    except WnodesError as error:
        yield fault(
            "torque node",
            f"node {name}: {error}",
            "give the node's name in Torque with --node; see that pbs_server answers",
        )
