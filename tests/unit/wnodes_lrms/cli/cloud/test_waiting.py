"""What one look at a VM says of whether it comes to what is waited for."""

from typing import Any

import pytest

from wnodes_lrms.cli.cloud import entities, standing, waiting
from wnodes_lrms.cli.cloud.client import Service
from wnodes_lrms.cli.cloud.faults import AwayError, ServiceError
from wnodes_lrms.cli.cloud.waiting import Look, link_is_active, until, vm_is

STOP, START = "…/compute/action#stop", "…/compute/action#start"


def vm(state: str, message: str = "", *actions: str, address: str = "") -> dict[str, Any]:
    attributes = {"occi.compute.state": state}
    attributes |= {"occi.compute.state.message": message} if message else {}
    link = {"attributes": {"occi.networkinterface.address": address}}
    return {"attributes": attributes, "actions": list(actions), "links": [link]}


@pytest.mark.parametrize(
    ("found", "look"),
    [
        (vm("active"), Look("active", done=True)),
        (vm("inactive", "waiting: Priority", START, STOP), Look("inactive: waiting: Priority")),
        (vm("suspended", "", START, STOP), Look("suspended")),
        (vm("inactive", "", START), Look("inactive", fault="it is stopped")),
        (
            vm("inactive", "out of time", START),
            Look("inactive: out of time", fault="it is stopped (out of time)"),
        ),
        (vm("error", "no disk"), Look("error: no disk", fault="no disk")),
        (vm("error"), Look("error", fault="it failed")),
    ],
)
def test_a_vm_that_shall_run(found: dict[str, Any], look: Look) -> None:
    assert vm_is("active")(found) == look


def test_a_vm_that_shall_be_reachable() -> None:
    look = vm_is("active", reachable=True)
    assert look(vm("active")) == Look("active, without address yet")
    assert look(vm("active", address="10.0.0.9/24")).done


def test_a_vm_that_shall_stop() -> None:
    look = vm_is("inactive")
    assert look(vm("active", "shutting down", STOP)) == Look("active: shutting down")
    assert look(vm("inactive", "", START)).done


def test_a_link() -> None:
    look = link_is_active("storagelink")

    def link(state: str, message: str = "") -> dict[str, Any]:
        told = {"occi.storagelink.state.message": message} if message else {}
        return {"attributes": {"occi.storagelink.state": state, **told}}

    assert look(link("inactive")) == Look("inactive")
    assert look(link("active")).done
    assert look(link("error", "no room")) == Look("error: no room", fault="no room")


class Told(Service):
    """Says one thing after the other."""

    def __init__(self, *answers: object) -> None:
        self._answers = list(answers)

    def get(self, path: str) -> Any:  # noqa: ARG002 (as a Service has it)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_progress_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "_PAUSE", 0.0)
    away = AwayError("it does not answer: \x1b[31m")
    busy = ServiceError(503, "no node answers")
    pending = vm("inactive", "Priority", STOP)
    service = Told(pending, pending, away, busy, pending, vm("active"))
    assert until(service, "/compute/1", "VM 1", vm_is("active"), "go on")["links"]
    said = [line.split("s  ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert said == [
        "inactive: Priority",
        "it does not answer: ?[31m",
        "not now: no node answers",
        "inactive: Priority",
        "active",
    ]


def test_when_it_is_expected_is_told_to_ten_minutes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "_PAUSE", 0.0)
    monkeypatch.setattr(standing, "when", lambda told, _now: told)

    def pending(expected: str) -> dict[str, Any]:
        found = vm("inactive", "Priority", STOP)
        found["attributes"][entities.LEASE_EXPECTED] = f"2026-11-28T{expected}Z"
        return found

    looks = [pending(at) for at in ("14:21:07", "14:28:59", "14:21:30", "14:31:00")]
    until(Told(*looks, vm("active")), "/compute/1", "VM 1", vm_is("active"), "go on")
    said = [line.split("s  ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert said == [
        "inactive: Priority; expected to begin about 2026-11-28T14:20:00Z",
        "inactive: Priority; expected to begin about 2026-11-28T14:30:00Z",
        "active",
    ]


def test_what_is_so_already_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    until(Told(vm("active")), "/compute/1", "VM 1", vm_is("active"), "go on")
    assert capsys.readouterr().err == ""


def test_what_shall_go(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(waiting, "_PAUSE", 0.0)
    told = {"occi.storagelink.state": "active", "occi.storagelink.state.message": "detaching"}
    look = waiting.link_goes("storagelink")
    gone = ServiceError(404, "there is nothing at /storagelink/1")
    waiting.until_gone(Told({"attributes": told}, gone), "/storagelink/1", "it", look, "go on")
    assert capsys.readouterr().err.endswith(" s  detaching\n")
    with pytest.raises(ServiceError, match="refused"):
        waiting.until_gone(Told(ServiceError(403, "no")), "/storagelink/1", "it", look, "go on")


def test_a_service_that_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_PAUSE", 0.0)
    monkeypatch.setattr(waiting, "_BORNE", 0.0)
    with pytest.raises(AwayError, match="gone; go on") as caught:
        until(Told(AwayError("gone")), "/compute/1", "VM 1", vm_is("active"), "go on")
    assert caught.value.exit_status == 6
    with pytest.raises(ServiceError, match=r"who you are: it has expired; go on$") as refused:
        until(
            Told(ServiceError(401, "it has expired")),
            "/compute/1",
            "VM 1",
            vm_is("active"),
            "go on",
        )
    assert refused.value.exit_status == 3
    gone = ServiceError(404, "there is nothing at /compute/1")
    with pytest.raises(ServiceError, match="not found: there is nothing"):
        until(Told(gone), "/compute/1", "VM 1", vm_is("active"), "go on")
