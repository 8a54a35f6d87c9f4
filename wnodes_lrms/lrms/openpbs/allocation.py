"""What OpenPBS says of jobs and nodes. Pure: what asks for these texts is in node.py.

Sources: qstat(1B), pbsnodes(8B), pbs_job_attributes(7B) and the source (qstat.c, pbsnodes.c) of
OpenPBS 23.06. `qstat -f -w` gives each attribute a line, and a line end in a value becomes the two
characters \\n, so that no user's text can begin a line. JSON is not used: by its source, the
release 23.06.06 prints names of variables unescaped and keeps a value's backslashes, so that a
user's variable can end its string and write whatever attribute it likes.
"""

import grp
import pwd
import re
from collections.abc import Iterator

from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.lrms.pbs import parse_size
from wnodes_lrms.model import Allocation
from wnodes_lrms.provision import VARIABLE as SCRATCH
from wnodes_lrms.users import check_owner

_ATTRIBUTE = re.compile(r" {4}([A-Za-z_][A-Za-z0-9_.-]*) = (.*)", re.DOTALL)
_CHUNK = re.compile(r"\(?([A-Za-z0-9_.-]+(?:\[\d+\])?)((?::[^+()]*)?)\)?")
_SUSPENDED = {"S", "U"}  # by an operator, by a workstation that its user needs
_GRANTED = {"R"} | _SUSPENDED
_ENDING = "E"


def attributes(listing: str, header: str = "Job Id: ") -> dict[str, dict[str, str]]:
    """Name → attributes of what `qstat -f -w` lists. Raises UnknownError for any other text."""
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] | None = None
    for line in listing.split("\n"):
        if line.startswith(header):
            current = found.setdefault(line.removeprefix(header).strip(), {})
        elif match := _ATTRIBUTE.fullmatch(line):
            if current is None or match[1] in current:
                raise UnknownError("qstat's listing is not understood")
            current[match[1]] = match[2]
        elif line.strip():
            raise UnknownError("qstat's listing is not understood")
    return found


def parse_allocation(job: str, listing: str, node: str) -> Allocation:
    """The allocation that `qstat -f -w JOB` describes.

    Raises UnknownError if that is no listing of a job with an allocation, RejectedError if the job
    is ending, or not on this node alone.
    """
    said = attributes(listing).get(job)
    if said is None:
        raise UnknownError(f"qstat does not list job {job}")
    state = said.get("job_state", "")
    if state == _ENDING:
        raise RejectedError(f"job {job} is ending")
    if state not in _GRANTED:
        raise UnknownError(f"job {job} has no allocation: its state is {state or 'not told'}")
    if "euser" not in said:
        raise UnknownError(
            "qstat does not tell the job's euser: root on this node must be an operator or a"
            f" manager of PBS (qmgr -c 'set server managers += root@{node}')"
        )
    cores, memory = _grant(job, said, node)
    lease = said.get("Resource_List.wnodes_by") == "lease"
    variables = dict(_variables(said.get("Variable_List", "")))
    tag = said.get("Resource_List.vm", "")
    by = said.get("Resource_List.wnodes_by", "resource").partition("+")[0] if tag else ""
    if not tag and variables.get("WNODES_IMAGE"):
        tag, by = variables["WNODES_IMAGE"], "environment"
    owner, group = said["euser"], said.get("egroup", "")
    try:
        user = pwd.getpwnam(owner)
        gid = grp.getgrnam(group).gr_gid if group else user.pw_gid
    except KeyError as error:
        raise RejectedError(f"this node does not know user {owner} and group {group}") from error
    check_owner(user.pw_uid, gid, owner)
    return Allocation(
        job=job,
        restart=max(0, _whole(said.get("run_version") or said.get("run_count", "1")) - 1),
        uid=user.pw_uid,
        gid=gid,
        # The user's word, which lets nobody in; of a lease, the order is compared with it.
        account=said.get("Account_Name", "") if lease else "",
        partition=said.get("queue", ""),
        cores=cores,
        memory=memory,
        cpus=(),
        workdir=variables.get("PBS_O_WORKDIR", ""),  # its home is in the machine anyway
        tag=tag,
        by=by,
        scratch=variables.get(SCRATCH, ""),
    )


def parse_place(job: str, listing: str) -> str | None:
    """The one node on which the job of `qstat -f -w JOB` runs, else an empty text; None if it has
    ended."""
    said = attributes(listing).get(job)
    if said is None:
        raise UnknownError(f"qstat does not list job {job}")
    if said.get("job_state") == "F":
        return None
    nodes = {vnode.partition("[")[0] for vnode, _ in _CHUNK.findall(said.get("exec_vnode", ""))}
    return nodes.pop() if said.get("job_state") in _GRANTED and len(nodes) == 1 else ""


def _grant(job: str, said: dict[str, str], node: str) -> tuple[int, int]:
    """Cores and MiB of the one host in exec_vnode, such as `(hv1:ncpus=2:mem=512000kb)`; a host's
    vnodes are joined, such as `(hv1[0]:ncpus=1+hv1[1]:ncpus=1:mem=1gb)`."""
    chunks = _CHUNK.findall(said.get("exec_vnode", ""))
    hosts = {vnode.partition("[")[0] for vnode, _ in chunks}
    if not chunks:
        raise UnknownError(f"qstat does not tell where job {job} runs")
    if hosts != {node}:
        raise RejectedError(
            f"job {job} runs on {', '.join(sorted(hosts))}, a VM needs exactly one node,"
            f" here {node}"
        )
    cores, memory = 0, 0
    for _, resources in chunks:
        granted = dict(word.partition("=")[::2] for word in resources.split(":"))
        cores += _whole(granted.get("ncpus", "0"))
        memory += parse_size(granted.get("mem", "0"))
    if not memory:
        raise RejectedError(
            "the job's allocation has no memory of its own: the user must ask for it, as with"
            " -l select=1:ncpus=1:mem=1gb, or the site give it by default (default_chunk.mem)"
        )
    return max(1, cores), memory // 1024**2


def _hosts(said: dict[str, str]) -> set[str]:
    return {vnode.partition("[")[0] for vnode, _ in _CHUNK.findall(said.get("exec_vnode", ""))}


def _variables(text: str) -> Iterator[tuple[str, str]]:
    """Names and values in Variable_List: a backslash stands before commas, quotes, backslashes."""
    for entry in re.findall(r"(?:[^\\,]|\\.)+", text, re.DOTALL):
        name, equals, value = entry.partition("=")
        if equals:
            yield name, re.sub(r"""\\([\\,"'])""", r"\1", value)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UnknownError(f"PBS says «{text}» where a number is needed") from None


def parse_node(node: str, listing: str) -> dict[str, list[str]]:
    """What `pbsnodes -H NODE` says of the host's vnodes: attribute → values, one for each vnode
    that has it. Raises UnknownError if that is no description of the node.
    """
    said: dict[str, list[str]] = {}
    names = []
    for line in listing.split("\n"):
        key, equals, value = line.strip().partition(" = ")
        if line.startswith(" ") and equals:
            said.setdefault(key, []).append(value)
        elif line.strip():
            names.append(line.strip())
    if node not in names or len(said.get("state", [])) != len(names):
        raise UnknownError(f"pbsnodes does not describe node {node}")
    return said


def parse_jobs(said: dict[str, list[str]]) -> set[str]:
    """The jobs in a node's description, such as `12.srv/0, 12.srv/1, 13[2].srv/0`."""
    words = ",".join(said.get("jobs", [])).replace(" ", "").split(",")
    return {word.partition("/")[0] for word in words if word}


def parse_suspended(listing: str, node: str) -> set[str]:
    """The jobs in `qstat -f -w` whose suspended processes are on this node: PBS takes such a job
    off the node's list, and remembers where it was."""
    return {
        job
        for job, said in attributes(listing).items()
        if said.get("job_state") in _SUSPENDED and node in _hosts(said)
    }


def parse_drain(said: dict[str, list[str]]) -> str | None:
    """Why a node is offline, None if it is not, from its description."""
    if not any("offline" in state.split(",") for state in said["state"]):
        return None
    return next(iter(said.get("comment", [])), "")
