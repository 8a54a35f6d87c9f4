"""The pages of volumes and networks."""

import pytest
import sqlalchemy as sa

from occi_bridge.occi import schema
from occi_bridge.store import tables
from tests.unit import ca, issuers
from tests.unit.occi_bridge.page import browser
from tests.unit.occi_bridge.page.browser import Read, Site

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = [pytest.mark.integration, pytest.mark.anyio]

grid, issuer, site = ca.grid, issuers.issuer, browser.site
MARKUP = "<script>alert(1)</script>"


async def test_a_volume_comes_and_goes(site: Site) -> None:
    grace = site.browser("grace")
    assert "You have none" in (await grace.read("/volumes")).text
    form = (await grace.read("/volumes")).form("/volumes") | {"title": "data", "size": "1.5"}
    for _ in range(2):  # a second click makes no second one
        assert (await grace.post("/volumes", form)).status_code == 303
    page = await grace.read("/volumes")
    assert "data 2 GiB offline: being made" in page.text
    [volume] = site.bridge.service.entities(await site.user("grace"), schema.STORAGE)
    vm = await site.vm(occi__core__title="web")
    attached = (await grace.read(f"/vm/{vm.id}")).form(f"/vm/{vm.id}/attach")
    await grace.post(f"/vm/{vm.id}/attach", attached | {"target": volume.path})
    page = await grace.read("/volumes")
    assert f"/vm/{vm.id}" in page.links
    assert not [each for each in page.forms if each["action"] == "/volumes/delete"]
    form = page.form("/volumes") | {"id": volume.id}
    answer = await grace.post("/volumes/delete", form)
    assert (answer.status_code, "unlink it first" in answer.text) == (409, True)
    await grace.send(f"/vm/{vm.id}", f"/vm/{vm.id}/delete")
    assert (await grace.send("/volumes", "/volumes/delete")).status_code == 303
    assert "You have none" in (await grace.read("/volumes")).text
    answer = await grace.post("/volumes/delete", form)
    assert (answer.status_code, "not there any more" in answer.text) == (404, True)


async def test_a_volume_grows_and_is_copied(site: Site) -> None:
    grace, user = site.browser("grace"), await site.user("grace")
    volume = site.bridge.create(user, schema.STORAGE, occi__storage__size=1, occi__core__id="data")
    waits = await grace.read("/volumes")
    assert "Grow" not in waits.text  # not before it is made
    site.bridge.db.write(lambda link: link.execute(sa.update(tables.storage).values(made=True)))
    page = await grace.read("/volumes")
    assert page.form("/volumes/resize")["id"] == page.form("/volumes/snapshot")["id"] == "data"
    for size, status, said in (
        ("3", 303, ""),
        ("2", 400, "a volume never shrinks"),
        ("x", 400, "size"),
        ("900", 403, "quota"),
        ("", 400, "size"),
    ):
        answer = await grace.post("/volumes/resize", page.form("/volumes/resize") | {"size": size})
        read = Read(answer.text)
        assert (answer.status_code, said in read.text) == (status, True), read.text
        assert (read.invalid, "fault" in read.ids) == ([], status != 303)  # of another form
    assert site.bridge.service.entity(user, volume.path).attributes["occi.storage.size"] == 3
    grown = sa.update(tables.storage).values(has=3)
    site.bridge.db.write(lambda link: link.execute(grown))
    copied = await grace.post("/volumes/snapshot", page.form("/volumes/snapshot") | {"name": "b"})
    assert copied.status_code == 303
    assert "b 3 GiB offline: being made as a copy of" in (await grace.read("/volumes")).text
    theirs = site.browser("oscar")
    form = (await theirs.read("/volumes")).form("/volumes") | {"id": "data", "size": "9"}
    assert (await theirs.post("/volumes/resize", form)).status_code == 404
    assert (await grace.post("/volumes/online", page.form("/volumes/resize"))).status_code == 404


async def test_a_network_comes_and_goes(site: Site) -> None:
    grace = site.browser("grace")
    before = await grace.read("/networks")
    assert "public the site's" in before.text
    assert not [each for each in before.forms if each["action"] == "/networks/delete"]
    ranges = "10.9.0.7/24, fd12::/64"
    made = await grace.send("/networks", "/networks", title="mine", address=ranges)
    assert made.status_code == 303
    assert "mine yours 10.9.0.0/24, fd12::/64" in (await grace.read("/networks")).text
    assert "mine" not in (await site.browser("oscar").read("/networks")).text
    assert (await grace.send("/networks", "/networks/delete")).status_code == 303
    assert "mine" not in (await grace.read("/networks")).text
    form = before.form("/networks") | {"id": "public"}
    answer = await grace.post("/networks/delete", form)
    assert (answer.status_code, "is the site's" in Read(answer.text).text) == (403, True)


@pytest.mark.parametrize(
    ("page", "fields", "said", "beside"),
    [
        ("/volumes", {"size": ""}, "occi.storage.size", ["size"]),
        ("/volumes", {"size": "nan"}, "occi.storage.size", ["size"]),
        ("/volumes", {"size": "1e9"}, "occi.storage.size", ["size"]),
        ("/volumes", {"size": "0"}, "is less than", ["size"]),
        ("/volumes", {"size": "101"}, "quota of storage", ["size"]),
        ("/volumes", {"size": "1", "title": "x" * 2000}, "longer than 1024", ["title"]),
        ("/volumes", {"size": "1", "id": "../x"}, "occi.core.id", []),
        ("/volumes", {"size": MARKUP, "title": MARKUP}, "occi.storage.size", ["size"]),
        ("/networks", {"address": "10.9.0.0"}, "a range from /8 to /30", ["address"]),
        ("/networks", {"address": MARKUP}, "occi.network.address", ["address"]),
        ("/networks", {"address": "fd12::/48"}, "fd12::/48: a /64 is needed", ["address"]),
        ("/networks", {"address": "fd12::/64 fd13::/64"}, "wnodes.network.address6", ["address"]),
    ],
)
async def test_what_is_wrong_is_said_beside_its_field_and_what_was_typed_stays(
    site: Site, page: str, fields: dict[str, str], said: str, beside: list[str]
) -> None:
    grace = site.browser("grace")
    answer = await grace.send(page, page, **fields)
    assert 400 <= answer.status_code < 500
    read = Read(answer.text)
    assert said in read.text
    assert read.invalid == beside
    assert read.ids.count("fault") == 1
    assert "<script>alert" not in answer.text
    assert read.form(page).items() >= {k: v for k, v in fields.items() if k != "id"}.items()
