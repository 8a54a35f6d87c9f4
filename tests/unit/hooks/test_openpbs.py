"""hooks/openpbs.py as OpenPBS 23.06 runs it: pbs_23_06.py stands in for PBS's module."""

import json
import runpy
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.conftest import eventually
from tests.unit.hooks import pbs_23_06 as pbs
from tests.unit.hooks.pbs_23_06 import Event, Job, Named
from tests.unit.scripted_bait import ScriptedBait, says

HOOK = Path(__file__).parents[3] / "hooks" / "openpbs.py"
POLICY = {
    "tags": ["alpha", "beta", "gamma"],
    "defaults": [
        {"image": "beta", "partition": "grid", "account": None, "qos": None},
        {"image": "alpha", "partition": None, "account": "cms", "qos": None},
    ],
    "allow": [{"image": "gamma", "users": ["alice"], "groups": [], "accounts": ["atlas"]}],
    "lease_users": ["cloud*"],
}
AGAIN, HOLD = 256 + signal.SIGPWR, 256 + signal.SIGIO


class Site:
    """A site's PBS with the hook in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "policy.json").write_text(json.dumps(POLICY))
        config = {
            "socket": f"{folder}/%n.sock",
            "starter": "/libexec/starter",
            "lease": "/libexec/wnodes-lease",
            "policy": f"{folder}/policy.json",
            "retries": 2,
        }
        (folder / "hook.json").write_text(json.dumps(config))
        pbs.hook_config_filename = str(folder / "hook.json")
        pbs.logged.clear()

    def run(self, event: Event) -> Event:
        pbs.current.append(event)
        with pytest.raises(SystemExit):
            runpy.run_path(str(HOOK))
        return event

    def submit(
        self, env: dict[str, str] | None = None, user: str = "bob", once: bool = False, **more: Any
    ) -> Event:
        """A submission; words of Job are attributes, all others resources."""
        attributes = {name: more.pop(name) for name in list(more) if name in Job.NAMES}
        attributes.setdefault("queue", "")
        job = Job(
            more, Variable_List={"PBS_O_HOME": "/h"} | (env or {}), Rerunable=not once, **attributes
        )
        return self.run(Event(pbs.QUEUEJOB, job, requestor=user))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setitem(sys.modules, "pbs", pbs)
    return Site(tmp_path)


@pytest.fixture
def bait(site: Site) -> Iterator[ScriptedBait]:
    made = ScriptedBait(site.folder / "hv1.sock", says({"ok": True}))
    yield made
    made.close()


def asked(event: Event) -> dict[str, str]:
    return {name: str(value) for name, value in event.job.Resource_List.asked.items()}


def test_a_plain_job_passes_untouched(site: Site) -> None:
    event = site.submit(select=pbs.select("2:ncpus=4"), interactive=1)
    assert event.rejected is None
    assert asked(event) == {"select": "2:ncpus=4"}


@pytest.mark.parametrize(
    ("job", "by"),
    [
        ({"vm": "alpha"}, "resource"),
        ({"env": {"WNODES_IMAGE": "alpha"}}, "environment"),
        ({"env": {"WNODES_IMAGE": "alpha"}, "vm": "alpha"}, "resource"),
        ({"env": {"WNODES_IMAGE": ""}, "vm": "alpha"}, "resource"),
        ({"vm": "alpha", "once": True}, "resource+once"),
    ],
)
def test_a_wish_becomes_resources(site: Site, job: dict[str, Any], by: str) -> None:
    event = site.submit(**job)
    assert event.rejected is None
    assert asked(event) == {"vm": "alpha", "wnodes": "True", "wnodes_by": by}


def test_the_sites_default_by_queue(site: Site) -> None:
    event = site.submit(queue=Named("grid"))
    assert asked(event) == {"vm": "beta", "wnodes": "True", "wnodes_by": "default"}
    # An account is the user's word.
    assert asked(site.submit(Account_Name=Named("cms"))) == {}


def test_a_named_image_comes_before_the_default(site: Site) -> None:
    assert asked(site.submit(queue=Named("grid"), vm="alpha"))["vm"] == "alpha"


@pytest.mark.parametrize(
    ("asks", "needs"),
    [
        ({"select": pbs.select("1:ncpus=2:mem=1gb")}, {"select": "1:ncpus=2:mem=1gb:wnodes=True"}),
        ({"select": pbs.select("ncpus=2")}, {"select": "ncpus=2:wnodes=True"}),
        ({"select": pbs.select("1:wnodes=true")}, {"select": "1:wnodes=true"}),
        ({"nodes": "1:ppn=2"}, {"nodes": "1:ppn=2:wnodes"}),
        ({"nodes": "hv1:ppn=2#excl"}, {"nodes": "hv1:ppn=2:wnodes#excl"}),
        ({"place": "excl"}, {"place": "excl", "select": "1:wnodes=True"}),
        ({"ncpus": 2}, {"ncpus": "2", "wnodes": "True"}),
    ],
)
def test_it_needs_a_node_with_a_bait(
    site: Site, asks: dict[str, Any], needs: dict[str, str]
) -> None:
    event = site.submit(vm="alpha", **asks)
    assert event.rejected is None
    assert asked(event) == {"vm": "alpha", "wnodes_by": "resource", **needs}


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ({"vm": "nosuch"}, "no image nosuch here; there are: alpha, beta, gamma"),
        ({"vm": "no\nsuch\x1b"}, "no image no?such? here"),
        ({"vm": "gamma"}, "you may not use the image gamma"),
        ({"vm": "alpha", "env": {"WNODES_IMAGE": "beta"}}, "name different images"),
        ({"vm": "alpha", "interactive": 1}, "submit it without -I"),
        ({"vm": "alpha", "sandbox": "PRIVATE"}, "no private folder"),
        ({"vm": "alpha", "select": pbs.select("2:ncpus=1")}, "one chunk on one node"),
        ({"vm": "alpha", "select": pbs.select("ncpus=1+ncpus=2")}, "one chunk on one node"),
        ({"vm": "alpha", "nodes": "4:ppn=1"}, "one chunk on one node"),
        ({"vm": "alpha", "select": pbs.select("1:wnodes=False")}, "needs a node with wnodes=True"),
        ({"queue": Named("grid"), "interactive": 1}, "the site runs this job in a VM"),
    ],
)
def test_what_cannot_work_is_refused(site: Site, job: dict[str, Any], said: str) -> None:
    rejected = site.submit(**job).rejected
    assert rejected
    assert rejected.startswith("wnodes: ")
    assert said in rejected
    assert "\n" not in rejected


def test_who_may_use_an_image(site: Site) -> None:
    assert site.submit(vm="gamma", user="alice").rejected is None
    rejected = site.submit(vm="gamma", Account_Name=Named("atlas")).rejected
    assert "you may not use" in (rejected or "")


def lease(site: Site, user: str, **more: Any) -> Event:
    words = {"select": pbs.select("1:ncpus=1:mem=300mb:wnodes=True"), **more}
    name = Named("wnodes-lease-0b1c-22")
    return site.submit(env={"WNODES_LEASE": "x.y.z"}, user=user, Job_Name=name, **words)


def test_a_lease_is_marked_and_gets_no_image(site: Site) -> None:
    event = lease(site, "cloud7", queue=Named("grid"))
    assert event.rejected is None
    assert asked(event)["wnodes_by"] == "lease"
    assert "vm" not in asked(event)


def test_leases_run_as_the_sites_accounts_only(site: Site) -> None:
    rejected = lease(site, "bob").rejected
    assert rejected == "wnodes: leases do not run as bob: [cloud] accounts names the users"


def test_what_only_looks_like_a_lease_gets_the_default(site: Site) -> None:
    event = site.submit(queue=Named("grid"), Job_Name=Named("wnodes-lease-0b1c-22"))
    assert asked(event)["vm"] == "beta"


MARKED = {"vm": "alpha", "wnodes_by": "resource"}


def modify(
    site: Site, before: dict[str, Any], asks: dict[str, Any], account: str = "", once: Any = None
) -> Event:
    charged = Named(account) if account else None
    new = Job(asks, Account_Name=charged, Rerunable=None if once is None else not once)
    old = Job(before, queue=Named("workq"))
    return site.run(Event(pbs.MODIFYJOB, new, job_o=old))


def test_a_job_keeps_its_image_and_its_node(site: Site) -> None:
    assert "submit it again" in (modify(site, MARKED, {"vm": "beta"}).rejected or "")
    more = {"select": pbs.select("2:ncpus=1")}
    assert "one chunk" in (modify(site, MARKED, more).rejected or "")
    event = modify(site, MARKED, {"select": pbs.select("1:ncpus=4")})
    assert asked(event) == {"select": "1:ncpus=4:wnodes=True"}


def test_a_job_gets_no_machine_later(site: Site) -> None:
    assert "at submission" in (modify(site, {}, {"vm": "alpha"}).rejected or "")
    assert modify(site, {}, {"ncpus": 2}).rejected is None


def test_whether_it_may_run_again_is_remembered(site: Site) -> None:
    assert asked(modify(site, MARKED, {}, once=True)) == {"wnodes_by": "resource+once"}
    once = MARKED | {"wnodes_by": "resource+once"}
    assert asked(modify(site, once, {}, once=False)) == {"wnodes_by": "resource"}
    assert asked(modify(site, once, {})) == {}


def test_no_job_slips_into_a_queue_that_gives_a_machine(site: Site) -> None:
    def move(resources: dict[str, Any], to: str) -> str | None:
        job = Job(resources, queue=Named(to))
        return site.run(Event(pbs.MOVEJOB, job, src_queue=Named("workq"))).rejected

    assert "beta, which is given at submission" in (move({}, "grid") or "")
    assert move({}, "long") is None
    assert move(dict(MARKED), "grid") is None


def launch(site: Site, resources: dict[str, Any], argv: list[str], task: str = "1") -> Any:
    job = Job(resources, run_count=2)
    event = Event(
        pbs.EXECJOB_LAUNCH, job, progname="/bin/bash", argv=argv, env={"PBS_TASKNUM": task}
    )
    return site.run(event)


def test_a_plain_job_is_launched_as_it_is(site: Site, bait: ScriptedBait) -> None:
    event = launch(site, {}, ["/bin/echo", "a"])
    assert (event.progname, event.argv) == ("/bin/bash", ["/bin/echo", "a"])
    assert event.env == {"PBS_TASKNUM": "1"}
    assert bait.heard == []


@pytest.mark.parametrize(
    ("argv", "words"),
    [([], ["script", "/bin/bash"]), (["/bin/echo", "a b"], ["command", "/bin/echo", "a b"])],
)
def test_the_starter_takes_the_place_of_script_and_command(
    site: Site, bait: ScriptedBait, argv: list[str], words: list[str]
) -> None:
    event = launch(site, dict(MARKED), argv)
    assert event.progname == "/libexec/starter"
    assert event.argv == ["/libexec/starter", "12.server", "hv1", *words]
    assert event.env["WNODES_RUN"] == "2"
    eventually(lambda: bait.heard)
    assert bait.heard == [{"op": "prepare", "job": "12.server"}]


def test_without_a_bait_the_starter_is_launched_all_the_same(site: Site) -> None:
    event = launch(site, MARKED | {"wnodes_by": "resource+once"}, [])
    assert event.progname == "/libexec/starter"
    assert event.env["WNODES_RUN"] == ""
    assert "prepare:" in pbs.logged[0]


def test_a_lease_runs_nothing_but_the_lease_program(site: Site, bait: ScriptedBait) -> None:
    event = launch(site, {"wnodes_by": "lease"}, ["/bin/sh", "-c", "evil"])
    assert event.argv == ["/libexec/wnodes-lease", "12.server", "hv1"]
    assert event.progname == "/libexec/wnodes-lease"
    assert bait.heard == []


def test_no_other_task_of_such_a_job_runs_on_the_node(site: Site) -> None:
    assert "runs in a VM" in (launch(site, dict(MARKED), ["/bin/x"], "2").rejected or "")
    assert launch(site, {}, ["/bin/x"], "2").rejected is None


def end(site: Site, status: int, runs: int = 1, **resources: str) -> Any:
    job = Job({**MARKED, **resources}, Exit_status=status, run_count=runs, Variable_List={"A": "1"})
    assert site.run(Event(pbs.EXECJOB_EPILOGUE, job)).rejected is None
    return job


def test_the_bait_hears_of_every_end_but_a_plain_jobs(site: Site, bait: ScriptedBait) -> None:
    assert not end(site, 3).again
    assert not end(site, 0, wnodes_by="lease").again
    assert bait.heard == [{"op": "release", "job": "12.server"}] * 2
    site.run(Event(pbs.EXECJOB_EPILOGUE, Job({}, Exit_status=AGAIN)))
    assert len(bait.heard) == 2


@pytest.mark.parametrize("status", [0, 98, 99, 271, 255])
def test_how_a_script_ends_is_no_reason_to_run_it_again(
    site: Site, bait: ScriptedBait, status: int
) -> None:
    bait.answer = says({"ok": True, "failed": "the VM has stopped", "retry": True})
    assert not end(site, status).again


def test_tries_are_counted_and_end_in_a_hold(site: Site, bait: ScriptedBait) -> None:
    bait.answer = says({"ok": True, "failed": "the image\nis broken", "retry": True})
    for runs in (1, 2):
        job = end(site, AGAIN, runs)
        assert job.again
        assert job.Hold_Types is None
    job = end(site, AGAIN, 3)
    assert job.again
    assert str(job.Hold_Types) == "u"
    assert job.Variable_List == {"A": "1", "WNODES_HELD": "the image?is broken"}


def test_what_a_guest_has_printed_is_no_other_variable(site: Site, bait: ScriptedBait) -> None:
    bait.answer = says({"ok": True, "failed": "said: x,LD_PRELOAD=/e,\"a'\\b", "retry": False})
    job = end(site, HOLD)
    assert job.Variable_List["WNODES_HELD"] == "said: x;LD_PRELOAD=/e;;a;;b"


def test_what_no_other_try_can_mend_is_held_at_once(site: Site, bait: ScriptedBait) -> None:
    bait.answer = says({"ok": False, "error": "not now"})
    job = end(site, HOLD)
    assert (job.again, str(job.Hold_Types)) == (True, "u")
    assert job.Variable_List["WNODES_HELD"] == "not now"


def test_a_bait_that_is_away_does_not_end_the_count(site: Site) -> None:
    assert end(site, AGAIN, 2).again
    assert str(end(site, AGAIN, 3).Hold_Types) == "u"


@pytest.mark.usefixtures("bait")
def test_a_job_that_may_run_once_is_not_run_again(site: Site) -> None:
    assert not end(site, AGAIN, wnodes_by="resource+once").again
    assert not end(site, HOLD, wnodes_by="default+once").again


def test_a_fault_stops_no_plain_job(site: Site) -> None:
    (site.folder / "policy.json").write_text("{")
    assert site.submit(ncpus=1).rejected is None
    assert "wnodes: JSONDecodeError" in pbs.logged[0]
    assert "VMs cannot be given at the moment" in (site.submit(vm="alpha").rejected or "")


def test_resources_that_are_not_defined_stop_no_plain_job(site: Site) -> None:
    def submit(variables: dict[str, str]) -> str | None:
        job = Job({}, {"ncpus", "select"}, queue="", Variable_List=variables, Rerunable=True)
        return site.run(Event(pbs.QUEUEJOB, job, requestor="bob")).rejected

    assert submit({}) is None
    assert "VMs cannot be given" in (submit({"WNODES_IMAGE": "alpha"}) or "")
