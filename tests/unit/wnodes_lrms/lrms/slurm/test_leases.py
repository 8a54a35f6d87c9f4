"""What it asks of sbatch, and what it reads in what Slurm 22.05.8 and 24.11.5 really said.

The listings are leases.squeue in data/slurm-22.05 and slurm-24.11, see data/slurm/record-leases;
the sentences are those of the same Slurms, as in site.sentences there. Programs in the place of
Slurm's commands show what is asked of them, and as whom.
"""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bait.frontend import leases as bait_leases
from tests.unit.conftest import needs_root
from tests.unit.wnodes_lrms.lrms.behaviour import REQUEST, read
from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.lrms.lease import Lease
from wnodes_lrms.lrms.slurm.leases import (
    _COLUMNS,
    _DEADLINE,
    _OF_THE_PLAN,
    SlurmLeases,
    check_cancelled,
    parse_expected,
    parse_leases,
    parse_submitted,
    submission,
)
from wnodes_lrms.run import Ended

LISTINGS = {version: read(version, "leases.squeue") for version in ("slurm-22.05", "slurm-24.11")}
each = pytest.mark.parametrize("version", LISTINGS)


def lease(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012}"


def test_what_sbatch_is_asked() -> None:
    assert submission(REQUEST, 60) == [
        "sbatch",
        "--parsable",
        f"--job-name=wnodes-lease-{lease(1)}",
        "--comment=wnodes-lease",
        "--constraint=wnodes",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=2",
        "--mem=1124M",
        "--time=60",
        "--signal=B:USR1@60",
        "--no-requeue",
        "--dependency=singleton",
        "--output=/dev/null",
        "--chdir=/",
        "--propagate=NONE",
        "/usr/local/libexec/wnodes/wnodes-lease",
    ]


def test_account_partition_and_node_are_asked_for_where_they_are_given() -> None:
    argv = submission(replace(REQUEST, account="atlas", partition="-x y", node="hv2"), 60)
    assert argv[-4:-1] == ["--account=atlas", "--partition=-x y", "--nodelist=hv2"]


def test_a_lease_comes_to_a_node_that_has_its_networks() -> None:
    wanted = replace(REQUEST, features=("net_lan", "net_wan"))
    assert "--constraint=wnodes&net_lan&net_wan" in submission(wanted, 60)
    assert "--constraint=wnodes" in submission(replace(wanted, node="hv2"), 60)


def test_a_lease_takes_of_what_is_counted_wherever_it_must_run() -> None:
    wanted = replace(REQUEST, consumables={"lan_mbit": 100, "wan_mbit": 5})
    for request in (wanted, replace(wanted, node="hv2")):
        assert "--gres=lan_mbit:100,wan_mbit:5" in submission(request, 60)


@pytest.mark.parametrize(
    ("walltime", "shutdown", "minutes", "notice"),
    [(60, 60, 1, 15), (61, 1, 2, 1), (86399, 60, 1440, 60), (10**6, 10**6, 16667, 65535)],
)
def test_times_are_rounded_up_and_leave_room_for_the_notice(
    walltime: int, shutdown: int, minutes: int, notice: int
) -> None:
    argv = submission(replace(REQUEST, walltime=walltime), shutdown)
    assert {f"--time={minutes}", f"--signal=B:USR1@{notice}"} <= set(argv)


@each
def test_the_recorded_leases(version: str) -> None:
    found = {(row.lease, row.user): row for row in parse_leases(LISTINGS[version])}
    expected = [
        Lease(lease(1), "1", "nobody", "running", "hv1"),
        Lease(lease(2), "2", "nobody", "pending", "", "JobHeldUser"),
        Lease(lease(3), "3", "nobody", "ended", "hv1"),
        Lease(lease(4), "4", "nobody", "ended", "hv1", "FAILED, NonZeroExitCode"),
        Lease(lease(5), "5", "nobody", "ended", "", "CANCELLED"),
        Lease(lease(6), "6", "nobody", "pending", "", "BeginTime"),
        Lease(lease(1), "7", "daemon", "running", "hv1"),
    ]
    assert found == {(row.lease, row.user): row for row in expected}


def listed(version: str = "slurm-22.05", /, **changes: str) -> str:
    """A row of squeue's, as recorded, with some columns changed."""
    row, at, listing = "", 0, LISTINGS[version]
    for name, width in _COLUMNS:
        row += changes.get(name, listing[at : at + width])[:width].ljust(width)
        at += width
    return row + "\n"


@each
@pytest.mark.parametrize(
    ("state", "means", "reason"),
    [
        ("CONFIGURING", "running", "CONFIGURING"),
        ("COMPLETING", "running", "COMPLETING"),
        ("SUSPENDED", "running", "SUSPENDED"),
        ("TIMEOUT", "ended", "TIMEOUT"),
        ("NODE_FAIL", "ended", "NODE_FAIL"),
        ("PREEMPTED", "ended", "PREEMPTED"),
        ("OUT_OF_MEMORY", "ended", "OUT_OF_MEMORY"),
        ("REQUEUED", "pending", "REQUEUED"),
        ("A_NEW_STATE", "unknown", "A_NEW_STATE"),
    ],
)
def test_states(version: str, state: str, means: str, reason: str) -> None:
    name = f"wnodes-lease-{lease(9)}"
    (row,) = parse_leases(listed(version, State=state, Reason="None", Name=name, NodeList="(null)"))
    assert (row.state, row.reason, row.node) == (means, reason, "")


@pytest.mark.parametrize(
    "text",
    [
        "\n",
        "slurm_load_jobs error: Unable to contact slurm controller\n",
        *(listing[:-3] for listing in LISTINGS.values()),
    ],
    ids=["an empty line", "a message", *LISTINGS],
)
def test_what_is_no_listing_is_unknown(text: str) -> None:
    with pytest.raises(UnknownError):
        parse_leases(text)
    assert parse_leases("") == []


@pytest.mark.parametrize(("output", "job"), [("41\n", "41"), ("41;box\n", "41")])
def test_the_job_id(output: str, job: str) -> None:
    assert parse_submitted(Ended(0, output, "")) == job


def sentences(version: str, command: str) -> list[Ended]:
    """How that command ended each time that it was tried, see data/slurm/record-node."""
    found = []
    for tried in read(version, "site.sentences").split("$ ")[1:]:
        asked, _, said = tried.partition("\n")
        told, _, status = said.rpartition("= ")
        if command in asked:
            found.append(Ended(int(status), "", told))
    return found


@each
def test_each_recorded_refusal_is_one_of_slurms(version: str) -> None:
    refused = sentences(version, "submit")
    assert len(refused) == 4
    for ended in refused:
        with pytest.raises(RejectedError, match=r"^Slurm refuses the lease: .*[a-z]$"):
            parse_submitted(ended)


@each
def test_a_job_that_is_over_or_was_never_there_is_cancelled(version: str) -> None:
    ends = sentences(version, "nobody scancel --")
    assert len(ends) == 4
    for ended in ends:
        check_cancelled(ended)


FAILED = "sbatch: error: Batch job submission failed: "


@pytest.mark.parametrize(
    ("errors", "sentence"),
    [
        (
            "sbatch: error: invalid partition specified: nope\n"
            f"{FAILED}Invalid partition name specified\n",
            "invalid partition specified: nope; Invalid partition name specified",
        ),
        (
            f"{FAILED}Invalid account or account/partition combination specified\n",
            "Invalid account or account/partition combination specified",
        ),
        (f"{FAILED}Invalid node name specified\n", "Invalid node name specified"),
        (
            f"sbatch: error: wnodes: leases do not run as bob\n{FAILED}Unspecified error\n",
            "wnodes: leases do not run as bob",
        ),
        (f"{FAILED}Unspecified error\n", "Unspecified error"),
        ("sbatch: error: Unable to open file /nope/x\n", "Unable to open file /nope/x"),
    ],
)
def test_a_refusal_is_one_sentence_in_slurms_words(errors: str, sentence: str) -> None:
    with pytest.raises(RejectedError) as caught:
        parse_submitted(Ended(1, "", errors))
    assert str(caught.value) == f"Slurm refuses the lease: {sentence}"


@pytest.mark.parametrize(
    "ended",
    [
        Ended(1, "", f"{FAILED}Unable to contact slurm controller (connect failure)\n"),
        Ended(1, "", f"{FAILED}Socket timed out on send/recv operation\n"),
        Ended(1, "", "sbatch: fatal: Could not establish a configuration source\n"),
        Ended(1, "", "sbatch: error: Munge encode failed: Failed to access socket\n"),
        Ended(1, "", ""),
        Ended(0, "", ""),
        Ended(0, "Submitted batch job\n", ""),
        Ended(-9, "", "Killed"),
    ],
)
def test_no_answer_is_no_refusal(ended: Ended) -> None:
    with pytest.raises(UnknownError, match=r"^sbatch: "):
        parse_submitted(ended)


def test_a_job_that_was_over_is_cancelled() -> None:
    check_cancelled(Ended(0, "", ""))
    check_cancelled(Ended(1, "", "scancel: error: Kill job error on job id 9: Invalid job id\n"))
    with pytest.raises(UnknownError, match="Unable to contact"):
        check_cancelled(Ended(1, "", "scancel: error: Unable to contact slurm controller\n"))


@dataclass
class Commands:
    """Programs in the place of Slurm's: `jobs` is what squeue lists, a file a line."""

    folder: Path

    def list(self, *rows: str) -> None:
        (self.folder / "listing").write_text("".join(rows))

    def calls(self, name: str) -> Sequence[str]:
        """What was asked: user, arguments and environment, a call a line."""
        file = self.folder / f"{name}.calls"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents[:3]:
        folder.chmod(folder.stat().st_mode | 0o055)
    bodies = {
        "squeue": f"cat {tmp_path}/listing",
        "sbatch": f"[ ! -e {tmp_path}/new ] || cat {tmp_path}/new >>{tmp_path}/listing; echo 41",
        "scancel": ":",
    }
    for name, body in bodies.items():
        calls = tmp_path / f"{name}.calls"
        calls.touch()
        calls.chmod(0o666)
        program = tmp_path / name
        told = '$(id -un) $* $(env | grep -v -e ^PWD -e ^_ -e ^SHLVL | sort | tr "\\n" " ")'
        program.write_text(f'#!/bin/sh\necho "{told}" >>{calls}\n{body}\n')
        program.chmod(0o755)
    (tmp_path / "listing").touch()
    (tmp_path / "listing").chmod(0o666)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    monkeypatch.setenv("SECRET", "ours")
    return Commands(tmp_path)


def row(number: int, job: int, state: str = "RUNNING", user: str = "nobody") -> str:
    name = f"wnodes-lease-{lease(number)}"
    return listed(JobID=str(job), UserName=user, State=state, Reason="None", Name=name)


LEASES = SlurmLeases(("nobody",), 60)


@needs_root
def test_a_lease_is_submitted_as_its_user_with_its_order_in_the_environment_alone(
    commands: Commands,
) -> None:
    assert LEASES.submit(REQUEST) == "41"
    (call,) = commands.calls("sbatch")
    user, _, told = call.partition(" ")
    assert user == "nobody"
    argv = " ".join(submission(REQUEST, 60)[1:])
    assert told.startswith(argv + " ")
    assert "secret" not in argv
    assert told.removeprefix(argv).split() == [
        "LC_ALL=C.UTF-8",
        f"PATH={os.environ['PATH']}",
        "SLURM_CONF=/etc/slurm/slurm.conf",
        "WNODES_LEASE=a-lease",
    ]


@needs_root
@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETED", "CANCELLED"])
def test_a_lease_that_is_there_is_not_submitted_again(commands: Commands, state: str) -> None:
    commands.list(row(2, 5), row(1, 7, state))
    assert LEASES.submit(REQUEST) == "7"
    assert not commands.calls("sbatch")


@needs_root
def test_a_job_of_another_user_does_not_pass_for_the_lease(commands: Commands) -> None:
    commands.list(row(1, 7, user="daemon"), row(1, 8, user="root"))
    assert LEASES.submit(REQUEST) == "41"
    assert LEASES.list() == ()
    LEASES.cancel(lease(1), "7")
    assert not commands.calls("scancel")


@needs_root
def test_of_two_jobs_that_were_submitted_at_once_the_first_stays(commands: Commands) -> None:
    """The other one came from another bait, after this one had looked."""
    (commands.folder / "new").write_text(row(1, 40) + row(1, 41, "PENDING"))
    assert LEASES.submit(REQUEST) == "40"
    (call,) = commands.calls("scancel")
    assert call.startswith("nobody -- 41 ")


@needs_root
def test_requests_for_one_lease_at_the_same_time_make_one_job(commands: Commands) -> None:
    (commands.folder / "new").write_text(row(1, 41))
    jobs: list[str] = []
    threads = [
        threading.Thread(target=lambda: jobs.append(LEASES.submit(REQUEST))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (jobs, len(commands.calls("sbatch"))) == (["41"] * 4, 1)


@needs_root
def test_only_the_leases_own_jobs_are_cancelled_and_as_their_owner(commands: Commands) -> None:
    commands.list(row(1, 7), row(1, 8, "COMPLETED"), row(2, 9), row(1, 10, user="root"))
    LEASES.cancel(lease(1), "9")
    LEASES.cancel(lease(3), "")
    assert not commands.calls("scancel")
    for job in ("", "7"):
        LEASES.cancel(lease(1), job)
    told = [call.split()[:3] for call in commands.calls("scancel")]
    assert told == [["nobody", "--", "7"]] * 2


def test_when_jobs_are_to_begin() -> None:
    listing = (
        "41                  1795833600          \n42                  N/A                 \n"
        "43                  x                   \n44                  99999999999999999999\n45\n"
    )
    assert parse_expected(listing) == {"41": 1795833600.0}
    assert parse_expected("slurm_load_jobs error: Invalid job id specified\n") == {}


@needs_root
@pytest.mark.parametrize(
    ("answer", "expected"),
    [("echo 7 1795833600; echo 9 N/A", 1795833600.0), ("exit 1", 0.0), ("echo ?", 0.0)],
)
def test_a_lease_that_waits_is_listed_with_its_expected_begin(
    commands: Commands, answer: str, expected: float
) -> None:
    """One call for all of them, and not with each listing."""
    squeue = commands.folder / "squeue"
    planned = f'case "$*" in *--jobs=*) {answer}; exit;; esac\n'
    squeue.write_text(squeue.read_text().replace("cat ", f"{planned}cat ", 1))
    commands.list(row(1, 7, "PENDING"), row(2, 8), row(3, 9, "PENDING"))
    leases = SlurmLeases(("nobody",), 60)
    for _ in range(2):
        found = {each.job: (each.state, each.expected) for each in leases.list()}
        assert found == {
            "7": ("pending", expected),
            "8": ("running", 0.0),
            "9": ("pending", 0.0),
        }
    [call] = [call for call in commands.calls("squeue") if "--jobs=" in call]
    assert "--jobs=7,9 --Format=JobID:20,StartTime:20" in call
    assert "SLURM_TIME_FORMAT=%s" in call
    commands.list(row(1, 7, "PENDING"), row(4, 10, "PENDING"))
    leases.list()
    assert len([call for call in commands.calls("squeue") if "--jobs=7,10" in call]) == 1


def test_who_asks_for_a_listing_that_takes_its_time_gets_it_whatever_the_plan_takes() -> None:
    slow = _DEADLINE + _OF_THE_PLAN
    assert slow < bait_leases._LISTS[1]


@needs_root
def test_nothing_is_asked_of_the_plan_while_nothing_waits(commands: Commands) -> None:
    commands.list(row(1, 8))
    SlurmLeases(("nobody",), 60).list()
    assert not [call for call in commands.calls("squeue") if "--jobs=" in call]


@needs_root
def test_a_lease_is_listed_once_and_as_it_lives(commands: Commands) -> None:
    commands.list(row(1, 7, "CANCELLED"), row(1, 8), row(2, 3, "COMPLETED"), row(2, 4, "FAILED"))
    found = {each.lease: (each.job, each.state) for each in LEASES.list()}
    assert found == {lease(1): ("8", "running"), lease(2): ("3", "ended")}


def test_nothing_is_asked_of_slurm_for_a_user_that_may_not(commands: Commands) -> None:
    for user in ("root", "daemon", "cloud1"):
        with pytest.raises(RejectedError):
            LEASES.submit(replace(REQUEST, user=user))
    assert not commands.calls("squeue")


@pytest.mark.parametrize("state", ["down", "no program"])
def test_without_an_answer_nothing_is_known(
    commands: Commands, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(commands.folder))
    squeue = commands.folder / "squeue"
    squeue.unlink()
    if state == "down":
        squeue.write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
        squeue.chmod(0o755)
    for ask in (
        LEASES.list,
        lambda: LEASES.submit(REQUEST),
        lambda: LEASES.cancel(lease(1), ""),
    ):
        with pytest.raises(UnknownError):
            ask()
    assert not commands.calls("sbatch")
