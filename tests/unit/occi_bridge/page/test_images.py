"""The page of the images: the site's, one's own, and who may delete which."""

import pytest
import sqlalchemy as sa

from occi_bridge.occi import schema
from occi_bridge.store import tables
from tests.unit import ca, issuers
from tests.unit.occi_bridge.page import browser
from tests.unit.occi_bridge.page.browser import KEY, Read, Site

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = [pytest.mark.integration, pytest.mark.anyio]

grid, issuer, site = ca.grid, issuers.issuer, browser.site
TAG = "mine-1_saved_x86_64"


def save(site: Site, owner: str, state: str = "ready", **more: object) -> None:
    """An image that somebody has saved."""
    values: dict[str, object] = {"tag": TAG, "owner": f"{site.issuer.url}#{owner}", **more}
    values |= {"title": "my web", "state": state, "created": 1e9, "node": "hv1"}
    site.bridge.db.write(lambda link: link.execute(sa.insert(tables.saved).values(**values)))


async def test_the_sites_say_what_they_need(site: Site) -> None:
    page = await site.browser("grace").read("/images")
    assert "big_linux_x86_64 Tag big_linux_x86_64 Needs 2 GiB of memory at least" in page.text
    assert "Who may use it the site's users, you among them" in page.text
    assert "Delete" not in page.text


async def test_a_vm_is_made_of_the_one_that_was_chosen(site: Site) -> None:
    grace = site.browser("grace")
    [link] = [link for link in (await grace.read("/images")).links if "big_linux" in link]
    sent = (await grace.read(link)).form("/new") | {"do": "make", "key": KEY}
    sent["size"] = ""
    assert sent["image"] == f"{schema.OWN}os_tpl#big_linux_x86_64"
    answer = await grace.post("/new", sent)
    assert "needs 2 GiB at least" in Read(answer.text).text  # it is that one: the size is too small


@pytest.mark.parametrize("image", ["x", "%00", "%22%3E%3Cscript%3Ealert(1)%3C/script%3E"])
async def test_another_is_not_chosen(site: Site, image: str) -> None:
    answer = await site.browser("grace").get(f"/new?image={image}")
    assert answer.status_code == (400 if image == "%00" else 200)
    assert "<script>alert" not in answer.text


@pytest.mark.parametrize(
    ("consistency", "stripped", "said"),
    [
        ("crash", False, "my web (saved while it ran with its SSH host keys) Tag"),
        ("frozen", True, "my web (frozen and saved while it ran) Tag"),
        ("offline", True, "my web (saved while stopped) Tag"),
        ("", False, "my web Tag"),
    ],
)
async def test_what_a_saved_one_is_like(
    site: Site, consistency: str, stripped: bool, said: str
) -> None:
    save(site, "grace", consistency=consistency, stripped=stripped)
    assert said in (await site.browser("grace").read("/images")).text


async def test_ones_own_is_deleted(site: Site) -> None:
    save(site, "grace")
    grace = site.browser("grace")
    page = await grace.read("/images")
    assert "Who may use it you alone Saved 2001-09-09 01:46 UTC" in page.text
    done = await grace.send("/images", "/images/delete")
    assert (done.status_code, done.headers["location"]) == (303, "/images")
    page = await grace.read("/images")
    assert "State being deleted" in page.text
    assert not [form for form in page.forms if form["action"] == "/images/delete"]
    again = await grace.post("/images/delete", {"tag": TAG, "token": page.form("/logout")["token"]})
    assert (again.status_code, "not there any more" in again.text) == (404, True)


async def test_one_that_failed_says_why(site: Site) -> None:
    save(site, "grace", "failed", reason="<b>no room</b>")
    page = await site.browser("grace").read("/images")
    assert "State failed : <b>no room</b>" in page.text
    assert "Make a VM of my web" not in page.text


async def test_what_is_anothers(site: Site) -> None:
    save(site, "oscar")
    grace = site.browser("grace")
    page = await grace.read("/images")
    assert "my web" not in page.text
    answer = await grace.post(
        "/images/delete", {"tag": TAG, "token": page.form("/logout")["token"]}
    )
    assert answer.status_code == 404
    with site.bridge.db.reading() as link:
        assert link.execute(sa.select(tables.saved.c.state)).scalars().all() == ["ready"]


async def test_the_sites_own_is_not_deleted(site: Site) -> None:
    grace = site.browser("grace")
    token = (await grace.read("/images")).form("/logout")["token"]
    answer = await grace.post("/images/delete", {"tag": "big_linux_x86_64", "token": token})
    assert answer.status_code == 404
    assert "big_linux_x86_64" in (await grace.read("/images")).text
