"""On what Slurm 22.05.8 really said: see data/slurm-22.05/record."""

import os
from pathlib import Path

import pytest

from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.lrms.slurm.allocation import (
    SQUEUE_FORMAT,
    block_map,
    parse_allocation,
    parse_cpus,
    parse_drain,
    parse_live,
    parse_memory,
    parse_place,
)
from wnodes_lrms.lrms.slurm.node import Slurm, read_block_map
from wnodes_lrms.model import Allocation

DATA = Path(__file__).parents[3] / "data" / "slurm-22.05"
NOBODY = 65534
# The recorded nodes: one socket, four cores of two threads, as the kernel numbers them.
PHYSICAL = [0, 4, 1, 5, 2, 6, 3, 7]


def recorded(name: str, form: str) -> str:
    # As wnodes_lrms.run.run decodes a program's output.
    return (DATA / f"{name}.{form}").read_bytes().decode("utf-8", "surrogateescape")


def allocation(name: str, node: str = "hv1", job: str | None = None) -> Allocation:
    listing = recorded(name, "squeue")
    job = job or listing.split()[0]
    return parse_allocation(job, listing, recorded(name, "scontrol"), node, PHYSICAL)


def test_a_plain_job() -> None:
    listed = recorded("plain", "squeue").split()[0]
    assert allocation("plain") == Allocation(
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


def test_what_named_the_image() -> None:
    listing, word = recorded("plain", "squeue"), " wnodes_by=constraint"
    mark = "wnodes_image=small_linux_x86_64"
    listing = listing.replace(mark + " " * len(word), mark + word)
    found = parse_allocation(
        listing.split()[0], listing, recorded("plain", "scontrol"), "hv1", PHYSICAL
    )
    assert (found.tag, found.by) == ("small_linux_x86_64", "constraint")


def test_cores_memory_a_cpu_and_a_wish_among_other_words() -> None:
    found = allocation("cores")
    assert (found.cores, found.memory, found.cpus) == (4, 2800, (0, 1, 4, 5))
    assert found.tag == "small_linux_x86_64"


def test_a_requeued_job_tells_its_run() -> None:
    assert allocation("requeued").restart == 1
    assert allocation("requeued").tag == "small_linux_x86_64"


def test_a_whole_node_has_all_its_memory_and_no_wish() -> None:
    found = allocation("whole-node", "hv2")
    assert (found.cores, found.memory, found.tag) == (8, 16000, "")
    assert found.cpus == tuple(range(8))


def test_a_task_of_an_array() -> None:
    found = allocation("array")
    assert (found.job, found.cores, found.memory) == (
        recorded("array", "squeue").split()[0],
        2,
        1000,
    )
    assert len(found.cpus) == 2


def test_the_last_task_of_an_array_whose_number_lists_the_other_tasks_too() -> None:
    listing = recorded("array-last", "squeue")
    last, other = listing[:20].strip(), listing[len(listing) // 2 :][:20].strip()
    assert last != other
    assert allocation("array-last", job=last).job == last
    assert allocation("array-last", job=other).job == other
    # scontrol, asked for it, tells of both: whose CPUs are whose is not beyond doubt.
    assert allocation("array-last", job=last).cpus == ()


@pytest.mark.parametrize("name", ["lines-in-name", "bytes-in-comment"])
def test_what_the_user_calls_it_changes_nothing(name: str) -> None:
    detail = recorded(name, "scontrol")
    assert "UserId=root(0)" in detail
    assert "wnodes_image=evil_linux_x86_64" in detail
    found = allocation(name)
    assert (found.uid, found.gid, found.cores, found.memory) == (NOBODY, NOBODY, 2, 1000)
    assert found.tag == ("small_linux_x86_64" if name == "lines-in-name" else "")


def test_a_second_line_of_cpus_is_believed_no_more_than_the_first() -> None:
    detail = recorded("lines-in-name", "scontrol")
    assert detail.count("Nodes=hv1 CPU_IDs=") == 3
    assert allocation("lines-in-name").cpus == ()
    assert parse_cpus(recorded("plain", "scontrol"), "hv1", PHYSICAL) == (0, 4)


def test_a_folder_is_taken_as_it_is() -> None:
    folder = allocation("spaces-in-folder").workdir
    assert folder.endswith("/a folder = UserId=root(0)")
    assert allocation("spaces-in-folder").uid == NOBODY
    folder = allocation("bytes-in-folder").workdir
    assert os.fsencode(folder).endswith(b"/caf\xc3\xa9 \xff")
    found = allocation("lines-in-folder")
    assert found.workdir.endswith("/line\n     Nodes=hv1 CPU_IDs=0-7 Mem=16000 GRES=")
    assert (found.uid, found.cores, found.cpus) == (NOBODY, 2, ())


def test_a_folder_can_not_pass_for_a_job() -> None:
    """An array whose folder's name looks like a row of the listing, with another owner."""
    listing = recorded("array-last", "squeue")
    half = len(listing) // 2
    task = listing[half:][:20].strip()
    fake = "\n" + f"{task:<20}{0:<12}{0:<12}R"
    first = listing[:half].rstrip("\n")
    workdir = first.rindex("/tmp")
    first = (first[:workdir] + "/tmp" + fake).ljust(half - 1) + "\n"
    hostile = first + listing[half:]
    found = parse_allocation(task, hostile, "", "hv1", PHYSICAL)
    assert (found.uid, found.gid) == (NOBODY, NOBODY)


def test_a_job_without_memory_is_told_what_to_do() -> None:
    with pytest.raises(RejectedError, match=r"CR_Core_Memory.*--mem") as caught:
        allocation("no-memory")
    assert not caught.value.retry


def test_a_job_on_two_nodes_is_refused() -> None:
    with pytest.raises(RejectedError, match=r"2 node\(s\) \(hv\[1-2\]\).*here hv1"):
        allocation("two-nodes")


def test_a_job_elsewhere_or_nowhere_yet_is_refused() -> None:
    with pytest.raises(RejectedError, match="here hv9"):
        allocation("plain", "hv9")
    with pytest.raises(RejectedError, match="here hv1"):
        allocation("pending")


@pytest.mark.parametrize(
    "listing",
    [
        "",
        "\n",
        "slurm_load_jobs error: Unable to contact slurm controller\n",
        recorded("plain", "squeue")[:-100],
        recorded("plain", "squeue")[:4800] + "\n",  # a column that this Slurm does not know
    ],
    ids=["nothing", "empty line", "a message", "broken off", "a column less"],
)
def test_what_is_no_answer_is_unknown(listing: str) -> None:
    job = recorded("plain", "squeue").split()[0]
    with pytest.raises(UnknownError):
        parse_allocation(job, listing, recorded("plain", "scontrol"), "hv1", PHYSICAL)


def test_another_jobs_record_is_no_answer() -> None:
    with pytest.raises(UnknownError, match="does not list"):
        allocation("plain", job="99999")


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


def test_states() -> None:
    found = parse_live((DATA / "states.node").read_text())
    assert len(found) == 4
    assert not any(found.values())


@pytest.mark.parametrize(
    ("state", "holds"),
    [(state, True) for state in ("R", "CG", "CF", "S", "ST", "SO")]
    + [(state, False) for state in ("PD", "CA", "CD", "F", "TO", "NF", "RH", "RD", "OOM")],
)
def test_which_states_hold_an_allocation(state: str, holds: bool) -> None:
    assert ("7" in parse_live(f"7 {state}\n")) == holds
    assert parse_live(f"7 {state}\n").get("7", False) == (state in ("S", "ST"))


def fake_command(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def recorded_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """squeue and scontrol that say what Slurm said: stand-ins, the end-to-end tests have Slurm."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    argv = f'printf "%s\\n" "$0 $*" >>{tmp_path}/asked'
    fake_command(tmp_path, "squeue", f"{argv}\ncat {DATA}/plain.squeue")
    fake_command(tmp_path, "scontrol", f"{argv}\ncat {DATA}/plain.scontrol")
    return tmp_path


def test_the_commands_and_their_arguments(recorded_slurm: Path) -> None:
    job = recorded("plain", "squeue").split()[0]
    assert Slurm("hv1", PHYSICAL).allocation(JobId(job)) == allocation("plain")
    assert (recorded_slurm / "asked").read_text().splitlines() == [
        f"{recorded_slurm}/squeue -h -a -j {job} -O {SQUEUE_FORMAT}",
        f"{recorded_slurm}/scontrol -d show job {job}",
    ]


def test_live_jobs(recorded_slurm: Path) -> None:
    fake_command(recorded_slurm, "squeue", "echo '7 R'; echo '8 PD'; echo '9 CG'; echo '10 S'")
    assert Slurm("hv1", []).live_jobs() == {"7": False, "9": False, "10": True}
    fake_command(recorded_slurm, "squeue", "")
    assert Slurm("hv1", []).live_jobs() == {}


@pytest.mark.parametrize(
    "script",
    [
        # What 22.05.8 says, both with exit status 1.
        "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1",
        "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1",
        "kill -SEGV $$",
    ],
)
def test_a_slurm_that_fails_is_unknown_never_empty(recorded_slurm: Path, script: str) -> None:
    fake_command(recorded_slurm, "squeue", script)
    with pytest.raises(UnknownError, match="squeue"):
        Slurm("hv1", []).live_jobs()
    with pytest.raises(UnknownError, match="squeue"):
        Slurm("hv1", []).allocation(JobId("7"))


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


def test_a_node_that_is_not_described_is_unknown() -> None:
    with pytest.raises(UnknownError):
        parse_drain("Node hv1 not found\n")


OURS, OTHERS = (REASON.format(words) for words in ("wnodes: new kernel", "bad disk"))
ASKED = [
    ("drain", "IDLE", "", "", ["State=DRAIN Reason=wnodes: new kernel"]),
    ("drain", "MIXED+DRAIN", OURS, "", []),
    (
        "drain",
        "IDLE+DRAIN",
        REASON.format("wnodes: x"),
        "",
        ["State=DRAIN Reason=wnodes: new kernel"],
    ),
    ("drain", "IDLE+DRAIN", OTHERS, "bad disk", []),
    ("drain", "IDLE+DRAIN", "", "no reason given", []),
    ("resume", "IDLE", "", "", []),
    ("resume", "MIXED+DRAIN", OURS, "", ["State=UNDRAIN"]),
    ("resume", "IDLE+DRAIN", OTHERS, "bad disk", []),
]


@pytest.mark.parametrize(("act", "state", "reason", "others", "updates"), ASKED)
def test_only_our_own_drains_are_touched(
    recorded_slurm: Path, act: str, state: str, reason: str, others: str, updates: list[str]
) -> None:
    asked = f'printf "%s\\n" "$*" >>{recorded_slurm}/asked'
    (recorded_slurm / "node").write_text(NODE.format(state, reason))
    fake_command(recorded_slurm, "scontrol", f"{asked}\ncat {recorded_slurm}/node")
    slurm = Slurm("hv1", [])
    assert (slurm.drain("new kernel") if act == "drain" else slurm.resume()) == others
    assert (recorded_slurm / "asked").read_text().splitlines() == [
        "show node hv1",
        *(f"update NodeName=hv1 {update}" for update in updates),
    ]


def test_a_drain_that_slurm_does_not_take_is_unknown(recorded_slurm: Path) -> None:
    fake_command(
        recorded_slurm, "scontrol", "echo 'Unable to contact slurm controller' >&2; exit 1"
    )
    with pytest.raises(UnknownError, match="scontrol"):
        Slurm("hv1", []).drain("new kernel")
    with pytest.raises(UnknownError, match="scontrol"):
        Slurm("hv1", []).resume()


@pytest.mark.parametrize(
    ("name", "node"), [("plain", "hv1"), ("two-nodes", ""), ("pending", ""), ("requeued", "hv1")]
)
def test_where_a_job_runs(name: str, node: str) -> None:
    listing = recorded(name, "squeue")
    assert parse_place(listing.split()[0], listing) == node
    with pytest.raises(UnknownError, match="does not list the job"):
        parse_place("424242", listing)
    assert parse_place("424242", "") is None
