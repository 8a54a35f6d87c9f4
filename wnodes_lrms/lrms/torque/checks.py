"""What `wnodes doctor` finds about Torque. Pure but for `of_site` and `of_node`, which ask it."""

import fnmatch
import socket
from collections.abc import Collection, Iterator

from wnodes_lrms.config.load import Config
from wnodes_lrms.doctor import Check, fault, ok, warning
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.lrms import features
from wnodes_lrms.lrms.lease import FEATURE
from wnodes_lrms.lrms.torque.allocation import NodeState, parse_node
from wnodes_lrms.run import run

_DEADLINE = 10.0
_AWAY = frozenset(("down", "offline", "unknown"))


def node(name: str, said: NodeState) -> list[Check]:
    """Does Torque send it jobs, and jobs with VMs?"""
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


def operator(name: str, hosts: Collection[str], settings: str) -> Check:
    """Whether the bait may hold, requeue and drain, by `qmgr -c 'print server'`, which names the
    managers and operators, with a * for parts of host names. `hosts`: how this host is called."""
    named = [
        line.split()[-1]
        for line in settings.splitlines()
        if line.startswith(("set server managers", "set server operators"))
    ]
    if any(fnmatch.fnmatchcase(f"root@{host}", who) for host in hosts for who in named):
        return ok("torque operator", f"root@{name} may requeue, hold and drain")
    return warning(
        "torque operator",
        f"root@{name} is no operator: a job whose VM failed ends, it is not tried again; and"
        " `wnodes host drain` can't keep jobs away",
        f"`qmgr -c 'set server operators += root@{name}'`",
    )


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


def of_node(config: Config, name: str) -> Iterator[Check]:
    """The node as Torque has it."""
    try:
        said = run(["pbsnodes", "-x", name], deadline=_DEADLINE)
        state = parse_node(name, said)
        yield from node(name, state)
        yield from features.checks(config, name, state.properties)
        yield from features.counts(config, name, ())
        settings = run(["qmgr", "-c", "print server"], deadline=_DEADLINE)
        yield operator(name, {name, socket.getfqdn()}, settings)
    except WnodesError as error:
        yield fault(
            "torque node",
            f"node {name}: {error}",
            "give the node's name in Torque with --node; see that pbs_server answers",
        )
