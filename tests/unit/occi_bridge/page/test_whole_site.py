"""The page of the whole site: who sees it, and what the nodes have said."""

import asyncio
import time

import pytest
import sqlalchemy as sa

from occi_bridge.occi.messages import OcciError
from occi_bridge.store import heard, leader, tables
from occi_bridge.store.heard import Heard
from tests.unit import ca, issuers
from tests.unit.occi_bridge.fake_baits import FakeBait
from tests.unit.occi_bridge.local_bridge import until
from tests.unit.occi_bridge.page import browser
from tests.unit.occi_bridge.page.browser import Read, Site
from wnodes_lrms.model import Room

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = [pytest.mark.integration, pytest.mark.anyio]

grid, issuer, site = ca.grid, issuers.issuer, browser.site_of_two_nodes
MARKUP = "<script>alert(1)</script>"


def lead(site: Site) -> None:
    """As if a driver led."""
    leader.lead(site.bridge.db, "nobody", 3600.0)


async def test_whom_it_is_for(site: Site) -> None:
    for name, status in (("ada", 200), ("grace", 403)):
        window = site.browser(name)
        assert ("/site" in (await window.read("/")).links) == (status == 200)
        answer = await window.get("/site")
        assert (answer.status_code, "VMs by user" in answer.text) == (status, status == 200)
    assert (await browser.Browser(site.app).get("/site")).status_code == 401
    with pytest.raises(OcciError) as refused:
        site.bridge.service.overview(await site.user("grace"))
    assert refused.value.status == 403


async def test_nothing_can_be_asked_there(site: Site) -> None:
    ada = site.browser("ada")
    page = await ada.read("/site")
    assert [form["action"] for form in page.forms] == ["/logout"]
    token = page.form("/logout")["token"]
    assert (await ada.post("/site", {"token": token})).status_code == 404


async def test_whose_vms_are_where(site: Site) -> None:
    lead(site)
    now, room = time.time(), {"cores": 6, "memory": 12800}
    here = Heard("hv1", now, room=room, sources={"lrms": now - 5, "libvirt": 1e9})
    heard.told(site.bridge.db, "https://hv1:8445", here, silent=False)
    gone = Heard("hv2", 1e9, room=room, sources={"lrms": 0.0})
    heard.told(site.bridge.db, "https://hv2:8445", gone, silent=True)
    one, two = await site.vm("grace"), await site.vm("grace")
    await site.vm("oscar", occi__core__title=MARKUP)

    def put(link: sa.Connection) -> None:
        table = tables.compute
        for vm, state in ((one, "running"), (two, "stopped")):
            values = {"node": "hv1", "state": state, "cores": 2, "memory": 3072}
            where = table.c.uid == site.bridge.row(vm).uid
            link.execute(sa.update(table).where(where).values(**values))

    site.bridge.db.write(put)
    page = await site.browser("ada").read("/site")
    grace, oscar = (f"{site.issuer.url}#{name}" for name in ("grace", "oscar"))
    assert f"{grace} 2, 1 up 2, 3.0 GiB hv1" in page.text
    assert f"{oscar} 1, 0 up 0, 0.0 GiB no node yet" in page.text
    assert "hv1 answers ; last" in page.text
    assert "https://hv1:8445 batch system answers; last 2" in page.text
    assert "libvirt does not answer ; last 2001-09-09 01:46 UTC" in page.text
    assert "yes 6, 12.5 GiB 2, 1 up 1 2, 3.0 GiB" in page.text
    assert "hv2 silent ; last 2001-09-09 01:46 UTC https://hv2:8445 batch system; last" in page.text
    assert "last never yes not known 0, 0 up 0" in page.text
    assert "Nobody asks" not in page.text


async def test_that_nobody_leads_is_said(site: Site) -> None:
    lead(site)
    leader.step_down(site.bridge.db, "nobody")
    assert "Nobody asks the nodes at present" in (await site.browser("ada").read("/site")).text


async def test_a_drain_is_seen_from_its_begin_to_its_end(site: Site, baits: list[FakeBait]) -> None:
    ada = site.browser("ada")

    async def says() -> str:
        return Read((await ada.get("/site")).text).text

    async def seen(words: str) -> None:
        deadline = time.monotonic() + 60
        while words not in await says():
            assert time.monotonic() < deadline, await says()
            await asyncio.sleep(0.05)

    baits[0].drain = {"since": 5.0, "by": 4e9, "reason": MARKUP}
    async with site.bridge.driving():
        await seen(f"drained : {MARKUP}; what runs is ended 2096-10-02")
        assert "<script>alert" not in (await ada.get("/site")).text
        baits[0].drain = {"since": 5.0, "by": None, "reason": ""}
        await seen("drained : it does not say why")
        baits[0].drain = None
        await until(lambda: _drained(site, baits[0]) == "")


async def test_what_is_free_of_a_node_is_as_its_bait_tells(
    site: Site, baits: list[FakeBait]
) -> None:
    now = time.time()
    baits[0].status = {
        "room": {"cores": 6, "memory": None, "at": now},
        "sources": {"lrms": now, "libvirt": now + 1e6, "later": now},
    }
    ada, user = site.browser("ada"), await site.user("ada")
    async with site.bridge.driving():
        await until(lambda: site.bridge.service.rooms(user) == [Room(6, None)])
    text = (await ada.read("/site")).text
    assert "yes 6, not counted 0, 0 up" in text
    assert text.count("libvirt answers; last 2") == text.count("later answers; last 2") == 1
    assert "there is room for it now on 1 node " in (await ada.read("/new")).text


def _drained(site: Site, bait: FakeBait) -> str:
    with site.bridge.db.reading() as link:
        found = sa.select(tables.bait.c.drained).where(tables.bait.c.url == bait.url)
        return str(link.execute(found).scalar_one())
