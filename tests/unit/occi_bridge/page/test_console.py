"""The end of a VM's console: whose it is, what a guest can write, nodes that don't answer."""

import pytest
import sqlalchemy as sa

from occi_bridge.occi.messages import Entity
from occi_bridge.page.console import readable
from occi_bridge.store import heard, tables
from tests.unit import ca, issuers
from tests.unit.occi_bridge.fake_baits import FakeBait
from tests.unit.occi_bridge.page import browser
from tests.unit.occi_bridge.page.browser import Site

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = [pytest.mark.integration, pytest.mark.anyio]

grid, issuer, site = ca.grid, issuers.issuer, browser.site_of_two_nodes


async def runs(site: Site, bait: FakeBait, text: str | None) -> Entity:
    """A VM of grace's that is on this bait's node, where it has written so much."""
    heard.told(site.bridge.db, bait.url, heard.Heard(bait.node, 1e9), silent=False)
    vm = await site.vm()
    uid = site.bridge.row(vm).uid
    if text is not None:
        bait.consoles[uid] = text
    values = {"state": "running", "node": bait.node}
    site.bridge.db.write(lambda link: link.execute(sa.update(tables.compute).values(**values)))
    return vm


async def test_what_it_wrote(site: Site, baits: list[FakeBait]) -> None:
    text = "boot\r\n\x1b[31mred\x1b[0m <script>alert(1)</script>\n"
    vm = await runs(site, baits[1], text)
    grace = site.browser("grace")
    path = f"/vm/{vm.id}/console"
    page = await grace.get(path)
    assert "boot\nred &lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    first = await grace.get(f"{path}/now")
    same = await grace.get(f"{path}/now", **{"If-None-Match": first.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    baits[1].consoles = dict.fromkeys(baits[1].consoles, "login:")
    other = await grace.get(f"{path}/now", **{"If-None-Match": first.headers["etag"]})
    assert (other.status_code, "login:" in other.text) == (200, True)


async def test_it_is_its_owners(site: Site, baits: list[FakeBait]) -> None:
    vm = await runs(site, baits[0], "secret")
    for guest, status in ((site.browser("oscar"), 404), (site.browser(), 401)):
        for path in (f"/vm/{vm.id}/console", f"/vm/{vm.id}/console/now"):
            answer = await guest.get(path)
            assert (answer.status_code, "secret" in answer.text) == (status, False)


async def test_where_there_is_nothing_to_read(site: Site, baits: list[FakeBait]) -> None:
    grace = site.browser("grace")
    waiting = await site.vm()
    assert "on no node yet" in (await grace.read(f"/vm/{waiting.id}/console")).text
    gone = await runs(site, baits[1], None)
    assert "on no node any more" in (await grace.read(f"/vm/{gone.id}/console")).text
    silent = await runs(site, baits[1], "")
    assert "nothing yet" in (await grace.read(f"/vm/{silent.id}/console")).text
    where = sa.update(tables.bait).values(url="http://127.0.0.1:9")
    site.bridge.db.write(lambda link: link.execute(where.where(tables.bait.c.node == "hv2")))
    assert "does not answer now" in (await grace.read(f"/vm/{silent.id}/console")).text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("\x1b[2J\x1b[1;1Hlogin: ", "login: "),
        ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b", "ab"),
        ("\x1bPq#0\x1b\\x", "x"),
        ("\x1bc\x1b(Ba\x1b", "a"),
        ("10%\r20%\r\n", "10%\n20%\n"),
        ("a\x00\x08b\x7f\u202ec\u200b", "abc"),
        ("\ufffd" * 3 + "\t|", "\ufffd" * 3 + "\t|"),
        ("x" * 100_000, "x" * 32768),
        ("\x1b[" * 50_000, ""),
        ("\x1b]" * 50_000, ""),
    ],
)
async def test_escapes_are_taken_out(written: str, read: str) -> None:
    assert readable(written) == read
