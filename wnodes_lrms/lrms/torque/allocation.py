"""What Torque says of jobs and nodes. Pure: what asks for these texts is in node.py.

Sources: qstat(1B), pbsnodes(8B) and pbs_resources(7B) of Torque 6.1.3, and what it was seen to
print. The XML form is read: in the other ones a line end in an account, in arguments or in -W x=
stands as it was written, and a user's line passes for an attribute. In the XML each «<» of a value
is escaped. An XML parser would be the wrong reader all the same: other bytes of a user are not
escaped, and one job's name would make the whole answer unreadable.
"""

import html
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.lrms.pbs import parse_size
from wnodes_lrms.model import Allocation
from wnodes_lrms.order import LEASE_NAME
from wnodes_lrms.policy import DefaultRule, default_image
from wnodes_lrms.provision import VARIABLE as SCRATCH

WISH = "other"  # the resource that bears a wish: qsub knows no new ones, and passes this one on
_TOKEN = re.compile(r"<(/?)([A-Za-z_][\w.]*)>([^<]*)")
_MIB = 1 << 20
_TOTAL = "req_information.total_memory."
_VM = re.compile(r"vm:(\S+)")
_IMAGE = re.compile(r"(?:^|,)WNODES_IMAGE=([^,]*)")
_SCRATCH = re.compile(rf"(?:^|,){SCRATCH}=([^,]*)")

Whois = Callable[[str, str], tuple[int, int]]  # names of a user and a group: their numbers


def records(listing: str, kind: str) -> Iterator[dict[str, str]]:
    """The records of a listing in Torque's XML: `Job` of `qstat -f -x`, `Node` of `pbsnodes -x`.

    What stands in a group is named with it, as in `Resource_List.mem`. Raises UnknownError if that
    is no whole listing.
    """
    text = listing.strip()
    if not (text.endswith("</Data>") and "<Data>" in text):
        raise UnknownError("Torque's listing is not whole")
    path: list[str] = []
    values: dict[str, str] = {}
    for close, name, value in _TOKEN.findall(text):
        if close:
            if not path or path.pop() != name:
                raise UnknownError("Torque's listing is not well formed")
            if path == ["Data"] and name == kind:
                yield values
        else:
            path.append(name)
            if path == ["Data", kind]:
                values = {}
            elif path[:2] == ["Data", kind]:
                key = ".".join(path[2:])
                if key in values:
                    raise UnknownError(f"Torque's listing says twice what {key} is")
                values[key] = html.unescape(value)


def parse_allocation(
    job: str, listing: str, rules: Iterable[DefaultRule], node: str, whois: Whois
) -> Allocation:
    """The allocation that `qstat -f -x JOB` describes.

    Raises UnknownError if it has no such job, RejectedError if the job does not run, or not on
    this node alone, and what `whois` raises.
    """
    return _granted(job, _record(job, listing), rules, node, whois)


def parse_place(job: str, listing: str, states: Container[str] = ("R", "S")) -> str | None:
    """The one node on which the job of `qstat -f -x JOB` is in one of these states, by default
    runs, else an empty text; None if it has ended."""
    record = _record(job, listing)
    if record.get("job_state") == "C":
        return None
    nodes = list(parse_hosts(record.get("exec_host", "")))
    return nodes[0] if record.get("job_state") in states and len(nodes) == 1 else ""


def parse_once(job: str, listing: str) -> bool:
    """Whether the job of `qstat -f -x JOB` was submitted with -r n."""
    return _record(job, listing).get("Rerunable") == "False"


def _record(job: str, listing: str) -> dict[str, str]:
    found = [each for each in records(listing, "Job") if each.get("Job_Id") == job]
    if len(found) != 1:
        raise UnknownError("qstat does not list the job")
    return found[0]


def _granted(
    job: str, record: Mapping[str, str], rules: Iterable[DefaultRule], node: str, whois: Whois
) -> Allocation:
    try:
        state, user, group = record["job_state"], record["euser"], record["egroup"]
        count, queue = int(record["start_count"]) if state in "RSE" else 0, record["queue"]
    except (KeyError, ValueError) as error:
        raise UnknownError(f"qstat does not tell the job's {error.args[0]}") from error
    if state == "E":
        raise RejectedError(f"job {job} is ending")
    if state not in ("R", "S") or count < 1:
        raise RejectedError(f"job {job} does not run (state {state})")
    where = parse_hosts(record.get("exec_host", ""))
    if list(where) != [node]:
        raise RejectedError(
            f"job {job} has {len(where)} node(s) ({'+'.join(where) or 'none'}), "
            f"a VM needs exactly one, here {node}"
        )
    # A lease's process speaks for itself, with an order; its account is held against that one.
    # Else it is the user's word, which Torque does not check: no rule may go by it.
    lease = record.get("Job_Name", "").startswith(LEASE_NAME)
    tag, by = ("", "") if lease else _wish(record, rules)
    scratch = _SCRATCH.search(record.get("Variable_List", ""))
    uid, gid = whois(user, group)
    return Allocation(
        job=job,
        restart=count - 1,
        uid=uid,
        gid=gid,
        account=record.get("Account_Name", "") if lease else "",
        partition=queue,
        cores=where[node],
        memory=_memory(record, where[node]),
        cpus=(),
        workdir=record.get("init_work_dir", "/"),
        tag=tag,
        by=by,
        scratch=scratch[1] if scratch else "",
    )


def parse_hosts(exec_host: str) -> dict[str, int]:
    """Node → how many of its slots, from exec_host: `a/0-2,5+b/1`, `a/0+a/1`.

    Raises UnknownError for any other text.
    """
    found: dict[str, int] = {}
    for part in exec_host.split("+") if exec_host else ():
        name, _, slots = part.partition("/")
        for numbers in slots.split(","):
            if not re.fullmatch(r"\d+(-\d+)?", numbers) or not name:
                raise UnknownError(f"exec_host «{exec_host}» is not understood")
            first, _, last = numbers.partition("-")
            found[name] = found.get(name, 0) + int(last or first) - int(first) + 1
    return found


def _memory(record: Mapping[str, str], cores: int) -> int:
    """MiB of the job, which has one node: its own memory, or that of its processes in sum."""
    if "Resource_List.mem" in record:
        return parse_size(record["Resource_List.mem"]) // _MIB
    if "Resource_List.pmem" in record:
        return parse_size(record["Resource_List.pmem"]) // _MIB * cores
    asked = [size for key, size in record.items() if key.startswith(_TOTAL)]
    if asked:  # by -L
        return sum(parse_size(size) // _MIB for size in asked)
    raise RejectedError(
        "the job was granted no memory: the user must give -l mem=…, or the site a default, as in"
        " `qmgr -c 'set queue QUEUE resources_default.mem = 2gb'`"
    )


def _wish(record: Mapping[str, str], rules: Iterable[DefaultRule]) -> tuple[str, str]:
    """The tag that the job asks for, or that the site gives it, and by what."""
    if found := _VM.fullmatch(record.get(f"Resource_List.{WISH}", "")):
        return found[1], "resource"
    if found := _IMAGE.search(record.get("Variable_List", "")):
        return found[1], "environment"
    tag = default_image(rules, record["queue"], account=None)
    return tag, "default" if tag else ""


@dataclass(frozen=True)
class NodeState:
    """What Torque says of a node."""

    state: frozenset[str]
    note: str
    properties: frozenset[str]
    jobs: frozenset[str]


def parse_node(node: str, listing: str) -> NodeState:
    """The node that `pbsnodes -x NODE` describes. Raises UnknownError if it does not."""
    found = [each for each in records(listing, "Node") if each.get("name") == node]
    if len(found) != 1 or not found[0].get("state"):
        raise UnknownError(f"pbsnodes does not tell the state of node {node}")
    record = found[0]
    # 0-1/12.server,3/13[2].server: slots, then the job that holds them.
    parts = [part.partition("/") for part in record.get("jobs", "").split(",") if part]
    return NodeState(
        state=frozenset(record["state"].split(",")),
        note=record.get("note", ""),
        properties=frozenset(record.get("properties", "").split(",")),
        jobs=frozenset(job.strip() for _slots, slash, job in parts if slash),
    )
