"""What users who come with tokens may do and have, on SQLite and on PostgreSQL."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from sqlalchemy.engine import Connection

from occi_bridge import __main__ as program
from occi_bridge import link_admin
from occi_bridge.driver import persistence
from occi_bridge.driver.persistence import read_all
from occi_bridge.identity.user import Capability, DeniedError, Identity, Kind, User
from occi_bridge.occi import schema
from occi_bridge.occi.messages import Definition, OcciError
from occi_bridge.occi.validate_changes import Changes
from occi_bridge.occi.validate_new import New
from occi_bridge.store import links as store
from occi_bridge.store.links import Links
from occi_bridge.web import routes
from occi_bridge.web.request import Call
from tests.unit.occi_bridge.local_bridge import ANNA, OS_TPL, STOP, LocalBridge, person
from wnodes_lrms.config import load as configuration
from wnodes_lrms.config.load import Grant
from wnodes_lrms.errors import ConflictError, WnodesError

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = pytest.mark.integration

SUBJECT = "https://issuer.example/vo#grace"
NETWORK = New(schema.NETWORK, (), {})


@pytest.fixture
def bridge(url: str, make_bridge: Callable[..., LocalBridge]) -> LocalBridge:
    made = make_bridge(url)
    made.heard()
    return made


def holder(*may: Capability, key: str = SUBJECT) -> User:
    """Somebody with a token that is limited to this."""
    return User(Identity(Kind.TOKEN, SUBJECT, (), frozenset(may)), "x", Grant(match="*"), key)


def whole(key: str = SUBJECT) -> User:
    """Somebody with a token that is not limited."""
    return User(Identity(Kind.TOKEN, SUBJECT), "x", Grant(match="*"), key)


WRITES: dict[str, tuple[Capability, Callable[[LocalBridge, User, str], object]]] = {
    "create": (Capability.CREATE, lambda b, u, _: b.make(u, NETWORK)),
    "update": (Capability.MODIFY, lambda b, u, p: b.service.update(u, p, Changes({}, (), (), ()))),
    "replace": (
        Capability.MODIFY,
        lambda b, u, p: b.service.replace(u, p, New(schema.COMPUTE, (OS_TPL,), {})),
    ),
    "act": (Capability.MODIFY, lambda b, u, p: b.service.act(u, p, STOP, {})),
    "act on all": (Capability.MODIFY, lambda b, u, p: b.service.act_all(u, [p], STOP, {})),
    "add a mixin": (
        Capability.MODIFY,
        lambda b, u, _: b.service.add_mixin(
            u, Definition("a", "http://example.org/x#", "", "/a/", "")
        ),
    ),
    "tag": (
        Capability.MODIFY,
        lambda b, u, p: b.service.tag(u, "http://example.org/x#a", [p], "add"),
    ),
    "remove a mixin": (
        Capability.MODIFY,
        lambda b, u, _: b.service.remove_mixin(u, "http://example.org/x#a"),
    ),
    "delete": (Capability.CANCEL, lambda b, u, p: b.service.delete(u, p)),
    "delete all": (Capability.CANCEL, lambda b, u, p: b.service.delete_all(u, [p])),
}


def test_each_scope_allows_just_that(bridge: LocalBridge) -> None:
    machine = bridge.create(whole())
    for name, (needed, do) in WRITES.items():
        others = set(Capability) - {needed}
        with pytest.raises(DeniedError, match=str(needed)) as caught:
            do(bridge, holder(*others), machine.path)
        assert (caught.value.status, caught.value.error) == (403, "insufficient_scope"), name
        do(bridge, holder(needed), machine.path)


@pytest.mark.parametrize("verb", ["snapshot", "backup"])
def test_a_copy_of_a_volume_takes_the_scope_to_make_one_as_well(
    bridge: LocalBridge, verb: str
) -> None:
    disk = bridge.create(whole(), schema.STORAGE, occi__storage__size=2)
    [row] = read_all(bridge.db)["storages"]
    bridge.db.write(lambda link: persistence.set_columns(link, row, {"made": True, "has": 2}))
    action = f"{schema.INFRA}/storage/action#{verb}"

    def act(user: User) -> object:
        return bridge.service.act(user, disk.path, action, {})

    def act_all(user: User) -> None:
        bridge.service.act_all(user, [disk.path], action, {})

    for do in (act, act_all):
        for missing in (Capability.CREATE, Capability.MODIFY):
            with pytest.raises(DeniedError, match=str(missing)):
                do(holder(*(set(Capability) - {missing})))
        assert len(read_all(bridge.db)["storages"]) == 1
    for do in (act, act_all):
        do(holder(Capability.CREATE, Capability.MODIFY))
    assert len(read_all(bridge.db)["storages"]) == 3


JSON_BODY = (b"content-type", b"application/occi+json")
TITLE = json.dumps({"kind": schema.COMPUTE, "attributes": {"occi.core.title": "t"}})
LINK = json.dumps(
    {
        "kind": schema.COMPUTE,
        "links": [{"kind": schema.NETWORKINTERFACE, "target": {"location": "/network/PLACE"}}],
    }
)


def asked(
    bridge: LocalBridge, user: User, method: str, path: str, body: str, action: str = ""
) -> tuple[int, bytes]:
    """Status and body of the answer; a token that is not for it is 403."""
    call = Call(
        user=user,
        method=method,
        path=path,
        query={"action": action} if action else {},
        headers=[(b"accept", b"application/occi+json"), JSON_BODY],
        content=body.encode(),
        base="https://x",
    )
    try:
        answer = routes.answer(bridge.service, call)
    except (DeniedError, OcciError) as fault:
        return fault.status, str(fault).encode()
    return answer.status, answer.body


def test_links_in_a_change_need_the_scope_to_create(bridge: LocalBridge) -> None:
    machine = bridge.create(whole())
    network = bridge.make(whole(), NETWORK)
    link = LINK.replace("/network/PLACE", network.path)
    for method in ("POST", "PUT"):
        status, said = asked(bridge, holder(Capability.MODIFY), method, machine.path, link)
        assert (status, b"compute.create is needed" in said) == (403, True), said
    assert len(bridge.service.entity(whole(), machine.path).links) == len(machine.links)
    both = holder(Capability.MODIFY, Capability.CREATE)
    assert asked(bridge, both, "POST", machine.path, link) == (200, b"{}")
    assert len(bridge.service.entity(whole(), machine.path).links) == len(machine.links) + 1


def test_what_may_not_be_read_is_not_shown(bridge: LocalBridge) -> None:
    machine = bridge.create(whole())
    modifies = holder(Capability.MODIFY)
    assert asked(bridge, modifies, "POST", machine.path, TITLE) == (200, b"{}")
    reads = holder(Capability.MODIFY, Capability.READ)
    status, said = asked(bridge, reads, "POST", machine.path, TITLE)
    assert (status, b'"occi.core.title":"t"' in said) == (200, True)
    network = json.dumps({"kind": schema.NETWORK})
    creates = holder(Capability.CREATE)
    assert asked(bridge, creates, "POST", "/network/", network) == (201, b"{}")
    assert asked(bridge, creates, "PUT", "/network/mine", network) == (201, b"{}")


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_what_is_there_is_not_told_without_a_scope_for_it(bridge: LocalBridge, method: str) -> None:
    machine = bridge.create(whole())
    for action in ("", "stop"):
        told = {
            asked(bridge, holder(Capability.CANCEL), method, path, TITLE, action)
            for path in (machine.path, "/compute/none")
        }
        assert len(told) == 1
        assert {status for status, _ in told} == {403}


def test_who_moves_keeps_what_they_have(bridge: LocalBridge) -> None:
    machine = bridge.create(person())
    links = Links(bridge.db)
    assert links() == {}
    links.make(SUBJECT, ANNA)
    links.make(SUBJECT, ANNA)  # what is so already is success
    assert links() == {SUBJECT: ANNA}
    moved = whole(key=links()[SUBJECT])
    assert bridge.service.locations(moved, None)[0] == machine.path
    assert bridge.service.used(moved).machines == 1
    other = bridge.create(moved)
    assert bridge.row(other).owner == ANNA  # so baits take its orders whoever starts it
    bridge.service.delete(moved, machine.path)


def test_nothing_is_left_under_a_name_that_is_linked(bridge: LocalBridge) -> None:
    machine = bridge.create(whole())
    links = Links(bridge.db)
    with pytest.raises(ConflictError, match=r"is gone \(VMs: 1\)"):
        links.make(SUBJECT, ANNA)
    bridge.service.delete(whole(), machine.path)
    links.make(SUBJECT, ANNA)
    with pytest.raises(ConflictError, match="is linked to"):
        links.make(SUBJECT, "/C=IT/CN=Other")
    # A worker that has not heard of the link yet makes nothing under the old name.
    with pytest.raises(OcciError, match="just been linked") as caught:
        bridge.create(whole())
    assert caught.value.status == 409


def test_who_is_just_being_linked_makes_nothing_under_the_old_name(bridge: LocalBridge) -> None:
    made: list[object] = []

    def create() -> None:
        try:
            made.append(bridge.create(whole()))
        except OcciError as fault:
            made.append(fault.status)

    asking = Thread(target=create)

    def link(connection: Connection) -> None:
        store.make(bridge.db, connection, SUBJECT, ANNA)
        asking.start()
        asking.join(1)  # if it waits for nobody, it is through by then

    bridge.db.write(link)
    asking.join(30)
    assert made == [409]


def test_an_empty_subject_is_refused_and_starts_no_bridge(
    bridge: LocalBridge, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["wnodes-bridge", "--unlink", ""])
    monkeypatch.setattr(configuration, "path_in_use", lambda _: Path("x"))
    monkeypatch.setattr(configuration, "load", lambda _: bridge.config)
    monkeypatch.setattr(program, "set_up", lambda: None)
    monkeypatch.setattr(os, "umask", lambda _: None)
    monkeypatch.setattr(program, "_run", lambda *_: pytest.fail("the whole bridge was started"))
    assert program.main() == 0
    assert "is not of the form https" in capsys.readouterr().out


def test_the_administrator_s_way(
    bridge: LocalBridge, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings = bridge.config.bridge
    assert settings

    def done(make: tuple[str, str] | None = None, remove: str | None = None) -> str:
        link_admin.report(settings, make, remove)
        return capsys.readouterr().out

    assert done() == '{"links": [], "refused": null}\n'
    assert f'"subject": "{SUBJECT}", "dn": "{ANNA}"' in done((SUBJECT, "CN=Anna,O=Test,C=IT"))
    assert "is not of the form https" in done(("grace", ANNA))
    assert "is not of the form /C=" in done((SUBJECT, "/vo/group"))
    assert "is not linked" in done(remove="https://x.example#y")
    assert "is not of the form https" in done(remove="")
    assert done(remove=SUBJECT) == '{"links": [], "refused": null}\n'
    gone = settings.model_copy(update={"database": f"sqlite:///{tmp_path}/none.sqlite"})
    with pytest.raises(WnodesError, match="not there yet"):
        link_admin.report(gone, None, None)
