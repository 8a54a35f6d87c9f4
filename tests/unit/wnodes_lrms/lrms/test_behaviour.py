"""One suite for all batch systems: what each must do, on what it was seen to say.

A batch system's own rows are in its `recorded.py`. Slurm and Grid Engine are also there for real,
in the end-to-end tests.
"""

import grp
import os
import pwd
import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest

from tests.unit.conftest import needs_root
from tests.unit.wnodes_lrms.lrms.behaviour import (
    DATA,
    REQUEST,
    Answers,
    Does,
    Job,
    Site,
)
from tests.unit.wnodes_lrms.lrms.conftest import Library
from tests.unit.wnodes_lrms.lrms.recordings import RECORDED, system
from wnodes_lrms import run
from wnodes_lrms.config.load import Cloud, Config
from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.lrms import refusals
from wnodes_lrms.lrms.drmaa import leases as drmaaleases
from wnodes_lrms.lrms.interface import Failure, Reruns, System
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.lrms.systems import SYSTEMS, leases_of

# What a batch system can't do, or is not asked for here, and why. Whatever is not named, all can.
LACKS = {
    ("gridengine", "leases"): "its DRMAA library is part of it",
    ("torque", "leases"): "pbs-drmaa does it",
    ("openpbs", "leases"): "pbs-drmaa does it",
    ("gridengine", "runs"): "qacct reads a file of the master's, which nodes need not see",
    ("torque", "runs"): "its accounting is files of the server's",
    ("openpbs", "runs"): "its accounting is files of the server's",
    ("gridengine", "charging"): "it meters by group ids of its own, not by control groups",
    ("torque", "charging"): "its control groups are an option of its build, and were not recorded",
    ("openpbs", "charging"): "its control groups are a hook of the site's, and were not recorded",
    ("slurm", "markers"): "its hooks are told what they must know",
    ("gridengine", "markers"): "its hooks are told what they must know",
    ("openpbs", "markers"): "its hooks are told what they must know",
    ("slurm", "reruns"): "an owner may requeue and hold a job of theirs: the starter does",
    ("gridengine", "reruns"): "the starter's exit code decides",
    ("openpbs", "reruns"): "its execjob hook decides, by how the starter ends",
}
each = pytest.mark.parametrize("version", RECORDED)


def rows(of: str) -> list[tuple[object, ...]]:
    """The rows of all systems, each with its system and version before it."""
    return [(name, *row) for name, recorded in RECORDED.items() for row in getattr(recorded, of)]


@pytest.fixture
def site(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The batch system of the test, on a node whose databases have the recorded user."""
    recorded = RECORDED[version]
    user, uid, gid = recorded.owner
    entry = pwd.struct_passwd((user, "x", uid, gid, "", f"/home/{user}", "/bin/sh"))

    def known(key: object) -> pwd.struct_passwd:
        if key not in (user, uid):
            raise KeyError(key)
        return entry

    for find in ("getpwnam", "getpwuid"):
        monkeypatch.setattr(pwd, find, known)
    group = grp.struct_group((user, "x", gid, []))
    monkeypatch.setattr(grp, "getgrnam", lambda name: {user: group}[name])
    monkeypatch.setattr(os, "getgrouplist", lambda _name, gid: [gid])
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PBS_CONF_FILE", str(tmp_path / "pbs.conf"))
    monkeypatch.delenv("PBS_SERVER", raising=False)
    monkeypatch.delenv("PBS_DEFAULT", raising=False)
    return Site(tmp_path, system(version), recorded)


def allocation(site: Site, job: Job, node: str = "") -> object:
    site.say(job.answers)
    lrms = site.node(node)
    return lrms.allocation(lrms.job_id(job.id))


@each
def test_a_recording_says_its_version(version: str) -> None:
    assert re.fullmatch(r"[a-z]+-\d+(\.\d+)+", version)
    assert (DATA / version / "record").is_file()


def test_each_system_was_recorded() -> None:
    assert {system(version) for version in RECORDED} == set(SYSTEMS)


def test_what_a_system_lacks_is_said(tmp_path: Path) -> None:
    defaults = {field.name: field.default for field in fields(System)}
    optional = ("leases", "runs", "charging", "markers")
    lacking = {
        (name, what)
        for name, system in SYSTEMS.items()
        for what in optional
        if getattr(system, what) is defaults[what]
    }
    for version, recorded in RECORDED.items():
        name = system(version)
        if not isinstance(Site(tmp_path / version, name, recorded).node(), Reruns):
            lacking.add((name, "reruns"))
    assert lacking == set(LACKS)


@pytest.mark.parametrize(("version", "job", "expected"), rows("granted"))
def test_what_a_job_was_granted(site: Site, job: Job, expected: dict[str, object]) -> None:
    found = allocation(site, job)
    _user, uid, gid = site.recorded.owner
    whose = {"job": job.id, "uid": uid, "gid": gid}
    assert {key: getattr(found, key) for key in whose | expected} == whose | expected
    assert not site.changes()


@pytest.mark.parametrize(("version", "job", "words"), rows("refused"))
def test_what_can_not_have_a_vm_is_refused_for_good(site: Site, job: Job, words: str) -> None:
    with pytest.raises(RejectedError, match=words) as refusal:
        allocation(site, job)
    assert not refusal.value.retry


@each
def test_a_job_of_another_node_is_refused(site: Site) -> None:
    with pytest.raises(RejectedError, match=r"exactly one.* here hv9"):
        allocation(site, site.recorded.granted[0][0], "hv9")


@each
def test_a_job_that_waits_has_no_allocation(site: Site) -> None:
    with pytest.raises((UnknownError, RejectedError)):
        allocation(site, site.recorded.waiting)


@each
def test_another_jobs_record_is_no_answer(site: Site) -> None:
    over = next(job for job, node in site.recorded.places if node is None)
    with pytest.raises(UnknownError, match="does not list"):
        allocation(site, replace(site.recorded.granted[0][0], id=over.id))


@each
def test_an_owner_who_is_not_known_here_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(key: object) -> pwd.struct_passwd:
        raise KeyError(key)

    for find in ("getpwnam", "getpwuid"):
        monkeypatch.setattr(pwd, find, unknown)
    with pytest.raises(
        RejectedError, match=r"this node (knows no|does not know)|not known on this node"
    ):
        allocation(site, site.recorded.granted[0][0])


@each
def test_a_group_that_is_not_the_owners_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getgrouplist", lambda _name, _gid: [1])
    with pytest.raises(RejectedError, match="not in the job's group"):
        allocation(site, site.recorded.granted[0][0])


@pytest.mark.parametrize(("version", "job", "node"), rows("places"))
def test_where_a_job_runs(site: Site, job: Job, node: str | None) -> None:
    site.say(job.answers)
    assert site.node().where(JobId(job.id)) == node


@pytest.mark.parametrize(("version", "answers", "jobs"), rows("live"))
def test_the_jobs_that_hold_an_allocation_and_which_are_suspended(
    site: Site, answers: Answers, jobs: dict[str, bool]
) -> None:
    site.say(answers)
    assert site.node().live_jobs() == jobs
    assert not site.changes()


@pytest.mark.parametrize(("version", "answers", "free"), rows("rooms"))
def test_what_of_the_node_is_free(
    site: Site, answers: Answers, free: tuple[int, int | None]
) -> None:
    site.say(answers)
    room = site.node().room()
    assert (room.cores, room.memory) == free
    assert not site.changes()


FAULTS = {
    "fails": "echo 'cannot connect to server' >&2; exit 1",
    "crashes": "kill -SEGV $$",
    "hangs": "exec sleep 60",
    "nonsense": "echo Segmentation fault",
    "a page": "echo '<html><body>502 Bad Gateway</body></html>'",
    "missing": "",
}
ASKS: dict[str, Callable[[Site], object]] = {
    "allocation": lambda site: site.node().allocation(JobId("7")),
    "where": lambda site: site.node().where(JobId("7")),
    "live": lambda site: site.node().live_jobs(),
    "room": lambda site: site.node().room(),
    "drain": lambda site: site.node().drain("why"),
    "resume": lambda site: site.node().resume(),
    "named": lambda site: SYSTEMS[site.config.lrms].named("wnodes-lease-x", "nobody"),
}


@each
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("ask", ASKS)
def test_unknown_is_not_gone(
    site: Site, ask: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.say({"*": Does(FAULTS[fault])})
    if fault == "hangs":
        whole = run._ended
        monkeypatch.setattr(run, "_ended", lambda argv, _wait, *rest: whole(argv, 0.2, *rest))
    if fault == "missing":
        site.forget()
        monkeypatch.setenv("PATH", str(site.folder))
    with pytest.raises(UnknownError):
        ASKS[ask](site)


@pytest.mark.parametrize(("version", "act", "answers", "others", "changes"), rows("drains"))
def test_only_a_drain_of_our_own_is_touched(
    site: Site, act: str, answers: Answers, others: str, changes: tuple[str, ...]
) -> None:
    site.say(answers)
    lrms = site.node()
    assert (lrms.drain("why") if act == "drain" else lrms.resume()) == others
    assert site.changes() == changes


@each
def test_a_failed_job_is_tried_again_or_held_in_the_systems_own_words(
    version: str,
) -> None:
    tell = SYSTEMS[system(version)].after_failure
    again, held = RECORDED[version].failure
    assert tell(Failure("12", retry=True, restart=0, retries=2)) == again
    assert tell(Failure("12", retry=False, restart=0, retries=2)) == held


class ByCommands:
    """Leases by the batch system's own commands."""

    def __init__(self, version: str, folder: Path) -> None:
        self.recorded = RECORDED[version]
        self.site = Site(folder, system(version), self.recorded)
        self.leases = SYSTEMS[system(version)].leases
        self.config = self.site.config.model_copy(update={"cloud": Cloud(accounts=("nobody",))})
        self.has("")

    def has(self, state: str) -> None:
        self.site.say(self.recorded.leases[state])

    def refuse(self) -> None:
        self.has("refused")


class ByDrmaa:
    """Leases by a library that calls itself as the batch system's own does."""

    def __init__(self, version: str, library: Library) -> None:
        self.library = library
        recorded = RECORDED[version]
        self.job = recorded.drmaa_job.format(1)
        (library.folder / "drms").write_text(recorded.drms)
        (library.folder / "form").write_text(recorded.drmaa_job)
        cloud = Cloud(accounts=("nobody",), drmaa_library=str(library.folder))
        bait = {"state_dir": str(library.folder.parent / "state")}
        self.config = Config(cluster="box", lrms=system(version), cloud=cloud, bait=bait)

    def has(self, state: str) -> None:
        states = {"pending": "queued_active", "running": "running", "ended": "done"}
        self.library.state(self.job, states[state])

    def refuse(self) -> None:
        self.library.fault("DeniedByDrmException: code 17: node configuration is not available")


@pytest.fixture
def queue(
    version: str, way: str, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ByCommands | ByDrmaa:
    monkeypatch.setenv("PATH", f"{tmp_path}/site:{os.environ['PATH']}")
    monkeypatch.setattr(drmaaleases, "_SURE", 0.0)
    return ByDrmaa(version, library) if way == "DRMAA" else ByCommands(version, tmp_path / "site")


@needs_root
@pytest.mark.integration
@pytest.mark.parametrize(
    ("version", "way"),
    [(version, "DRMAA") for version in RECORDED]
    + [(version, "commands") for version in RECORDED if SYSTEMS[system(version)].leases],
)
def test_a_lease_is_submitted_once_watched_and_cancelled(queue: ByCommands | ByDrmaa) -> None:
    leases = leases_of(queue.config)
    queue.refuse()
    with pytest.raises(RejectedError) as refusal:
        leases.submit(REQUEST)
    assert refusal.value.told == refusals.told("node configuration is not available")
    if isinstance(queue, ByCommands):
        queue.has("")
    job = leases.submit(REQUEST)
    for state in ("pending", "running"):
        queue.has(state)
        assert leases.submit(REQUEST) == job
        assert [(each.lease, each.job, each.state) for each in leases.list()] == [
            (REQUEST.lease, job, state)
        ]
    for _ in range(2):  # what is gone is success
        leases.cancel(REQUEST.lease, job)
        queue.has("ended")
    assert [each.state for each in leases.list()] == ["ended"]
