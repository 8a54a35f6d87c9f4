"""Leases through DRMAA: what is asked in each LRMS's words, and what a library may do to us.

The library is drmaa_stand_in.py in a worker process as it is; slurm-drmaa itself was tried by hand.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.conftest import NOBODY, eventually, needs_root
from tests.unit.wnodes_lrms.lrms.behaviour import REQUEST as AN_HOUR
from tests.unit.wnodes_lrms.lrms.conftest import Library
from tests.unit.wnodes_lrms.lrms.slurm.test_leases import lease
from wnodes_lrms.errors import RejectedError, UnknownError, WnodesError
from wnodes_lrms.lrms.drmaa import leases as drmaaleases
from wnodes_lrms.lrms.drmaa.leases import DrmaaLeases, Register
from wnodes_lrms.lrms.drmaa.native import native
from wnodes_lrms.lrms.jobid import grammar
from wnodes_lrms.lrms.lease import Lease, Request
from wnodes_lrms.lrms.pbs import job_id
from wnodes_lrms.lrms.systems import SYSTEMS

pytestmark = pytest.mark.integration

REQUEST = replace(AN_HOUR, walltime=5400)
FULL = replace(REQUEST, account="atlas", partition="grid", node="hv2.site.org", cores=1)
DIALECTS = [system.drmaa for system in SYSTEMS.values()]


@pytest.mark.parametrize(
    ("drms", "request_", "expected"),
    [
        (
            "SLURM 22.05.8 DRMAA for Slurm 1.1.4",
            REQUEST,
            "--nodes=1 --ntasks=1 --cpus-per-task=2 --mem=1124 --time=1:30 --constraint=wnodes"
            " --comment=wnodes-lease --no-requeue",
        ),
        (
            "SLURM",
            replace(FULL, walltime=360061),
            "--nodes=1 --ntasks=1 --cpus-per-task=1 --mem=1124 --time=100:02 --constraint=wnodes"
            " --comment=wnodes-lease --no-requeue --account=atlas --partition=grid"
            " --nodelist=hv2.site.org",
        ),
        (
            "Torque pbs-drmaa v. 1.0.19",
            REQUEST,
            "-l nodes=1:wnodes:ppn=2 -l mem=1124mb,walltime=5400 -r n",
        ),
        (
            "Torque",
            FULL,
            "-l nodes=hv2.site.org:ppn=1 -l mem=1124mb,walltime=5400 -r n -A atlas -q grid",
        ),
        (
            "PBS Professional pbs-drmaa v. 1.0.19",
            REQUEST,
            "-l select=1:ncpus=2:mem=1124mb:wnodes=True -l walltime=5400 -r n",
        ),
        (
            "OpenPBS 23.06",
            FULL,
            "-l select=1:ncpus=1:mem=1124mb:vnode=hv2.site.org -l walltime=5400 -r n"
            " -A atlas -q grid",
        ),
        (
            "GE 8.1.9",
            REQUEST,
            "-l h_rt=5400,mem_free=562M,wnodes=true -pe smp 2 -b y -r n -notify",
        ),
        (
            "Univa Grid Engine",
            FULL,
            "-l h_rt=5400,mem_free=1124M,hostname=hv2.site.org -b y -r n -notify -A atlas -q grid",
        ),
    ],
)
def test_what_each_batch_system_is_asked(drms: str, request_: Request, expected: str) -> None:
    assert native(drms, request_, DIALECTS) == expected


@pytest.mark.parametrize(
    ("drms", "where"),
    [
        ("SLURM", "--constraint=wnodes&net_lan&net_wan "),
        ("Torque", "-l nodes=1:wnodes:net_lan:net_wan:ppn=2 "),
        ("OpenPBS", ":wnodes=True:net_lan=True:net_wan=True "),
        ("GE 8.1.9", ",wnodes=true,net_lan=true,net_wan=true "),
    ],
)
def test_a_lease_comes_to_a_node_that_has_its_networks(drms: str, where: str) -> None:
    wanted = replace(REQUEST, features=("net_lan", "net_wan"))
    assert where in native(drms, wanted, DIALECTS)
    assert "net_" not in native(drms, replace(wanted, node="hv2"), DIALECTS)


@pytest.mark.parametrize(
    ("drms", "asked"),
    [
        ("SLURM", " --gres=lan_mbit:100,wan_mbit:5"),
        ("OpenPBS", ":lan_mbit=100:wan_mbit=5 "),
        ("GE 8.1.9", ",lan_mbit=100,wan_mbit=5 "),
    ],
)
def test_a_lease_takes_of_what_is_counted_wherever_it_must_run(drms: str, asked: str) -> None:
    wanted = replace(REQUEST, consumables={"lan_mbit": 100, "wan_mbit": 5})
    for request in (wanted, replace(wanted, node="hv2")):
        assert asked in native(drms, request, DIALECTS)


def test_torque_counts_nothing_of_its_nodes() -> None:
    with pytest.raises(RejectedError, match="leave `consumable` out"):
        native("Torque", replace(REQUEST, consumables={"lan_mbit": 100}), DIALECTS)


@pytest.mark.parametrize("value", ["a b", "-x", "a\tb", "a,b", "a;b", "ü", "a\n"])
@pytest.mark.parametrize("what", ["account", "partition", "node"])
def test_a_value_is_never_taken_for_an_option(what: str, value: str) -> None:
    with pytest.raises(RejectedError, match=what):
        native("SLURM", replace(REQUEST, **{what: value}), DIALECTS)  # type: ignore[arg-type]


def test_a_batch_system_that_is_not_known() -> None:
    with pytest.raises(RejectedError, match="«LSF 10»"):
        native("LSF 10", REQUEST, DIALECTS)


def leases_of(library: Library, folder: Path) -> DrmaaLeases:
    file = folder / "state" / "leases.sqlite"
    return DrmaaLeases(str(library.folder), ("nobody",), file, job_id, library.named, DIALECTS)


@pytest.fixture
def leases(library: Library, tmp_path: Path) -> Iterator[DrmaaLeases]:
    made = leases_of(library, tmp_path)
    yield made
    stop(made)


def test_an_answer_that_is_no_job_id_is_none(library: Library, tmp_path: Path) -> None:
    odd = grammar("[A-Z]+")
    file = tmp_path / "leases.sqlite"
    made = DrmaaLeases(str(library.folder), ("nobody",), file, odd, library.named, DIALECTS)
    with pytest.raises(RejectedError, match="'1' is no job id"):
        made.submit(REQUEST)
    assert made.register.find(REQUEST.lease) is None
    stop(made)


def stop(leases: DrmaaLeases) -> None:
    """As when the bait ends: so do the workers, which no one asks any more."""
    for worker in leases._workers.values():
        worker.close()


@needs_root
def test_a_lease_is_submitted_as_its_user_and_only_once(
    leases: DrmaaLeases, library: Library
) -> None:
    large = replace(REQUEST, environment={"WNODES_LEASE": "x" * 100000})
    jobs = [leases.submit(large) for _ in range(2)]
    assert jobs == ["1", "1"]
    assert library.jobs() == [
        {
            "jobName": f"wnodes-lease-{lease(1)}",
            "remoteCommand": "/usr/local/libexec/wnodes/wnodes-lease",
            "jobEnvironment": {"WNODES_LEASE": "x" * 100000},
            "nativeSpecification": native("SLURM", REQUEST, DIALECTS),
            "workingDirectory": "/",
            "outputPath": ":/dev/null",
            "joinFiles": True,
        }
    ]
    (session,) = library.lines("sessions")
    assert session.split()[1] == str(NOBODY.pw_uid)


@needs_root
@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("queued_active", "pending"),
        ("user_on_hold", "pending"),
        ("system_on_hold", "pending"),
        ("user_system_on_hold", "pending"),
        ("running", "running"),
        ("user_suspended", "running"),
        ("undetermined", "unknown"),
        ("done", "ended"),
        ("failed", "unknown"),  # at first
    ],
)
def test_states(leases: DrmaaLeases, library: Library, said: str, means: str) -> None:
    leases.submit(REQUEST)
    library.state("1", said)
    assert leases.list() == [Lease(lease(1), "1", "nobody", means)]  # type: ignore[arg-type]
    assert library.lines("reaped") == (["1"] if said in ("done", "failed") else [])
    if means == "ended":  # and that is not asked again
        (library.folder / "1.state").unlink()
        library.fault("crash")
        assert leases.list()[0].state == "ended"


@needs_root
@pytest.mark.parametrize("said", ["failed", None])
def test_a_job_that_is_said_to_be_gone_has_ended_once_that_has_stood_for_long(
    leases: DrmaaLeases, library: Library, monkeypatch: pytest.MonkeyPatch, said: str | None
) -> None:
    def gone() -> None:
        (library.folder / "1.state").unlink()
        if said:
            library.state("1", said)

    leases.submit(REQUEST)
    gone()
    assert leases.list()[0].state == "unknown"
    library.state("1", "running")  # the batch system has come to itself
    assert leases.list()[0].state == "running"
    monkeypatch.setattr(drmaaleases, "_SURE", 0.2)
    gone()
    assert leases.list()[0].state == "unknown"
    time.sleep(0.2)
    assert leases.list()[0].state == "ended"
    assert leases.submit(REQUEST) == "1"


@needs_root
def test_a_cancelled_lease_ends_and_one_that_is_gone_is_success(
    leases: DrmaaLeases, library: Library
) -> None:
    leases.cancel(lease(1), "99")  # submitted by another bait
    leases.submit(REQUEST)
    leases.cancel(lease(1), "99")  # the register knows better
    assert (library.folder / "1.state").read_text() == "failed"
    leases.cancel(lease(1), "1")
    (library.folder / "1.state").unlink()
    leases.cancel(lease(1), "1")
    library.state("1", "running")
    library.fault("InternalException: code 1: the server is odd")
    with pytest.raises(UnknownError, match="odd"):
        leases.cancel(lease(1), "1")


@needs_root
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("DeniedByDrmException: code 17: Invalid partition name specified", RejectedError),
        ("InvalidAttributeValueException: code 14: Invalid native specification", RejectedError),
        ("InternalException: code 1: qsub: illegal -N value", RejectedError),
        ("InternalException: code 1: Unable to contact slurm controller", UnknownError),
        ("DrmCommunicationException: code 2: timed out", UnknownError),
        ("TryLaterException: code 16: later", UnknownError),
    ],
)
def test_a_refusal_and_no_answer_are_told_apart(
    leases: DrmaaLeases,
    library: Library,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    kind: type[WnodesError],
) -> None:
    monkeypatch.setattr(drmaaleases, "_LATE", 0.0)
    library.fault(fault)
    with pytest.raises(kind, match=fault.rpartition(": ")[2]) as caught:
        leases.submit(REQUEST)
    assert type(caught.value) is kind
    assert leases.submit(REQUEST) == "1"
    assert len(library.lines("sessions")) == 1  # the library is well


@needs_root
@pytest.mark.parametrize("fault", ["crash", "hang"])
def test_a_library_that_crashes_or_hangs_loses_no_lease(
    leases: DrmaaLeases, library: Library, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    leases.submit(REQUEST)
    library.state("1", "running")
    monkeypatch.setattr(drmaaleases, "_DEADLINE", 0.5 if fault == "hang" else 60.0)
    library.fault(fault)
    with pytest.raises(UnknownError, match="SIGSEGV" if fault == "crash" else "does not answer"):
        leases.list()
    monkeypatch.setattr(drmaaleases, "_DEADLINE", 60.0)
    assert leases.list() == [Lease(lease(1), "1", "nobody", "running")]
    sessions = {line.split()[0] for line in library.lines("sessions")}
    assert len(sessions) == 2
    eventually(lambda: sum(Path(f"/proc/{pid}").exists() for pid in sessions) == 1)


def test_leases_that_ended_long_ago_are_forgotten_while_the_bait_runs(tmp_path: Path) -> None:
    register = Register(tmp_path / "leases.sqlite")
    for number in (1, 2):
        register.add(lease(number), "nobody", str(number))
    register.end(lease(1))
    register._do("UPDATE lease SET ended = ended - ?", 91 * 86400)
    register.end(lease(2))
    assert register.find(lease(1)) is None
    assert register.find(lease(2)) == ("nobody", "2")


@needs_root
def test_leases_are_known_after_a_restart_of_the_bait(
    leases: DrmaaLeases, library: Library, tmp_path: Path
) -> None:
    leases.submit(REQUEST)
    stop(leases)
    other = leases_of(library, tmp_path)
    library.state("1", "running")
    assert other.list() == [Lease(lease(1), "1", "nobody", "running")]
    assert other.submit(REQUEST) == "1"
    stop(other)


@needs_root
def test_a_worker_without_work_ends_and_is_started_again(
    leases: DrmaaLeases, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SGE_IDLE", "0.1")
    leases.submit(REQUEST)
    eventually(lambda: library.lines("exits"))
    assert leases.list()[0].state == "pending"
    assert len(library.lines("sessions")) == 2


@needs_root
def test_many_threads_may_ask(leases: DrmaaLeases, library: Library) -> None:
    jobs: dict[int, str] = {}

    def submit(number: int) -> None:
        jobs[number] = leases.submit(replace(REQUEST, lease=lease(number)))
        leases.list()

    threads = [threading.Thread(target=submit, args=(number % 4,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(jobs.values()) == ["1", "2", "3", "4"]
    assert len(library.lines("sessions")) == 1


def test_nothing_is_asked_for_a_user_that_may_not(leases: DrmaaLeases, library: Library) -> None:
    for user in ("root", "daemon", "cloud1"):
        with pytest.raises(RejectedError):
            leases.submit(replace(REQUEST, user=user))
    assert not library.lines("sessions")


@needs_root
def test_a_library_that_cannot_be_loaded_is_no_answer(tmp_path: Path) -> None:
    file = tmp_path / "leases.sqlite"
    leases = DrmaaLeases(
        "/no/such/libdrmaa.so", ("nobody",), file, job_id, lambda _name, _user: [], DIALECTS
    )
    began = time.monotonic()
    with pytest.raises(UnknownError, match=r"/no/such/libdrmaa\.so.* has ended with code 1"):
        leases.submit(REQUEST)
    assert time.monotonic() - began < 12


@needs_root
@pytest.mark.parametrize("asked", ["submit", "list", "cancel"])
def test_a_submission_that_did_not_come_to_its_end_is_found_by_its_name(
    leases: DrmaaLeases, library: Library, asked: str
) -> None:
    """The library has died after the batch system had taken the job."""
    library.fault("late crash")
    with pytest.raises(UnknownError, match="has crashed"):
        leases.submit(REQUEST)
    (library.folder / "away").touch()  # and while that does not answer nothing is done
    for request in (lambda: leases.submit(REQUEST), leases.list):
        with pytest.raises(UnknownError, match="no answer"):
            request()
    (library.folder / "away").unlink()
    if asked == "submit":
        assert leases.submit(REQUEST) == "1"
    if asked == "cancel":
        leases.cancel(REQUEST.lease, "")
    state = "unknown" if asked == "cancel" else "pending"  # gone, but for how long?
    assert leases.list() == [Lease(lease(1), "1", "nobody", state)]  # type: ignore[arg-type]
    assert len(library.jobs()) == 1


@needs_root
def test_a_submission_that_came_to_nothing_is_made_again_after_a_while(
    leases: DrmaaLeases, library: Library
) -> None:
    library.fault("crash")
    with pytest.raises(UnknownError, match="has crashed"):
        leases.submit(REQUEST)
    with pytest.raises(UnknownError, match="not known yet"):
        leases.submit(REQUEST)
    assert leases.list() == []
    time.sleep(0.2)
    assert leases.submit(REQUEST) == "1"
    assert len(library.jobs()) == 1


@needs_root
def test_a_submission_that_came_to_nothing_is_not_looked_for_for_ever(
    leases: DrmaaLeases, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.fault("crash")
    with pytest.raises(UnknownError, match="has crashed"):
        leases.submit(REQUEST)
    assert leases.list() == []
    assert leases.register.find(REQUEST.lease)
    monkeypatch.setattr(drmaaleases, "_NOTHING", 0.0)
    assert leases.list() == []
    assert leases.register.find(REQUEST.lease) is None
