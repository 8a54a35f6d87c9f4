"""The pages of a user's VMs, as a browser without scripts has them."""

import asyncio
import re
import threading
import time

import pytest
import sqlalchemy as sa

from occi_bridge.occi import schema
from occi_bridge.page.exchange import Ask, Visitor
from occi_bridge.page.vms import Vms
from occi_bridge.service.service import BridgeService
from occi_bridge.store import heard, tables
from occi_bridge.store.heard import Heard
from tests.unit import ca, issuers
from tests.unit.occi_bridge.page import browser
from tests.unit.occi_bridge.page.browser import KEY, Read, Site

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = [pytest.mark.integration, pytest.mark.anyio]

grid, issuer, site = ca.grid, issuers.issuer, browser.site


async def test_from_the_first_form_to_the_end(site: Site) -> None:
    grace = site.browser("grace")
    assert "You have no VM" in (await grace.read("/")).text
    made = await grace.send("/new", "/new", do="make", title="web", key=KEY)
    assert made.status_code == 303, Read(made.text).text
    place = made.headers["location"]
    [vm] = site.bridge.service.entities(await site.user("grace"), schema.COMPUTE)
    assert place == f"/vm/{vm.id}"
    assert vm.attributes["occi.core.title"] == "web"
    assert vm.attributes[schema.PUBLIC_KEY] == KEY
    page = await grace.read(place)
    assert "waiting for a lease" in page.text
    assert (await grace.send(place, f"{place}/stop")).status_code == 303
    assert "stopped" in (await grace.read(place)).text
    assert (await grace.send(place, f"{place}/start")).status_code == 303
    assert "waiting" in (await grace.read(place)).text
    gone = await grace.send(place, f"{place}/delete")
    assert (gone.status_code, gone.headers["location"]) == (303, "/")
    assert "nothing at" in (await grace.read(place, 404)).text


async def test_a_form_that_is_sent_twice_makes_one_vm(site: Site) -> None:
    grace = site.browser("grace")
    form = (await grace.read("/new")).form("/new") | {"do": "make", "key": KEY}
    places = {(await grace.post("/new", form)).headers["location"] for _ in range(2)}
    assert len(places) == 1
    assert len(site.bridge.service.locations(await site.user("grace"), schema.COMPUTE)) == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"key": "ssh-dss AAAA"}, "occi.credentials.ssh.publickey"),
        ({"key": ""}, "without a key nobody could log in"),
        ({"title": "a\x01b"}, "occi.core.title: control characters"),
        ({"title": "x" * 2000}, "longer than 1024"),
        ({"image": "http://example.org/other#image"}, "is not known here"),
        ({"size": f"{schema.INFRA}/compute/action#start"}, "needs ?action=start"),
        ({"network": "/network/of-others"}, "there is nothing at"),
        ({"network": "//example.org/network/x"}, "there is nothing at"),
        ({"volume": "/storage/of-others"}, "there is nothing at"),
        ({"id": "../../etc"}, "occi.core.id"),
        ({"data": "#!/bin/sh\r\necho " + "x" * 60000}, "longer than 49152"),
        ({"data": "\n\n#!/bin/sh"}, "occi.compute.userdata"),
    ],
)
async def test_what_is_wrong_is_said_and_nothing_is_made(
    site: Site, fields: dict[str, str], said: str
) -> None:
    grace = site.browser("grace")
    form = (await grace.read("/new")).form("/new") | {"do": "make", "key": KEY} | fields
    answer = await grace.post("/new", form)
    assert 400 <= answer.status_code < 500
    assert said in Read(answer.text).text
    assert not site.bridge.service.locations(await site.user("grace"), schema.COMPUTE)


async def test_what_is_over_the_quota_is_said_beside_the_size(site: Site) -> None:
    grace = site.browser("grace")
    for _ in range(10):
        await site.vm()
    page = await grace.read("/new")
    assert "quota of machines: 10 used, 1 asked, 10 allowed" in page.text
    answer = await grace.post("/new", page.form("/new") | {"do": "make", "key": KEY})
    assert answer.status_code == 403
    assert 'id="fault" role="alert">quota of machines' in answer.text


@pytest.mark.parametrize(
    ("rooms", "said"),
    [
        ([{"cores": 1, "memory": 512}], "; there is room for it now on 1 node "),
        (
            [{"cores": 1, "memory": None}, {"cores": 8, "memory": 9000}],
            "room for it now on 2 nodes",
        ),
        ([{"cores": 8, "memory": 511}], "; no node has room for it now: it would wait"),
        ([{"cores": 0, "memory": 9000}], "; no node has room for it now: it would wait"),
        ([{}], ""),
    ],
)
async def test_which_sizes_there_is_room_for_now(
    site: Site, rooms: list[dict[str, int | None]], said: str
) -> None:
    for number, room in enumerate(rooms):
        here = Heard(f"hv{number}", time.time(), room=room)
        heard.told(site.bridge.db, f"https://hv{number}:8445", here, silent=False)
    full, now = {"cores": 64, "memory": 512000}, time.time()
    for node, seen, silent, drained in (
        ("a", now, True, ""),
        ("b", now, False, "new disks"),
        ("c", now - 600, False, ""),  # no driver has led since
    ):
        away = Heard(node, seen, drained=drained, room=full)
        heard.told(site.bridge.db, f"https://{node}:8445", away, silent=silent)
    text = (await site.browser("grace").read("/new")).text
    assert said in text
    assert ("room for it now" in text) == bool(said)
    assert ("as the batch system had it" in text) == bool(said)


async def test_the_same_as_text(site: Site) -> None:
    grace = site.browser("grace")
    answer = await grace.send(
        "/new", "/new", do="show", title="my $(web)'s", key=KEY, data="#!/bin/sh\nid\n"
    )
    text = Read(answer.text).text
    assert "wnodes cloud --url https://bridge.example.org:11443 create --size small" in text
    assert """ --key KEY.pub --user-data FILE --wait 'my $(web)'"'"'s'""" in text
    assert 'Category: compute; scheme="http://schemas.ogf.org/occi/infrastructure#"' in text
    assert f'X-OCCI-Attribute: occi.credentials.ssh.publickey="{KEY}"' in text
    assert "occi.core.id" not in text
    assert not site.bridge.service.locations(await site.user("grace"), schema.COMPUTE)


async def test_a_key_is_remembered_until_it_is_forgotten(site: Site) -> None:
    grace = site.browser("grace")
    await grace.send("/new", "/new", do="make", key=KEY)
    assert "ada@laptop" in (await grace.read("/keys")).text
    form = (await grace.read("/new")).form("/new")
    assert form["known"] == "ada@laptop"
    made = await grace.post("/new", form | {"do": "make"})
    assert made.status_code == 303
    assert "ada@laptop" not in (await site.browser("oscar").read("/keys")).text
    await grace.send("/keys", "/keys/forget")
    assert "ada@laptop" not in (await grace.read("/keys")).text


async def test_networks_and_volumes_come_and_go(site: Site) -> None:
    grace = site.browser("grace")
    user = await site.user("grace")
    vm = await site.vm()
    volume = site.bridge.create(user, schema.STORAGE, occi__storage__size=1, occi__core__id="data")
    page = f"/vm/{vm.id}"
    for target in (volume.path, "/network/private"):
        answer = await grace.send(page, f"{page}/attach", target=target)
        assert answer.status_code == 303, Read(answer.text).text
    shown = await grace.read(page)
    assert "Detach data" in shown.text
    assert "Detach private" in shown.text
    form = shown.form(f"{page}/stop") | {"target": volume.path}
    again = await grace.post(f"{page}/attach", form)
    assert "linked to a VM already" in Read(again.text).text
    links = [link.id for link in site.bridge.service.entity(user, vm.path).links]
    assert len(links) == 3
    for link in links:
        await grace.send(page, f"{page}/detach", link=link)
    assert not site.bridge.service.entity(user, vm.path).links
    gone = await grace.post(f"{page}/detach", shown.form(f"{page}/detach"))
    assert (gone.status_code, "not attached any more" in gone.text) == (404, True)


async def test_what_has_not_changed_is_not_sent_again(site: Site) -> None:
    grace = site.browser("grace")
    await site.vm(occi__core__title="web")
    first = await grace.get("/vms")
    tag = first.headers["etag"]
    same = await grace.get("/vms", **{"If-None-Match": tag})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    await site.vm("oscar")  # another's: the revision is another one
    same = await grace.get("/vms", **{"If-None-Match": tag})
    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["etag"] != tag
    await site.vm(occi__core__title="mail")
    changed = await grace.get("/vms", **{"If-None-Match": same.headers["etag"]})
    assert changed.status_code == 200
    assert "mail" in changed.text
    others = await site.browser("oscar").get("/vms", **{"If-None-Match": changed.headers["etag"]})
    assert (others.status_code, "mail" in others.text) == (200, False)


async def test_a_database_that_is_silent_keeps_nobody_else_waiting(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answers = threading.Event(), threading.Event()

    def revision(_: BridgeService) -> int:
        asked.set()
        assert answers.wait(60)
        return 7

    monkeypatch.setattr(BridgeService, "remote", True)
    monkeypatch.setattr(BridgeService, "revision", revision)
    visitor = Visitor("secret", await site.user("grace"))
    ask = Ask("GET", "/vms", (), "192.0.2.7", {}, "", visitor=visitor)
    poll = asyncio.ensure_future(Vms(site.bridge.service).rows(ask))
    assert await asyncio.to_thread(asked.wait, 60)
    answers.set()
    assert (await poll).status == 200


async def test_why_it_waits_and_when_it_ends(site: Site) -> None:
    grace = site.browser("grace")
    vm = await site.vm(occi__core__title="web")

    async def shown(**values: object) -> str:
        change = sa.update(tables.compute).values(**values)
        site.bridge.db.write(lambda link: link.execute(change))
        pages = [await grace.read(path) for path in ("/", f"/vm/{vm.id}")]
        return "\n".join(page.text for page in pages)

    waits = await shown(lease="x", lease_state="pending", lease_at=1e9, reason="Priority")
    assert waits.count("waiting for the batch system: Priority") == 3
    assert "Its lease was ordered, 2001-09-09 01:46 UTC In the batch system's queue :" in waits
    assert "expected to begin" not in waits
    planned = await shown(expected=1.05e9)
    assert (
        "Priority; expected to begin 2003-04-10 18:40 UTC , as the batch system sees it now"
        " Being built on its node (to come)" in planned
    )
    runs = {"lease_state": "running", "began": 1.1e9, "walltime": 3600, "state": "running"}
    begun = await shown(**runs, node="hv7", since=1.1e9)
    assert begun.count("2004-11-09 12:33 UTC") == 2
    assert "The batch system has placed it on hv7, 2004-11-09 11:33 UTC" in begun
    assert "Built, and running on hv7, 2004-11-09 11:33 UTC" in begun
    assert "expected to begin" not in begun
    assert "Save as image" in begun
    assert "9999-12-31 23:59 UTC" in await shown(walltime=2**31 - 1, began=1e12)
    built = await shown(state="building", began=1.1e9)
    assert "Being built on its node" in built
    assert "to come" not in built
    stopped = await shown(lease="", state="stopped", desired="inactive")
    assert "Its lease ends" not in stopped
    assert "Stopped on hv7, 2004-11-09 11:33 UTC" in stopped
    ordered = await shown(state="", node="", desired="active", lease_state="", reason="")
    assert "Ordering its lease : waiting for a lease In the batch system's queue (to come)" in (
        ordered
    )


async def test_a_hundred_vms(site: Site) -> None:
    settings = site.authenticator._authorization._bridge
    object.__setattr__(settings.grant[1], "machines", 100)
    object.__setattr__(settings.grant[1], "cores", 100)
    object.__setattr__(settings.grant[1], "memory", 512000)
    for _ in range(100):
        await site.vm()
    page = await site.browser("grace").read("/")
    assert len(set(re.findall("/vm/[^/]+", " ".join(page.links)))) == 100
