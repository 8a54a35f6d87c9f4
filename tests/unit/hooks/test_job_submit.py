"""job_submit.lua in the real Lua interpreters that Slurm is built with, under Slurm 22.05's rules.

Slurm's side is slurm_22_05.lua; the end-to-end tests use slurmctld itself.
"""

import json
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from wnodes_lrms.lrms import hookfiles
from wnodes_lrms.lrms.lease import carries_leases
from wnodes_lrms.lrms.slurm.hookplan import Site
from wnodes_lrms.lrms.slurm.installation import SlurmHooks
from wnodes_lrms.lrms.slurm.luapolicy import quote
from wnodes_lrms.policy import Policy, may_use

pytestmark = pytest.mark.integration

STAND_IN = Path(__file__).with_name("slurm_22_05.lua")
ALPHA, BETA, GAMMA = "alpha_linux_x86_64", "beta_linux_x86_64", "gamma_linux_x86_64"
PARTITIONS = {"short": {"flag_default": 1}, "grid": {"flag_default": 0}}
SCRIPT = "#!/bin/bash -l\necho 'a\\b \"c\"'\n"
DENIED, NODES, ERROR = 2002, 2006, -1


@dataclass(frozen=True)
class Default:
    image: str
    partition: str | None = None
    account: str | None = None
    qos: str | None = None


@dataclass(frozen=True)
class Allow:
    image: str
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()


POLICY = Policy(
    [ALPHA, BETA, GAMMA],
    [Default(BETA, partition="grid"), Default(ALPHA, account="cms", qos="fast")],
    [Allow(GAMMA, users=("alice",))],
    ("cloud*", "lessee"),
)


@dataclass
class Slurm:
    """A site's job_submit.lua with the hooks installed, and one interpreter to run it."""

    site: Site
    interpreter: str
    scratch: Path
    defaults: dict[str, Any] = field(default_factory=lambda: {"user_name": "bob", "user_id": 1001})

    def submit(self, env: dict[str, str] | None = None, **job: Any) -> dict[str, Any]:
        """What sbatch would meet: `code`, what was `said` to the user, the fields `written`."""
        return self._run({"script": SCRIPT, **self.defaults, **job}, env, None, 1001)

    def modify(
        self, record: dict[str, Any], uid: int = 1001, popen: str | None = None, **job: Any
    ) -> dict[str, Any]:
        return self._run(job, None, {"partition": "short", **record}, uid, popen)

    def _run(
        self,
        job: dict[str, Any],
        env: dict[str, str] | None,
        record: dict[str, Any] | None,
        uid: int,
        popen: str | None = None,
    ) -> dict[str, Any]:
        popen = job.pop("popen", popen)
        scenario = self.scratch / "scenario.lua"
        values = {"job": job, "env": env or {}, "record": record, "partitions": PARTITIONS}
        scenario.write_text("return " + lua({**values, "uid": uid, "popen": popen}))
        ran = subprocess.run(
            [self.interpreter, STAND_IN, self.site.loader, scenario],
            capture_output=True,
            text=True,
            timeout=10,
        )
        assert ran.returncode == 0, ran.stderr
        outcome: dict[str, Any] = json.loads(ran.stdout)
        return outcome


def lua(value: Any) -> str:
    if isinstance(value, dict):
        items = (f"[{quote(k)}]={lua(v)}" for k, v in value.items() if v is not None)
        return "{" + ",".join(items) + "}"
    return quote(value) if isinstance(value, str) else str(value)


def make_site(folder: Path) -> Site:
    conf = folder / "etc" / "slurm.conf"
    conf.parent.mkdir()
    conf.write_text("ClusterName=box\n")
    return Site(conf, "/run/wnodes/%n/bait.sock", 2, folder / "hooks", os.geteuid())


@pytest.fixture(scope="module", params=["lua5.1", "lua5.3"])
def interpreter(request: pytest.FixtureRequest) -> str:
    """Debian's plug-in has Lua 5.1 in it; the Enterprise Linux ones 5.3 or 5.4."""
    name: str = request.param
    assert shutil.which(name), f"the package {name} is missing"
    return name


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


@pytest.fixture(scope="module")
def slurm(interpreter: str, tmp_path_factory: pytest.TempPathFactory) -> Slurm:
    """A site that no test changes."""
    folder = tmp_path_factory.mktemp("site")
    site = make_site(folder)
    hookfiles.install(SlurmHooks(site, POLICY))
    return Slurm(site, interpreter, folder)


def starter_line(site: Site) -> str:
    return f"#!{site.folder}/starter /bin/bash -l\necho 'a\\b \"c\"'\n"


@pytest.mark.parametrize(
    ("wish", "features"),
    [
        ({"env": {"WNODES_IMAGE": ALPHA}}, "wnodes"),
        ({"features": f"vm_{ALPHA}"}, "wnodes"),
        ({"features": f"a&vm_{ALPHA}&b"}, "wnodes&a&b"),
        ({"features": f"a,vm_{ALPHA}"}, "wnodes&a"),
        ({"features": f"vm_{ALPHA}&[a|b]"}, "wnodes&[a|b]"),
        ({"features": f"(a|b)&vm_{ALPHA}"}, "wnodes&(a|b)"),
        ({"features": f"vm_{ALPHA}", "env": {"WNODES_IMAGE": ALPHA}}, "wnodes"),
        ({"features": "wnodes&a", "env": {"WNODES_IMAGE": ALPHA}}, "wnodes&a"),
        ({"features": "a|b", "env": {"WNODES_IMAGE": ALPHA}}, "wnodes&(a|b)"),
        ({"features": "[a|b]", "env": {"WNODES_IMAGE": ALPHA}}, "wnodes&[a|b]"),
    ],
)
def test_a_wish_gives_the_job_a_machine(slurm: Slurm, wish: dict[str, Any], features: str) -> None:
    by = "environment" if "env" in wish else "constraint"
    assert slurm.submit(**wish) == {
        "code": 0,
        "said": {},
        "logged": {},
        "written": {
            "script": starter_line(slurm.site),
            "features": features,
            "admin_comment": f"wnodes_image={ALPHA} wnodes_by={by}",
            "max_nodes": 1,
        },
    }


def test_a_lease_for_a_node_with_its_networks_is_a_lease(slurm: Slurm) -> None:
    written = slurm.submit(**lease(features="wnodes&net_lan"))["written"]
    assert written["admin_comment"].startswith("wnodes_lease=3f0c")
    assert "features" not in written


@pytest.mark.parametrize(
    "job",
    [
        {},
        {"features": "a&(b|c)", "min_nodes": 4, "partition": "short"},
        {"env": {"WNODES_IMAGE": ""}},
        {"script": None},
        {"account": "cms"},
        {"qos": "fast", "account": "atlas"},
        {"het_job_offset": 0},
        {"script": "echo no interpreter"},
    ],
)
def test_a_job_without_a_wish_is_not_touched(slurm: Slurm, job: dict[str, Any]) -> None:
    assert slurm.submit(**job) == {"code": 0, "said": {}, "logged": {}, "written": {}}


def wish(**job: Any) -> dict[str, Any]:
    return {"features": f"vm_{ALPHA}", **job}


@pytest.mark.parametrize(
    ("job", "code", "says"),
    [
        ({"features": "vm_nope_linux_x86_64"}, ERROR, "no image nope_linux_x86_64 here; there are"),
        ({"features": f"vm_{GAMMA}"}, DENIED, f"you may not use the image {GAMMA}"),
        ({"features": f"vm_{ALPHA}&vm_{BETA}"}, ERROR, f"two images, {ALPHA} and {BETA}"),
        (wish(env={"WNODES_IMAGE": BETA}), ERROR, f"{BETA} and --constraint=vm_{ALPHA} name diff"),
        ({"features": f"vm_{ALPHA}|a"}, ERROR, "leaves open whether"),
        ({"features": f"[vm_{ALPHA}|a]"}, ERROR, "leaves open whether"),
        ({"features": f"(vm_{ALPHA}&a)"}, ERROR, "leaves open whether"),
        ({"features": f"vm_{ALPHA}*2"}, ERROR, "leaves open whether"),
        ({"features": "wnodes"}, ERROR, "needs an image"),
        ({"features": "a&wnodes*1"}, ERROR, "needs an image"),
        ({"features": "(a&b)|c", "env": {"WNODES_IMAGE": ALPHA}}, ERROR, "cannot be joined"),
        (wish(min_nodes=2, max_nodes=2), NODES, "one node, and this one asks for 2"),
        (wish(script=None), ERROR, "submit it with sbatch"),
        (wish(het_job_offset=0), ERROR, "heterogeneous"),
        (wish(het_job_offset=1, script=None), ERROR, "sbatch"),
        (wish(container="/oci"), ERROR, "in a VM or in a container"),
        (wish(script="echo\n"), ERROR, "must name its interpreter"),
        (wish(script="#!  \necho\n"), ERROR, "must name its interpreter"),
        (wish(script="\ufeff#!/bin/sh\n"), ERROR, "must name its interpreter"),
        (wish(script="#!/bin/bash\r\necho\r\n"), ERROR, "DOS line ends"),
        (wish(script="#!/" + "x" * 250 + "\n"), ERROR, "first line is too long"),
        ({"partition": "grid", "script": None}, ERROR, "the site runs this job in a VM"),
        ({"partition": "grid", "min_nodes": 2}, NODES, "the site runs this job in a VM"),
        ({"partition": "grid,short"}, ERROR, "partitions grid,short run jobs in different"),
        ({"env": {"WNODES_IMAGE": "x\ny%s"}}, ERROR, "no image x?y%s here"),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence(
    slurm: Slurm, job: dict[str, Any], code: int, says: str
) -> None:
    outcome = slurm.submit(**job)
    assert outcome["code"] == code
    (sentence,) = outcome["said"]
    assert sentence.startswith("wnodes: ")
    assert says in sentence
    assert outcome["written"] == {}


@pytest.mark.parametrize(
    ("job", "image"),
    [
        ({"partition": "grid"}, BETA),
        ({"partition": "grid,grid"}, BETA),
        ({"account": "cms", "qos": "fast"}, ALPHA),
        ({"default_account": "cms", "default_qos": "fast"}, ALPHA),
        ({"partition": "grid", "account": "cms", "qos": "fast"}, BETA),
        ({"partition": "grid", "env": {"WNODES_IMAGE": ALPHA}}, ALPHA),
        ({"partition": "grid", "features": "wnodes"}, BETA),
    ],
)
def test_the_sites_default_is_the_first_rule_that_fits_and_yields_to_the_user(
    slurm: Slurm, job: dict[str, Any], image: str
) -> None:
    by = "environment" if "env" in job else "default"
    comment = slurm.submit(**job)["written"]["admin_comment"]
    assert comment == f"wnodes_image={image} wnodes_by={by}"


def test_a_rule_for_the_default_partition_holds_where_none_is_named(
    site: Site, interpreter: str, tmp_path: Path
) -> None:
    hookfiles.install(SlurmHooks(site, Policy([BETA], [Default(BETA, partition="short")])))
    assert "script" in Slurm(site, interpreter, tmp_path).submit()["written"]


@pytest.mark.parametrize(
    ("first_line", "becomes"),
    [
        ("#!/bin/bash", "/bin/bash"),
        ("#! /bin/sh", "/bin/sh"),
        ("#!\t/usr/bin/env python3  ", "/usr/bin/env python3"),
        ("#!/usr/bin/env -S python3 -u", "/usr/bin/env -S python3 -u"),
    ],
)
def test_only_the_first_line_of_the_script_changes(
    slurm: Slurm, first_line: str, becomes: str
) -> None:
    for rest in ("", "\n", "\n#!/second\r\n\n"):
        outcome = slurm.submit(**wish(script=first_line + rest))
        assert outcome["written"]["script"] == f"#!{slurm.site.folder}/starter {becomes}{rest}"


def test_the_longest_first_line_the_kernel_reads_passes(slurm: Slurm) -> None:
    room = 255 - len(f"#!{slurm.site.folder}/starter ")
    fits = slurm.submit(**wish(script="#!" + "/" * room + "\n"))
    assert len(fits["written"]["script"]) == 256
    assert slurm.submit(**wish(script="#!" + "/" * (room + 1) + "\n"))["code"] == ERROR


def test_a_script_that_slurm_gave_back_is_not_wrapped_twice(slurm: Slurm) -> None:
    script = starter_line(slurm.site)
    assert slurm.submit(**wish(script=script))["written"]["script"] == script


def test_a_forged_mark_in_the_comment_goes_and_other_words_stay(slurm: Slurm) -> None:
    outcome = slurm.submit(**wish(admin_comment=f"seen  wnodes_image={GAMMA} wnodes_by=x by ops"))
    written = outcome["written"]["admin_comment"]
    assert written == f"seen by ops wnodes_image={ALPHA} wnodes_by=constraint"


def test_a_scratch_disk_is_marked_for_the_bait_and_stays_so(slurm: Slurm) -> None:
    env = {"WNODES_IMAGE": ALPHA, "WNODES_SCRATCH": "20"}
    comment = slurm.submit(env=env, admin_comment="wnodes_scratch=99 seen")["written"][
        "admin_comment"
    ]
    assert comment == f"seen wnodes_image={ALPHA} wnodes_by=environment wnodes_scratch=20"
    changed = slurm.modify({"admin_comment": comment}, admin_comment="mine")
    assert changed["written"]["admin_comment"] == f"mine {comment.removeprefix('seen ')}"
    assert "wnodes_scratch" not in slurm.submit(env={"WNODES_SCRATCH": "20"}).get("written", {})


@pytest.mark.parametrize("size", ["0", "-1", "007", "1.5", "10G", "123456", "5 wnodes_image=x"])
def test_a_scratch_disk_of_no_size_is_refused_at_submission(slurm: Slurm, size: str) -> None:
    outcome = slurm.submit(**wish(env={"WNODES_SCRATCH": size}))
    assert (outcome["code"], outcome["written"]) == (ERROR, {})
    assert "a whole number of GiB is needed" in outcome["said"][0]


def lease(**job: Any) -> dict[str, Any]:
    """A lease job, as a bait submits it."""
    named = {"name": "wnodes-lease-3f0c", "features": "wnodes", "user_name": "cloud001"}
    return {"env": {"WNODES_LEASE": "a.b.c"}, **named, **job}


@pytest.mark.parametrize(
    "job",
    [
        {},
        {"partition": "grid"},  # whose jobs the site puts into an image
        {"account": "cms", "qos": "fast"},
        {"user_name": "lessee"},
        {"script": "#!/bin/sh\nexec evil\n"},
        {"env": {"WNODES_LEASE": "a.b.c", "WNODES_IMAGE": ALPHA}},
        {"features": "fast&wnodes"},
    ],
)
def test_a_lease_runs_the_lease_program_and_nothing_else(slurm: Slurm, job: dict[str, Any]) -> None:
    assert slurm.submit(**lease(**job)) == {
        "code": 0,
        "said": {},
        "logged": {},
        "written": {
            "script": f"#!{slurm.site.folder}/wnodes-lease\n",
            "admin_comment": "wnodes_lease=3f0c",
        },
    }
    assert (slurm.site.folder / "wnodes-lease").stat().st_mode & 0o555 == 0o555


@pytest.mark.parametrize(
    ("job", "comment"),
    [
        ({}, ""),
        ({"partition": "grid"}, f"wnodes_image={BETA} wnodes_by=default"),
        (lease(), "wnodes_lease=3f0c"),
    ],
)
def test_marks_tell_what_a_job_is_whatever_its_comment_said_before(
    slurm: Slurm, job: dict[str, Any], comment: str
) -> None:
    forged = f"wnodes_lease=1234 seen wnodes_image={GAMMA}"
    written = slurm.submit(**job, admin_comment=forged)["written"]["admin_comment"]
    assert written == f"seen {comment}".strip()
    assert (
        slurm.submit(**job, admin_comment="seen")["written"].get("admin_comment", "seen")
        == f"seen {comment}".strip()
    )


def test_a_lease_keeps_its_mark(slurm: Slurm) -> None:
    record = {"admin_comment": "wnodes_lease=3f0c"}
    change = slurm.modify(record, uid=0, admin_comment="by ops")
    assert (change["code"], change["written"]) == (0, {"admin_comment": "by ops wnodes_lease=3f0c"})
    assert slurm.modify(record, name="other")["written"] == {}


@pytest.mark.parametrize("user", ["bob", "root", "lessees", "clou", "xcloud001", "", None])
def test_a_lease_of_another_user_is_refused(slurm: Slurm, user: str | None) -> None:
    outcome = slurm.submit(**lease(user_name=user))
    assert (outcome["code"], outcome["written"]) == (DENIED, {})
    assert "leases do not run as" in outcome["said"][0]


@pytest.mark.parametrize(
    ("job", "becomes"),
    [
        ({"name": "wnodes-lease", "partition": "grid"}, "wrapped"),
        ({"name": "wnodes-lease-a b", "partition": "grid"}, "wrapped"),
        ({"name": None, "partition": "grid"}, "wrapped"),
        ({"env": {}, "partition": "grid"}, "wrapped"),
        ({"env": {"WNODES_LEASE": ""}, "partition": "grid"}, "wrapped"),
        ({"features": None, "partition": "grid"}, "wrapped"),
        ({"features": f"vm_{BETA}"}, "wrapped"),
        ({"script": None}, "refused"),
        ({"name": "other"}, "refused"),
    ],
)
def test_what_only_resembles_a_lease_is_a_job_as_any_other(
    slurm: Slurm, job: dict[str, Any], becomes: str
) -> None:
    outcome = slurm.submit(**lease(**job))
    if becomes == "refused":
        assert (outcome["code"], outcome["written"]) == (ERROR, {})
    else:
        assert outcome["written"]["script"].startswith(f"#!{slurm.site.folder}/starter ")
        assert f"wnodes_image={BETA} " in outcome["written"]["admin_comment"]


@pytest.mark.parametrize("user", ["cloud", "cloud9", "cloud-x", "clou", "lessee", "lessee2", ".*"])
def test_lua_and_python_let_leases_run_as_the_same_users(slurm: Slurm, user: str) -> None:
    allowed = slurm.submit(**lease(user_name=user))["code"] == 0
    assert allowed == carries_leases(user, POLICY.lease_users)
    assert allowed == (user in ("cloud", "cloud9", "cloud-x", "lessee"))


def test_without_lease_users_there_are_no_leases(
    site: Site, interpreter: str, tmp_path: Path
) -> None:
    hookfiles.install(SlurmHooks(site, Policy([BETA])))
    assert Slurm(site, interpreter, tmp_path).submit(**lease())["code"] == DENIED


RULES = [
    Allow(ALPHA, users=("alice",), groups=("atlas people",)),
    Allow(ALPHA, accounts=("grid",)),
    Allow(BETA),
]


@pytest.mark.parametrize("star", [False, True])
@pytest.mark.parametrize("image", [ALPHA, BETA, GAMMA])
@pytest.mark.parametrize("account", [None, "grid", "other"])
@pytest.mark.parametrize("groups", [(), ("users", "atlas people"), ("atlas", "people")])
@pytest.mark.parametrize("user", ["alice", "bob"])
def test_lua_and_python_let_in_the_same_people(
    star: bool,
    image: str,
    account: str | None,
    groups: tuple[str, ...],
    user: str,
    shared_sites: Callable[[bool], Slurm],
) -> None:
    slurm = shared_sites(star)
    rules = RULES + ([Allow("*", users=("bob",))] if star else [])
    popen = "".join(f"{group}\n" for group in groups)
    outcome = slurm.submit(features=f"vm_{image}", user_name=user, account=account, popen=popen)
    assert outcome["code"] in (0, DENIED)
    assert (outcome["code"] == 0) == may_use(rules, image, user, groups, account)


@pytest.fixture(scope="module")
def shared_sites(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Slurm]:
    """The same two sites for the whole table: with and without a rule for every image."""
    made = {}
    for star in (False, True):
        folder = tmp_path_factory.mktemp("site")
        site = make_site(folder)
        rules = RULES + ([Allow("*", users=("bob",))] if star else [])
        hookfiles.install(SlurmHooks(site, Policy([ALPHA, BETA, GAMMA], allow=rules)))
        made[star] = Slurm(site, "lua5.1", folder)
    return made.__getitem__


def test_who_may_use_what() -> None:
    """The rule in plain numbers, so that two wrong halves can't agree."""
    assert may_use([], ALPHA, "bob", [], None)
    assert may_use(RULES, GAMMA, "bob", [], None)
    assert not may_use(RULES, BETA, "alice", ["atlas people"], "grid")
    assert may_use(RULES, ALPHA, "alice", [], None)
    assert may_use(RULES, ALPHA, "bob", ["atlas people"], None)
    assert may_use(RULES, ALPHA, "bob", [], "grid")
    assert not may_use(RULES, ALPHA, "bob", ["atlas"], "other")
    assert not may_use([Allow("*", users=("alice",))], ALPHA, None, [], None)


def test_groups_are_asked_of_the_system(site: Site, interpreter: str, tmp_path: Path) -> None:
    user = pwd.getpwuid(site.owner).pw_name
    group = subprocess.run(["id", "-gn", user], capture_output=True, text=True).stdout.strip()
    rules = [Allow(ALPHA, groups=(group,)), Allow(BETA, ("x",))]
    hookfiles.install(SlurmHooks(site, Policy([ALPHA, BETA], allow=rules)))
    slurm = Slurm(site, interpreter, tmp_path)
    assert slurm.submit(**wish(user_name=user))["code"] == 0
    assert slurm.submit(**wish(user_name="no-such-user-here"))["code"] == DENIED


def test_a_user_name_never_reaches_the_shell_as_code(
    site: Site, interpreter: str, tmp_path: Path
) -> None:
    hookfiles.install(SlurmHooks(site, Policy([ALPHA], allow=[Allow(ALPHA, groups=("g",))])))
    slurm = Slurm(site, interpreter, tmp_path)
    for name in ("x'; echo g; '", "-z", "$(echo g)", ""):
        outcome = slurm.submit(**wish(user_name=name, popen="g\n"))
        assert outcome["code"] == DENIED, name
        assert outcome["logged"] == {}  # no command was run at all


MARKS = f"wnodes_image={ALPHA} wnodes_by=default"
MARKED = {"admin_comment": MARKS, "features": "wnodes&a"}


@pytest.mark.parametrize(
    ("change", "written"),
    [
        ({"features": ""}, {"features": "wnodes"}),
        ({"features": "b"}, {"features": "wnodes&b"}),
        ({"features": f"vm_{ALPHA}&b"}, {"features": "wnodes&b"}),
        ({"admin_comment": "held"}, {"admin_comment": f"held {MARKS}"}),
        ({"admin_comment": f"wnodes_image={BETA}"}, {}),
        ({"min_nodes": 1}, {}),
        ({"partition": "grid"}, {}),
        ({}, {}),
    ],
)
def test_a_job_with_a_machine_keeps_it_when_it_is_changed(
    slurm: Slurm, change: dict[str, Any], written: dict[str, Any]
) -> None:
    outcome = slurm.modify(MARKED, **change)
    assert (outcome["code"], outcome["written"]) == (0, written)


@pytest.mark.parametrize(
    ("record", "change", "code"),
    [
        (MARKED, {"features": f"vm_{BETA}"}, DENIED),
        (MARKED, {"features": f"vm_{ALPHA}|a"}, DENIED),
        (MARKED, {"min_nodes": 2}, NODES),
        (MARKED, {"min_nodes": 1, "max_nodes": 2}, NODES),
        ({}, {"features": f"vm_{ALPHA}"}, DENIED),
        ({}, {"features": "a&wnodes"}, DENIED),
        ({}, {"partition": "grid"}, DENIED),
        ({"account": "cms"}, {"qos": "fast"}, DENIED),
    ],
)
def test_a_change_that_would_give_or_take_a_machine_is_refused(
    slurm: Slurm, record: dict[str, Any], change: dict[str, Any], code: int
) -> None:
    outcome = slurm.modify(record, **change)
    assert (outcome["code"], outcome["written"]) == (code, {})
    assert len(outcome["said"]) == 1


@pytest.mark.parametrize("change", [{"features": "a"}, {"min_nodes": 3}, {"partition": "short"}])
def test_a_change_of_a_plain_job_passes(slurm: Slurm, change: dict[str, Any]) -> None:
    assert slurm.modify({}, **change) == {"code": 0, "said": {}, "logged": {}, "written": {}}


def test_root_may_move_a_plain_job_anywhere(slurm: Slurm) -> None:
    assert slurm.modify({}, uid=0, partition="grid")["code"] == 0


SITE_SCRIPT = """
function slurm_job_submit(job, partitions, uid)
  if job.name == "no" then slurm.log_user("site says no") return 2050 end
  if job.name == "fault" then error("site's fault") end
  if job.name == "grid" then job.partition = "grid" end
  if job.name == "nothing" then return end
  return slurm.SUCCESS
end
function slurm_job_modify() return 2051 end
return slurm.SUCCESS
"""


@pytest.fixture
def composed(site: Site, interpreter: str, tmp_path: Path) -> Slurm:
    site.loader.write_text(SITE_SCRIPT)
    hookfiles.install(SlurmHooks(site, POLICY))
    return Slurm(site, interpreter, tmp_path)


def test_the_sites_own_functions_come_first_and_their_word_holds(composed: Slurm) -> None:
    refused = composed.submit(name="no", features="vm_nope")
    assert (refused["code"], refused["said"]) == (2050, ["site says no"])
    assert f"wnodes_image={BETA} " in composed.submit(name="grid")["written"]["admin_comment"]
    assert composed.submit(name="nothing")["code"] == 0
    assert composed.modify({})["code"] == 2051


def test_a_fault_in_the_sites_script_does_not_lose_the_wish(composed: Slurm) -> None:
    outcome = composed.submit(**wish(name="fault"))
    assert "script" in outcome["written"]
    assert "site's fault" in outcome["logged"][0]
    assert composed.submit(name="fault")["code"] == 0


@pytest.mark.parametrize("text", [None, "return {", ""])
def test_without_a_readable_table_wishes_are_refused_and_plain_jobs_pass(
    site: Site, interpreter: str, tmp_path: Path, text: str | None
) -> None:
    hookfiles.install(SlurmHooks(site, POLICY))
    slurm = Slurm(site, interpreter, tmp_path)
    policy = site.folder / "policy.lua"
    policy.unlink()
    if text is not None:
        policy.write_text(text)
    outcome = slurm.submit(**wish())
    assert (outcome["code"], outcome["written"]) == (ERROR, {})
    assert "tell your administrator" in outcome["said"][0]
    assert outcome["logged"]
    assert slurm.submit()["code"] == 0


def test_without_the_hooks_folder_slurm_still_takes_jobs(
    site: Site, interpreter: str, tmp_path: Path
) -> None:
    hookfiles.install(SlurmHooks(site, POLICY))
    shutil.rmtree(site.folder)
    outcome = Slurm(site, interpreter, tmp_path).submit()
    assert outcome["code"] == 0
    assert "job_submit.lua" in outcome["logged"][0]
