"""On what Slurm 22.05.8 and 24.11.5 really said: see `record` in data/slurm-22.05, slurm-24.11."""

import os
import re
from dataclasses import dataclass, replace

import pytest

from tests.unit.wnodes_lrms.lrms.behaviour import read
from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.lrms.slurm.allocation import (
    block_map,
    parse_allocation,
    parse_cpus,
    parse_drain,
    parse_live,
    parse_memory,
)
from wnodes_lrms.lrms.slurm.node import read_block_map
from wnodes_lrms.model import Allocation

NOBODY = 65534
# The recorded nodes: one socket, four cores of two threads, as the kernel numbers them.
PHYSICAL = [0, 4, 1, 5, 2, 6, 3, 7]


@dataclass(frozen=True)
class Said:
    """What one version of Slurm has said."""

    version: str

    def __call__(self, name: str, form: str) -> str:
        return read(self.version, f"{name}.{form}")

    def job(self, name: str) -> str:
        return self(name, "squeue").split()[0]

    def allocation(self, name: str, node: str = "hv1", job: str | None = None) -> Allocation:
        job = job or self.job(name)
        return parse_allocation(job, self(name, "squeue"), self(name, "scontrol"), node, PHYSICAL)


@pytest.fixture(params=["slurm-22.05", "slurm-24.11"])
def said(request: pytest.FixtureRequest) -> Said:
    return Said(request.param)


def test_a_plain_job(said: Said) -> None:
    listed = said.job("plain")
    assert said.allocation("plain") == Allocation(
        job=listed,
        restart=0,
        uid=NOBODY,
        gid=NOBODY,
        account="",
        partition="main",
        cores=2,
        memory=1500,
        cpus=(0, 4),
        workdir="/tmp",
        tag="small_linux_x86_64",
    )


def test_what_named_the_image(said: Said) -> None:
    listing, word = said("plain", "squeue"), " wnodes_by=constraint"
    mark = "wnodes_image=small_linux_x86_64"
    listing = listing.replace(mark + " " * len(word), mark + word)
    found = parse_allocation(
        listing.split()[0], listing, said("plain", "scontrol"), "hv1", PHYSICAL
    )
    assert (found.tag, found.by) == ("small_linux_x86_64", "constraint")


def test_a_scratch_disk_that_was_asked_for(said: Said) -> None:
    listing, words = said("plain", "squeue"), " wnodes_scratch=20"
    mark = "wnodes_image=small_linux_x86_64"
    asking = listing.replace(mark + " " * len(words), mark + words)
    found = parse_allocation(asking.split()[0], asking, said("plain", "scontrol"), "hv1", PHYSICAL)
    assert (found.tag, found.scratch) == ("small_linux_x86_64", "20")


def test_cores_memory_a_cpu_and_a_wish_among_other_words(said: Said) -> None:
    found = said.allocation("cores")
    assert (found.cores, found.memory, found.cpus) == (4, 2800, (0, 1, 4, 5))
    assert found.tag == "small_linux_x86_64"


def test_a_whole_node_has_all_its_memory_and_no_wish(said: Said) -> None:
    found = said.allocation("whole-node", "hv2")
    assert (found.cores, found.memory, found.tag) == (8, 16000, "")
    assert found.cpus == tuple(range(8))


def test_a_task_of_an_array(said: Said) -> None:
    found = said.allocation("array")
    assert (found.job, found.cores, found.memory) == (
        said("array", "squeue").split()[0],
        2,
        1000,
    )
    assert len(found.cpus) == 2


def test_the_last_task_of_an_array_whose_number_lists_the_other_tasks_too(said: Said) -> None:
    listing = said("array-last", "squeue")
    last, other = listing[:20].strip(), listing[len(listing) // 2 :][:20].strip()
    assert last != other
    assert said.allocation("array-last", job=last).job == last
    assert said.allocation("array-last", job=other).job == other
    # scontrol, asked for it, tells of both: whose CPUs are whose is not beyond doubt.
    assert said.allocation("array-last", job=last).cpus == ()


@pytest.mark.parametrize("name", ["lines-in-name", "bytes-in-comment"])
def test_what_the_user_calls_it_changes_nothing(said: Said, name: str) -> None:
    detail = said(name, "scontrol")
    assert "UserId=root(0)" in detail
    assert "wnodes_image=evil_linux_x86_64" in detail
    found = said.allocation(name)
    assert (found.uid, found.gid, found.cores, found.memory) == (NOBODY, NOBODY, 2, 1000)
    assert found.tag == ("small_linux_x86_64" if name == "lines-in-name" else "")


def test_a_second_line_of_cpus_is_believed_no_more_than_the_first(said: Said) -> None:
    detail = said("lines-in-name", "scontrol")
    assert detail.count("Nodes=hv1 CPU_IDs=") == 3
    assert said.allocation("lines-in-name").cpus == ()
    assert parse_cpus(said("plain", "scontrol"), "hv1", PHYSICAL) == (0, 4)


def test_a_folder_is_taken_as_it_is(said: Said) -> None:
    folder = said.allocation("spaces-in-folder").workdir
    assert folder.endswith("/a folder = UserId=root(0)")
    assert said.allocation("spaces-in-folder").uid == NOBODY
    folder = said.allocation("bytes-in-folder").workdir
    assert os.fsencode(folder).endswith(b"/caf\xc3\xa9 \xff")
    found = said.allocation("lines-in-folder")
    assert found.workdir.endswith("/line\n     Nodes=hv1 CPU_IDs=0-7 Mem=16000 GRES=")
    assert (found.uid, found.cores, found.cpus) == (NOBODY, 2, ())


def test_a_folder_can_not_pass_for_a_job(said: Said) -> None:
    """An array whose folder's name looks like a row of the listing, with another owner."""
    listing = said("array-last", "squeue")
    half = len(listing) // 2
    task = listing[half:][:20].strip()
    fake = "\n" + f"{task:<20}{0:<12}{0:<12}R"
    first = listing[:half].rstrip("\n")
    workdir = first.rindex("/tmp")
    first = (first[:workdir] + "/tmp" + fake).ljust(half - 1) + "\n"
    hostile = first + listing[half:]
    found = parse_allocation(task, hostile, "", "hv1", PHYSICAL)
    assert (found.uid, found.gid) == (NOBODY, NOBODY)


@pytest.mark.parametrize("what", ["nothing", "empty line", "a message", "broken off", "less"])
def test_what_is_no_answer_is_unknown(said: Said, what: str) -> None:
    plain = said("plain", "squeue")
    listing = {
        "nothing": "",
        "empty line": "\n",
        "a message": "slurm_load_jobs error: Unable to contact slurm controller\n",
        "broken off": plain[:-100],
        "less": plain[:4800] + "\n",  # a column that this Slurm does not know
    }[what]
    with pytest.raises(UnknownError):
        parse_allocation(said.job("plain"), listing, said("plain", "scontrol"), "hv1", PHYSICAL)


@pytest.mark.parametrize(
    ("tres", "mib"),
    [
        ("cpu=2,mem=1500M,node=1,billing=2", 1500),
        ("cpu=1,mem=1.50G,node=1", 1536),
        ("mem=2T", 2 * 1024**2),
        ("cpu=1,mem=512K", 0),
        ("cpu=1,gres/gpu:mem=4G,mem=1G", 1024),
    ],
)
def test_memory_in_all_of_slurms_units(tres: str, mib: int) -> None:
    assert parse_memory(tres) == mib


@pytest.mark.parametrize("tres", ["", "cpu=1,node=1", "cpu=1,vmem=4G", "cpu=1,gres/mem=4G"])
def test_no_memory_is_not_taken_for_some(tres: str) -> None:
    with pytest.raises(RejectedError):
        parse_memory(tres)


@pytest.mark.parametrize(
    ("ids", "cpus"),
    [
        ("0", (0,)),
        ("0-3", (0, 1, 4, 5)),
        ("1,3,6-7", (3, 4, 5, 7)),
        ("7-8", ()),  # a CPU that this machine does not have
        ("a", ()),
    ],
)
def test_slurms_cpus_are_the_nodes_own(ids: str, cpus: tuple[int, ...]) -> None:
    detail = f"   JOB_GRES=(null)\n     Nodes=hv1 CPU_IDs={ids} Mem=1500 GRES=\n"
    assert parse_cpus(detail, "hv1", PHYSICAL) == cpus
    assert parse_cpus(detail, "hv2", PHYSICAL) == ()


def test_the_order_of_cpus_is_socket_core_thread() -> None:
    threads_last = {0: (0, 0), 1: (0, 1), 2: (1, 0), 3: (1, 1)} | {
        4: (0, 0),
        5: (0, 1),
        6: (1, 0),
        7: (1, 1),
    }
    assert block_map(threads_last) == [0, 4, 1, 5, 2, 6, 3, 7]
    assert block_map({0: (0, 0), 1: (1, 0), 2: (0, 1), 3: (1, 1)}) == [0, 2, 1, 3]


def test_this_machines_own_order_has_each_cpu_once() -> None:
    found = read_block_map()
    assert sorted(found) == sorted(set(found))
    assert set(found) <= set(range(os.cpu_count() or 1))


@pytest.mark.parametrize(
    ("state", "holds"),
    [(state, True) for state in ("R", "CG", "CF", "S", "ST", "SO")]
    + [(state, False) for state in ("PD", "CA", "CD", "F", "TO", "NF", "RH", "RD", "OOM")],
)
def test_which_states_hold_an_allocation(state: str, holds: bool) -> None:
    assert ("7" in parse_live(f"7 {state}\n")) == holds
    assert parse_live(f"7 {state}\n").get("7", False) == (state in ("S", "ST"))


NODE = "NodeName=hv1 Arch=x86_64\n   State={} ThreadsPerCore=1 TmpDisk=0\n{}   Partitions=main\n"
REASON = "   Reason={} [root@2026-11-23T00:04:44]\n"
DRAINS = [
    ("IDLE", "", None),
    ("MIXED", "", None),
    ("IDLE+NOT_RESPONDING", "", None),
    ("DOWN", REASON.format("broken"), None),
    ("IDLE+DRAIN", REASON.format("wnodes: new kernel"), "wnodes: new kernel"),
    ("MIXED+DRAIN", REASON.format('a [b] c=d, "e"'), 'a [b] c=d, "e"'),
    ("DOWN+DRAIN+NOT_RESPONDING", "   Reason=x\n", "x"),
    ("IDLE*+DRAIN", "", ""),
]


@pytest.mark.parametrize(("state", "reason", "drained"), DRAINS)
def test_whether_a_node_is_drained(state: str, reason: str, drained: str | None) -> None:
    assert parse_drain(NODE.format(state, reason)) == drained


def newer(detail: str, user: str) -> str:
    """As Slurm 26.05.3 was seen to write it, which was not recorded: with a number of another kind,
    no StdErr where none was asked for, and the line of sbatch, in which `user` stands."""
    detail = re.sub(r"(?m)^JobId=(\d+)", r"JobId=\1 SLUID=sAB12CD34EF56G", detail)
    detail = re.sub(r"(?m)^(   StdErr=).*", r"\1", detail)
    detail = re.sub(r"(?m)^(   WorkDir=)", rf"   SubmitLine=sbatch --comment={user}\n\1", detail)
    assert "StdErr=\n" in detail
    assert f"--comment={user}\n" in detail
    return detail


def test_what_newer_slurms_tell_besides_changes_nothing(said: Said) -> None:
    job, listing, detail = said.job("plain"), said("plain", "squeue"), said("plain", "scontrol")
    plain = parse_allocation(job, listing, detail, "hv1", PHYSICAL)
    for user, cpus in (("x", plain.cpus), ("x\n     Nodes=hv1 CPU_IDs=0-7 Mem=1 GRES=", ())):
        found = parse_allocation(job, listing, newer(detail, user), "hv1", PHYSICAL)
        assert found == replace(plain, cpus=cpus)


def test_a_blank_behind_the_administrators_comment_is_no_part_of_it(said: Said) -> None:
    """scontrol writes one, from 25.11 on not any more."""
    detail = said("plain", "scontrol")
    assert "AdminComment=wnodes_image=small_linux_x86_64 \n" in detail
    assert said.allocation("plain").tag == "small_linux_x86_64"
    assert parse_cpus(detail.replace("x86_64 \n", "x86_64\n"), "hv1", PHYSICAL) == (0, 4)
