"""Torque: what it says of an allocation. Pure halves take its text; the class runs its commands.

Sources: qstat(1B), pbsnodes(8B) and pbs_resources(7B) of Torque 6.1.3, and what it was seen to
print. The XML form is read: in the other ones a line end in an account, in arguments or in -W x=
stands as it was written, and a user's line passes for an attribute. In the XML each «<» of a value
is escaped. An XML parser would be the wrong reader all the same: other bytes of a user are not
escaped, and one job's name would make the whole answer unreadable.
"""

import grp
import html
import os
import pwd
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.lrms import pbs
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.model import Allocation
from wnodes_lrms.order import LEASE_NAME
from wnodes_lrms.policy import DefaultRule, default_image
from wnodes_lrms.run import run
from wnodes_lrms.users import check_owner

WISH = "other"  # the resource that bears a wish: qsub knows no new ones, and passes this one on
_TOKEN = re.compile(r"<(/?)([A-Za-z_][\w.]*)>([^<]*)")
_SIZE = re.compile(r"(\d+)([kmgtp]?)([bw]?)", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_WORD = 8  # bytes
_MIB = 1 << 20
_TOTAL = "req_information.total_memory."
_VM = re.compile(r"vm:(\S+)")
_IMAGE = re.compile(r"(?:^|,)WNODES_IMAGE=([^,]*)")
_OURS = "wnodes: "  # before the note of a node that a bait has taken offline
_NO_COMMENT = re.compile(r"[^A-Za-z0-9 .:;/()_-]+")
_DEADLINE = 10.0

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
            f"a machine needs exactly one, here {node}"
        )
    # A lease's process speaks for itself, with an order; its account is held against that one.
    # Else it is the user's word, which Torque does not check: no rule may go by it.
    lease = record.get("Job_Name", "").startswith(LEASE_NAME)
    tag, by = ("", "") if lease else _wish(record, rules)
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


def parse_size(text: str) -> int:
    """MiB of a size such as `1gb`, `2048kb`, `1048576` (bytes), `131072w` (words of 8 bytes).

    Raises UnknownError if it is none.
    """
    found = _SIZE.fullmatch(text)
    if not found:
        raise UnknownError(f"«{text}» is no size")
    number, unit, word = found.groups()
    size = int(number) * _UNITS[unit.lower()] * (_WORD if word.lower() == "w" else 1)
    return size // _MIB


def _memory(record: Mapping[str, str], cores: int) -> int:
    """MiB of the job, which has one node: its own memory, or that of its processes in sum."""
    if "Resource_List.mem" in record:
        return parse_size(record["Resource_List.mem"])
    if "Resource_List.pmem" in record:
        return parse_size(record["Resource_List.pmem"]) * cores
    asked = [size for key, size in record.items() if key.startswith(_TOTAL)]
    if asked:  # by -L
        return sum(map(parse_size, asked))
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


def read_ids(user: str, group: str) -> tuple[int, int]:
    """The numbers of a user and a group. Raises RejectedError if this node has no such name, or
    does not have the user in that group."""
    try:
        uid, gid = pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise RejectedError(f"the job's owner is not known on this node: {error}") from error
    check_owner(uid, gid, user)
    return uid, gid


def comment(reason: str) -> str:
    """A reason as the value of `qalter -W comment=…`, which takes what follows a comma for another
    attribute: the reason may end with what a guest has printed."""
    return _OURS + " ".join(_NO_COMMENT.sub(" ", reason).split())


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


class Torque:
    """The Torque of this node, through its own commands."""

    job_id = staticmethod(pbs.job_id)

    def __init__(self, node: str, rules: Sequence[DefaultRule], home: Path, marks: Path) -> None:
        self.node = node
        self.rules = rules  # the site's [[default]]
        self.home = home  # Torque's, where the file server_name is
        self.marks = marks  # the folder with a file for each job that has a VM here

    def allocation(self, job: JobId) -> Allocation:
        """What the job was granted. Raises UnknownError if Torque does not answer that now."""
        return parse_allocation(job, self._listing(job), self.rules, self.node, read_ids)

    def where(self, job: JobId) -> str | None:
        """The node on which a job runs; empty if on none, or on several. None: there is no such
        job any more. Raises UnknownError."""
        try:
            return parse_place(job, self._listing(job))
        except UnknownError as error:
            if pbs.is_gone(error):
                return None
            raise

    def live_jobs(self) -> dict[str, bool]:
        """Jobs that hold an allocation here, ending ones included, and whether each is suspended.

        Torque takes a suspended job off its node's list (post_signal_req() in its req_signal.c),
        and qselect can't ask for such jobs. So each that has a VM here and is not on that list is
        asked for. Raises UnknownError.
        """
        found = dict.fromkeys(self._state().jobs, False)
        return found | {job: True for job in self._marked() if self._is_suspended(job, found)}

    def drain(self, reason: str) -> str:
        """Have Torque send no more jobs here; whose doing it is if it was not for us to ask that.

        A node that somebody else has taken offline stays so, and its note is returned; else that
        is empty. Raises UnknownError.
        """
        found, wanted = self._offline(), f"{_OURS}{reason}"
        if found is not None and not found.startswith(_OURS):
            return found or "no reason given"
        if found != wanted:
            self._pbsnodes("-o", "-N", wanted, self.node)
        return ""

    def resume(self) -> str:
        """Have Torque send jobs here again; why it does not if somebody else keeps it offline.

        Only a node whose note is ours is taken back. Raises UnknownError.
        """
        found = self._offline()
        if found is None:
            return ""
        if not found.startswith(_OURS):
            return found or "no reason given"
        self._pbsnodes("-c", "-N", "n", self.node)
        return ""

    def runs_once(self, job: JobId) -> str:
        """Why Torque refuses to run the job again; empty if it does not. Raises UnknownError."""
        once = parse_once(job, self._listing(job))
        return "it was submitted with `qsub -r n`" if once else ""

    def requeue(self, job: JobId) -> None:
        """End this run of the job, and have it run again. Raises UnknownError if Torque refuses:
        the bait's root must be one of its operators."""
        self._about(job, "qrerun")

    def hold(self, job: JobId, reason: str) -> None:
        """End this run of the job, and have it wait for an operator. Raises UnknownError."""
        self._about(job, "qhold", "-h", "o")
        self._about(job, "qalter", "-W", f"comment={comment(reason)}")
        self.requeue(job)

    def _marked(self) -> list[JobId]:
        jobs = []
        for file in sorted(self.marks.glob("*")):
            with suppress(RejectedError):  # somebody else's file
                jobs.append(pbs.job_id(file.name))
        return jobs

    def _is_suspended(self, job: JobId, listed: Container[str]) -> bool:
        if job in listed:
            return False
        try:
            return parse_place(job, self._listing(job), ("S",)) == self.node
        except UnknownError as error:
            if pbs.is_gone(error):
                return False
            raise

    def _listing(self, job: JobId) -> str:
        return self._about(job, "qstat", "-f", "-x")

    def _about(self, job: JobId, *command: str) -> str:
        """What a command says or does about a job of the server that this node has."""
        return run([*command, *pbs.operand(job, self._server())], deadline=_DEADLINE, unknown=True)

    def _server(self) -> str:
        """As Torque's commands find it: pbs_get_server_list() in its pbsD_connect.c."""
        for variable in ("PBS_DEFAULT", "PBS_SERVER"):
            if named := os.environ.get(variable):
                return pbs.server_in(named, variable)
        file = self.home / "server_name"
        try:
            first = file.read_text().partition("\n")[0]
        except (OSError, ValueError) as error:
            raise UnknownError(f"{file}: {error}: see torque_home in [hooks]") from error
        return pbs.server_in(first, str(file))

    def _state(self) -> NodeState:
        return parse_node(self.node, self._pbsnodes("-x", self.node))

    def _offline(self) -> str | None:
        found = self._state()
        return found.note if "offline" in found.state else None

    def _pbsnodes(self, *words: str) -> str:
        return run(["pbsnodes", *words], deadline=_DEADLINE, unknown=True)
