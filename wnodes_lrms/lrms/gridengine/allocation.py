"""What Grid Engine says of jobs and queues. Pure: what asks for these texts is in node.py.

Sources: qstat(1), qmod(1), complex(5) of Grid Engine 8.1.9 and its schemas of qstat's XML. XML is
read because all else that qstat writes can be imitated by a job's environment or name.
"""

import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.lrms.jobid import JobId, grammar
from wnodes_lrms.model import Allocation
from wnodes_lrms.order import LEASE_NAME
from wnodes_lrms.policy import DefaultRule, default_image
from wnodes_lrms.provision import VARIABLE as SCRATCH

_SUSPENDED = frozenset("sST")  # by a person, by its queue, by a queue's suspend_thresholds
WISH = "vm"  # the complex that names an image
VARIABLE = "WNODES_IMAGE"
_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "K": 1024, "M": 1024**2, "G": 1024**3}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kmgKMG]?)")
# A name may have what XML does not allow; qstat writes it out as it is.
_NO_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")

job_id = grammar(r"[1-9]\d{0,9}(\.[1-9]\d{0,9})?")  # an array's task with its number behind


@dataclass(frozen=True)
class Job:
    """What `qstat -j` tells of a job. `requests`: complex to value, memory in bytes; `started`:
    task to seconds since the epoch."""

    name: str
    owner: str
    uid: int
    gid: int
    project: str
    account: str
    workdir: str  # empty: the owner's home
    environment: dict[str, str]
    requests: dict[str, str]
    started: dict[str, int]


@dataclass(frozen=True)
class Held:
    """What a job or task holds: slots on a host, in a queue."""

    job: str
    queue: str
    host: str
    slots: int
    suspended: bool = False


@dataclass(frozen=True)
class Memory:
    """A consumable complex of memory. `default` in bytes, for jobs that do not ask for it."""

    name: str
    default: int
    each_slot: bool


def parse_job(number: str, said: str) -> Job:
    """The job in the output of `qstat -xml -j NUMBER`. Raises UnknownError if there is none."""
    found = xml(said).findall("djob_info/element")
    if len(found) != 1 or found[0].findtext("JB_job_number") != number:
        raise UnknownError("qstat does not list the job")
    job = found[0]
    try:
        return Job(
            name=_some(job, "JB_job_name"),
            owner=_one(job, "JB_owner"),
            uid=int(_one(job, "JB_uid")),
            gid=int(_one(job, "JB_gid")),
            project=_some(job, "JB_project"),
            account=_some(job, "JB_account"),
            workdir=_some(job, "JB_cwd").replace("%lt;", "<"),
            environment={
                _one(pair, "VA_variable"): pair.findtext("VA_value", "")
                for pair in job.findall("JB_env_list/job_sublist")
            },
            requests={
                request.findtext("CE_name", ""): request.findtext("CE_stringval", "")
                for request in job.findall("JB_hard_resource_list/qstat_l_requests")
            },
            started={
                _one(task, "JAT_task_number"): int(task.findtext("JAT_start_time", "0"))
                for task in job.findall("JB_ja_tasks/ulong_sublist")
            },
        )
    except ValueError as error:
        raise UnknownError(f"qstat tells of the job in other words than known: {error}") from error


def parse_held(said: str) -> Sequence[Held]:
    """What is held, from `qstat -xml -s rs`: with `-g t` a row for each host and slot of a job,
    else one a job with all its slots. Raises UnknownError if the text is no listing."""
    rows = []
    for row in _listing(said).findall("queue_info/job_list"):
        queue, _, host = row.findtext("queue_name", "").partition("@")
        number, task = row.findtext("JB_job_number", ""), row.findtext("tasks", "")
        slots = row.findtext("slots", "")
        if not (host and number.isdigit() and slots.isdigit()):
            raise UnknownError("qstat lists a running job in other words than known")
        suspended = bool(_SUSPENDED.intersection(row.findtext("state", "")))
        job = f"{number}.{task}" if task else number
        rows.append(Held(job, queue, host, int(slots), suspended))
    return rows


def parse_queued(said: str) -> set[str]:
    """The numbers of the jobs that wait, from `qstat -xml -s p`. Raises UnknownError if the text is
    no listing."""
    return {_one(row, "JB_job_number") for row in _listing(said).findall("job_info/job_list")}


def parse_named(said: str, name: str) -> Sequence[JobId]:
    """The jobs of a name, in `qstat -xml`. Raises UnknownError if the text is no listing."""
    rows = [row for row in _listing(said).iter("job_list") if row.findtext("JB_name") == name]
    return sorted({job_id(_one(row, "JB_job_number")) for row in rows}, key=int)


def parse_memory(said: str) -> Sequence[Memory]:
    """The consumable complexes of memory, from `qconf -sc`."""
    rows = [line.split() for line in said.splitlines() if line.strip() and line[0] != "#"]
    found = []
    for row in rows:
        if len(row) == 8 and row[2] == "MEMORY" and row[5] in ("YES", "JOB"):
            found.append(Memory(row[0], size_of(row[6]), row[5] == "YES"))
    return found


def parse_queues(said: str) -> dict[str, str]:
    """Queue instance to the letters of its state, from `qstat -f -xml`.

    Raises UnknownError if the text is no such listing."""
    queues = xml(said).findall("queue_info/Queue-List")
    if not queues:
        raise UnknownError("qstat lists no queue")
    return {_one(queue, "name"): queue.findtext("state", "") for queue in queues}


def size_of(text: str) -> int:
    """Bytes in Grid Engine's words: a number, and K, M, G of 1024, or k, m, g of 1000.

    What is no such number (INFINITY, NONE) counts as nothing."""
    found = _SIZE.fullmatch(text)
    return int(float(found[1]) * _UNITS[found[2]]) if found else 0


def memory_of(job: Job, slots: int, kinds: Iterable[Memory]) -> int:
    """MiB that the job was granted on its host, in all slots together.

    Where it has several consumables of memory, the smallest counts. Raises RejectedError if it
    has none."""
    sizes = []
    for kind in kinds:
        size = size_of(job.requests[kind.name]) if kind.name in job.requests else kind.default
        sizes.append(size * slots if kind.each_slot else size)
    granted = [size for size in sizes if size > 0]
    if not granted:
        raise RejectedError(
            "the job's allocation has no memory of its own: the site must make a complex of memory"
            " consumable, such as mem_free, or the user must ask for it with -l mem_free=…"
        )
    return min(granted) // 1024**2


def allocation_of(
    number: str,
    job: Job,
    shares: Sequence[Held],
    whole: Sequence[Held],
    kinds: Iterable[Memory],
    rules: Iterable[DefaultRule],
    node: str,
) -> Allocation:
    """What a running job was granted on this node; without a folder if that is its owner's home.

    `shares` has a row for each of its hosts and slots, `whole` one with all slots. Raises
    UnknownError if they do not list it, RejectedError if it is not on this node alone.
    """
    hosts = {row.host for row in shares if row.job == number}
    rows = [row for row in whole if row.job == number]
    task = number.partition(".")[2] or "1"
    if not hosts or len(rows) != 1 or not job.started.get(task):
        raise UnknownError("qstat does not list the job as running")
    if hosts != {node}:
        raise RejectedError(
            f"job {number} has slots on {', '.join(sorted(hosts))}, a VM needs exactly one"
            f" node, here {node}: ask for a parallel environment whose allocation rule is $pe_slots"
        )
    tag, by = job.requests.get(WISH, ""), "resource"
    if not tag:
        tag, by = job.environment.get(VARIABLE, ""), "environment"
    lease = job.name.startswith(LEASE_NAME)  # its process speaks for itself
    if not tag and not lease:
        tag, by = default_image(rules, rows[0].queue, job.project or None), "default"
    return Allocation(
        job=number,
        restart=job.started[task],
        uid=job.uid,
        gid=job.gid,
        # -A is its user's own word: no rule goes by it. An order names what its lease is to charge.
        account=job.account if lease and not tag else job.project,
        partition=rows[0].queue,
        cores=rows[0].slots,
        memory=memory_of(job, rows[0].slots, kinds),
        cpus=(),
        workdir=job.workdir,
        tag=tag,
        by=by if tag else "",
        scratch=job.environment.get(SCRATCH, ""),
    )


def place_of(job: str, shares: Sequence[Held], queued: Container[str]) -> str | None:
    """The one node on which a job has slots, else an empty text; None if it is not queued."""
    hosts = {row.host for row in shares if row.job == job}
    if not hosts and job.partition(".")[0] not in queued:
        return None
    return hosts.pop() if len(hosts) == 1 else ""


def _listing(said: str) -> ElementTree.Element:
    tree = xml(said)
    if tree.tag != "job_info" or tree.find("queue_info") is None:
        raise UnknownError("qstat does not answer with a listing")
    return tree


def xml(said: str) -> ElementTree.Element:
    """qstat's XML. Raises UnknownError if it is none."""
    clean = _NO_XML.sub("?", said.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
    try:
        return ElementTree.fromstring(clean)  # noqa: S314 (no entities: qstat writes no DTD)
    except ElementTree.ParseError as error:
        raise UnknownError(f"qstat does not answer in XML: {error}") from error


def _some(element: ElementTree.Element, name: str) -> str:
    return _one(element, name) if element.findtext(name) else ""


def _one(element: ElementTree.Element, name: str) -> str:
    found = element.findall(name)
    if len(found) != 1 or not found[0].text:
        raise UnknownError(f"qstat does not tell {name}")
    return found[0].text
