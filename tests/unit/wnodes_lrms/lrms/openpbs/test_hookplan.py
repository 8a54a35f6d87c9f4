"""What OpenPBS gets of the hooks, and what the doctor says, on what PBS 23.06 really printed."""

import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from wnodes_lrms.doctor import Check, Status
from wnodes_lrms.errors import UnknownError
from wnodes_lrms.lrms.hookset import Site, is_ours
from wnodes_lrms.lrms.openpbs import checks, hookplan, installation
from wnodes_lrms.lrms.openpbs.allocation import parse_node
from wnodes_lrms.lrms.openpbs.hookplan import COPIED, Present
from wnodes_lrms.policy import Policy
from wnodes_lrms.resources import sources

DATA = Path(__file__).parents[3] / "data" / "openpbs-23.06"
SITE = Site(Path("/libexec"), "/run/wnodes/%n/bait.sock", 2)
POLICY = Policy(["beta", "alpha"], lease_users=("cloud*",))
FILES = sources(COPIED)


def recorded(name: str) -> str:
    return (DATA / name).read_text()


def complete() -> Present:
    """A server that has all, by its own words."""
    bare = hookplan.plan(SITE, POLICY, Present(), FILES)
    content = {file.path.name: file.content for file in bare.files}
    return Present(
        resources=hookplan.parse_print(recorded("server.qmgr")),
        hook=hookplan.parse_hooks(recorded("hooks.qmgr")),
        code=content["openpbs.py"] + b"\n",  # as qmgr's export ends
        config=content["openpbs.json"] + b"\n",
        nodes=True,
    )


def lines(now: Present | None) -> tuple[str, ...]:
    return hookplan.plan(SITE, POLICY, now, FILES).lines


def test_what_a_bare_server_lacks() -> None:
    assert lines(Present()) == (
        "create resource vm type=string",
        "create resource wnodes type=boolean,flag=h",
        "create resource wnodes_by type=string,flag=rm",
        "create hook wnodes",
        'set hook wnodes event = "queuejob,modifyjob,movejob,execjob_launch,execjob_epilogue"',
        "import hook wnodes application/x-config default /libexec/openpbs.json",
        "import hook wnodes application/x-python default /libexec/openpbs.py",
        "set node NAME resources_available.wnodes = True    (each that runs a bait)",
    )


def test_a_complete_server_lacks_nothing() -> None:
    assert lines(complete()) == ()


def test_where_hooks_are_not_shown_nothing_is_lacking() -> None:
    assert lines(None) == ()


def test_each_difference_is_named() -> None:
    now = complete()
    assert lines(replace(now, code=b"# another version")) == (
        "import hook wnodes application/x-python default /libexec/openpbs.py",
    )
    assert lines(replace(now, config=b"{}")) == (
        "import hook wnodes application/x-config default /libexec/openpbs.json",
    )
    hook = dict(now.hook or {})
    assert lines(replace(now, hook=hook | {"enabled": "false"})) == (
        "set hook wnodes enabled = True",
    )
    assert "event" in lines(replace(now, hook=hook | {"event": "queuejob"}))[0]
    open_mark = {**now.resources, "wnodes_by": {"type": "string", "flag": "m"}}
    assert lines(replace(now, resources=open_mark)) == ("set resource wnodes_by flag = rm",)


def test_the_files_are_ours_and_tell_the_hook_what_it_needs() -> None:
    files = {file.path: file for file in hookplan.plan(SITE, POLICY, None, FILES).files}
    assert all(is_ours(file.content) for file in files.values())
    config = json.loads(files[Path("/libexec/openpbs.json")].content)
    for name in ("starter", "lease", "policy"):
        assert Path(config[name]) in files
    assert (config["socket"], config["retries"]) == ("/run/wnodes/%n/bait.sock", 2)
    policy = json.loads(files[Path("/libexec/policy.json")].content)
    assert (policy["tags"], policy["lease_users"]) == (["alpha", "beta"], ["cloud*"])


def test_the_hook_goes_before_its_files() -> None:
    assert hookplan.take_back(complete()) == ["delete hook wnodes"]
    assert hookplan.take_back(replace(complete(), hook=None)) == []


def test_long_values_of_qmgr_are_joined() -> None:
    text = (
        "Hook wnodes\n    event = queuejob,\n\tmovejob\n    enabled = true\n\nHook x\n    a = b\n"
    )
    assert hookplan.parse_hooks(text) == {"event": "queuejob,movejob", "enabled": "true"}
    assert hookplan.parse_hooks("Hook x\n    a = b\n") is None


def test_hooks_are_read_on_the_servers_host_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "run", lambda *_a, **_k: recorded("server.qstat"))
    assert installation.server()["server_host"] == "pbsbox"
    monkeypatch.setattr(socket, "gethostname", lambda: "hv7.site.org")
    assert installation.present() is None


def test_a_server_that_has_no_nodes_yet_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, script in (
        ("qstat", "cat <<'END'\n" + recorded("server.qstat") + "\nEND"),
        ("qmgr", ""),
        ("pbsnodes", "echo 'pbsnodes: Server has no node list' >&2; exit 1"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(socket, "gethostname", lambda: "pbsbox")
    assert installation.present() == Present()
    (tmp_path / "pbsnodes").write_text("#!/bin/sh\necho 'pbsnodes: cannot connect' >&2; exit 1\n")
    with pytest.raises(UnknownError, match="cannot connect"):
        installation.present()


def status(check: Check) -> Status:
    assert check.status is Status.OK or check.remedy
    return check.status


def test_the_doctor_on_the_servers_resources_and_hook() -> None:
    now, code = complete(), FILES["openpbs.py"]
    assert [status(check) for check in checks.resources(now)] == [Status.OK] * 3
    assert status(checks.hook(now, code)) is Status.OK
    assert status(checks.hook(now, b"# newer")) is Status.FAULT
    assert status(checks.hook(replace(now, hook=None), code)) is Status.FAULT
    off = dict(now.hook or {}) | {"enabled": "false"}
    assert status(checks.hook(replace(now, hook=off), code)) is Status.FAULT
    assert [status(check) for check in checks.resources(Present())] == [Status.FAULT] * 3


def test_the_doctor_on_history() -> None:
    assert status(checks.history({"job_history_enable": "True"})) is Status.OK
    assert status(checks.history({})) is Status.FAULT


@pytest.mark.parametrize(
    ("name", "seen", "remedy"),
    [
        ("free", Status.OK, ""),
        ("jobs", Status.OK, ""),
        ("ours-offline", Status.WARNING, "wnodes host resume"),
        ("offline", Status.WARNING, "pbsnodes -r pbsbox"),
    ],
)
def test_the_doctor_on_a_node(name: str, seen: Status, remedy: str) -> None:
    said = parse_node("pbsbox", recorded(f"{name}.node"))
    marked, state = checks.node("pbsbox", said)
    assert status(marked) is Status.OK
    assert status(state) is seen
    assert remedy in state.remedy
    del said["resources_available.wnodes"]
    assert status(next(iter(checks.node("pbsbox", said)))) is Status.FAULT


@pytest.mark.parametrize(
    ("host", "managers", "seen"),
    [
        ("hv1", "", Status.OK),  # the server's own root
        ("srv.site.org", "admin@srv,root@hv1.site.org", Status.OK),
        ("srv.site.org", "root@*", Status.OK),
        ("srv.site.org", "root@hv10.site.org", Status.FAULT),
        ("srv.site.org", "", Status.FAULT),
    ],
)
def test_the_doctor_on_the_rights_of_a_node(host: str, managers: str, seen: Status) -> None:
    check = checks.rights("hv1", {"server_host": host, "managers": managers})
    assert status(check) is seen


def test_the_doctor_on_a_classic_epilogue(tmp_path: Path) -> None:
    path = tmp_path / "epilogue"
    assert status(checks.classic(path)) is Status.OK
    path.touch()
    assert status(checks.classic(path)) is Status.WARNING
