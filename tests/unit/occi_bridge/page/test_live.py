"""Parts of the page that change by themselves, for users of a keyboard or a screen reader alone."""

import re
from collections.abc import AsyncIterator, Callable

import pytest
import sqlalchemy as sa

from occi_bridge.occi import schema
from occi_bridge.page import cookies
from occi_bridge.store import heard, tables
from occi_bridge.store.heard import Heard
from tests.unit import ca, issuers
from tests.unit.ca import Grid
from tests.unit.issuers import LocalIssuer
from tests.unit.occi_bridge.local_bridge import LocalBridge
from tests.unit.occi_bridge.page import browser
from tests.unit.occi_bridge.page.browser import Read, Site
from wnodes_lrms.config.load import Grant

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = [pytest.mark.integration, pytest.mark.anyio]

grid, issuer = ca.grid, issuers.issuer
_FIRST_PAINT = 100_000  # bytes


@pytest.fixture
async def site(
    grid: Grid, issuer: LocalIssuer, make_bridge: Callable[..., LocalBridge], file_url: str
) -> AsyncIterator[Site]:
    """Grace sees the whole site, and has a VM, a volume in it, another one, and a network."""
    grants = (Grant(match=f"{issuer.url}#grace", site=True, machines=20, cores=20),)
    async with browser.made(grid, issuer, make_bridge(file_url), grant=grants) as site:
        here = Heard("hv1", 1e9, room={"cores": 6, "memory": 12800}, sources={"lrms": 1e9})
        heard.told(site.bridge.db, "https://hv1:8445", here, silent=False)
        grace = await site.user("grace")
        for kind, name in ((schema.STORAGE, "data"), (schema.STORAGE, "more")):
            site.bridge.create(grace, kind, occi__storage__size=1, occi__core__id=name)
        made = sa.update(tables.storage).values(made=True)
        site.bridge.db.write(lambda link: link.execute(made))
        site.bridge.create(grace, schema.NETWORK, occi__core__id="mine")
        await site.vm(occi__core__id="web", occi__core__title="the web")
        runs = {"lease": "x", "lease_state": "running", "began": 1e9, "state": "running"}
        runs |= {"node": "hv1", "since": 1e9}
        site.bridge.db.write(lambda link: link.execute(sa.update(tables.compute).values(**runs)))
        ends = {"occi__core__source": "/compute/web", "occi__core__target": "/storage/data"}
        site.bridge.create(grace, schema.STORAGELINK, (), **ends)
        yield site


PAGES = ("/", "/vm/web", "/vm/web/console", "/volumes", "/networks", "/images", "/site")


@pytest.mark.parametrize("page", PAGES)
async def test_a_part_that_is_replaced_gives_the_focus_back(site: Site, page: str) -> None:
    grace = site.browser("grace")
    whole = await grace.read(page)
    assert len(whole.ids) == len(set(whole.ids))
    [path] = re.findall('data-live hx-get="([^"]+)"', whole.html)
    part = await grace.get(path)
    assert part.status_code == 200
    assert part.text.strip() in whole.html
    read = Read(part.text)
    assert read.places or page == "/vm/web/console"  # there is nothing to read yet
    assert [place for place in read.places if not place[1]] == []
    same = await grace.get(path, **{"If-None-Match": part.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")


async def test_forms_are_those_of_the_session_that_is(site: Site) -> None:
    before, after = site.browser("grace"), site.browser("grace")
    etag = (await before.get("/volumes/now")).headers["etag"]
    part = await after.get("/volumes/now", **{"If-None-Match": etag})
    assert part.status_code == 200
    given = Read(part.text).form("/volumes/snapshot")["token"]
    assert cookies.is_form_token(after.cookie() or "", given)


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("/", {"state-web": "the web"}),
        ("/vm/web", {"state": "the web"}),
        ("/volumes", {"state-data": "data", "state-more": "more"}),
    ],
)
async def test_what_is_told_when_it_changes(site: Site, page: str, says: dict[str, str]) -> None:
    read = await site.browser("grace").read(page)
    assert read.says == says
    assert '<p class="unseen" id="news" role="status"></p>' in read.html


async def test_an_address_can_be_copied_where_all_vms_are(site: Site) -> None:
    change = sa.update(tables.interface).values(address="192.0.2.17")
    site.bridge.db.write(lambda link: link.execute(change))
    page = await site.browser("grace").read("/")
    assert '<code id="address-web">192.0.2.17</code>' in page.html
    assert 'data-copy="address-web" aria-label="Copy the address of the web" hidden>' in page.html


async def test_the_first_sight_of_it_is_small(site: Site) -> None:
    for _ in range(19):
        await site.vm()
    grace = site.browser("grace")
    page = await grace.get("/")
    files = set(re.findall('/static/[^"]+', page.text))
    assert page.text.count('<th scope="row">') == 20
    bodies = [page, *[await grace.get(path) for path in files]]
    assert {each.status_code for each in bodies} == {200}
    assert sum(len(each.content) for each in bodies) < _FIRST_PAINT
