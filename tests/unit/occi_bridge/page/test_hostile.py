"""What is tried against the page: forged forms, markup in names, other hosts, broken requests."""

import hashlib
import html
import re

import httpx
import pytest
import sqlalchemy as sa

from occi_bridge.occi import schema
from occi_bridge.page import cookies
from occi_bridge.store import tables
from tests.unit import ca, issuers
from tests.unit.occi_bridge.page import browser
from tests.unit.occi_bridge.page.browser import KEY, URL, Browser, Read, Site
from wnodes_lrms import resources

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = [pytest.mark.integration, pytest.mark.anyio]

grid, issuer, site = ca.grid, issuers.issuer, browser.site
MARKUP = """"><script>alert(1)</script><img src=x onerror='alert(1)'>"""
POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
}
# htmx.org 2.0.11 from npm, dist/htmx.min.js.
HTMX = "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"


def test_htmx_is_that_of_its_release() -> None:
    [file] = (resources.folder("templates") / "page" / "static").glob("htmx-*.js")
    assert hashlib.sha256(file.read_bytes()).hexdigest() == HTMX
    assert file.with_name("htmx-LICENSE").is_file()


# @xterm/xterm 6.0.0 from npm, lib/xterm.mjs and css/xterm.css.
XTERM = {
    "xterm-6.0.0.mjs": "b336ec65a086c056d4804b3d4c2347da5663d3f23c3f25be866467bd8857ad59",
    "xterm-6.0.0.css": "854a7c0fb70e8b1a083c16797ab827299fb18744f5ad34f227b48337e33293c6",
}


def test_xterm_is_that_of_its_release() -> None:
    folder = resources.folder("templates") / "page" / "static"
    found = {path.name: hashlib.sha256(path.read_bytes()) for path in folder.glob("xterm-*.*s*")}
    assert {name: digest.hexdigest() for name, digest in found.items()} == XTERM
    assert (folder / "xterm-LICENSE").is_file()


async def test_every_answer_has_what_browsers_are_to_refuse(site: Site) -> None:
    grace = site.browser("grace")
    vm = await site.vm()
    paths = ["/", "/login", "/new", "/keys", "/vms", f"/vm/{vm.id}", f"/vm/{vm.id}/now", "/nothing"]
    for path in [*paths, *re.findall('/static/[^"]+', (await grace.get("/")).text)]:
        answer = await grace.get(path)
        assert set(answer.headers["content-security-policy"].split("; ")) == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        kept = "public, max-age=86400" if "static" in path else "no-store"
        assert answer.headers["cache-control"] == kept
        assert not Read(answer.text).inline, path
        page = Read(answer.text)
        assert all(link.startswith(("/", "#")) for link in page.links)
        assert all(str(form["action"]).startswith("/") for form in page.forms)


async def test_markup_in_names_and_messages_stays_text(site: Site) -> None:
    grace = site.browser("grace")
    vm = await site.vm(occi__core__title=MARKUP)
    site.bridge.create(
        await site.user("grace"),
        schema.STORAGE,
        occi__storage__size=1,
        occi__core__title=MARKUP,
    )
    reason = {"reason": MARKUP, "node": MARKUP, "lease_state": "pending", "lease": "x"}
    site.bridge.db.write(lambda link: link.execute(sa.update(tables.compute).values(**reason)))
    values: dict[str, object] = {
        "tag": "a_saved_x86_64",
        "owner": f"{site.issuer.url}#grace",
        "title": MARKUP,
    }
    values |= {"state": "ready", "created": 1.0}
    site.bridge.db.write(lambda link: link.execute(sa.insert(tables.saved).values(**values)))
    await grace.send("/new", "/new", do="make", key=KEY.rpartition(" ")[0] + f" {MARKUP}")
    for path in ("/", "/new", "/keys", "/vms", f"/vm/{vm.id}", f"/vm/{vm.id}/now"):
        text = (await grace.get(path)).text
        assert "<script>alert" not in text
        assert "<img" not in text
        assert "alert(1)" in text
    form = (await grace.read("/new")).form("/new") | {"do": "show", "title": MARKUP, "key": KEY}
    answer = await grace.post("/new", form)
    assert "<script>alert" not in answer.text
    assert "alert(1)" in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": ""},
        {"Origin": "null", "Sec-Fetch-Site": ""},
        {"Origin": "", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "", "Sec-Fetch-Site": "same-site"},
        {"Origin": "https://localhost:11443", "Sec-Fetch-Site": "same-site"},
        {"Origin": "http://localhost:11444", "Sec-Fetch-Site": ""},
    ],
)
async def test_a_form_of_another_site(site: Site, headers: dict[str, str]) -> None:
    """It is refused even if it knew the token."""
    grace = site.browser("grace")
    form = (await grace.read("/new")).form("/new") | {"do": "make", "key": KEY}
    assert (await grace.post("/new", form, headers)).status_code == 403
    assert not site.bridge.service.locations(await site.user("grace"), schema.COMPUTE)
    assert (await grace.post("/new", form)).status_code == 303


async def test_a_form_without_the_sessions_own_token(site: Site) -> None:
    grace, other = site.browser("grace"), site.browser("grace")
    form = (await grace.read("/new")).form("/new") | {"do": "make", "key": KEY}
    theirs = cookies.form_token(other.cookie() or "")
    for token in ("", "x", theirs, theirs[:-1]):
        answer = await grace.post("/new", form | {"token": token})
        assert (answer.status_code, "another session" in answer.text) == (403, True)
    for content in ("application/json", "text/plain", "multipart/form-data", ""):
        answer = await grace.post("/new", form, {"Content-Type": content})
        assert answer.status_code == 415
    assert not site.bridge.service.locations(await site.user("grace"), schema.COMPUTE)
    vm = await site.vm()
    for verb in ("delete", "stop", "attach", "detach"):
        assert (await grace.post(f"/vm/{vm.id}/{verb}", {})).status_code == 403
        assert (await grace.get(f"/vm/{vm.id}/{verb}")).status_code == 404
    assert (await grace.post("/logout", {})).status_code == 403
    assert (await grace.get("/vms")).status_code == 200


@pytest.mark.parametrize(
    ("path", "fields", "shown"),
    [
        ("/new", {"title": "web", "data": "#!/bin/sh\r\n<b>&\r\n", "key": KEY}, "<b>&"),
        ("/volumes", {"title": "results", "size": "7"}, 'value="results"'),
        ("/networks", {"title": "lab", "address": "10.9.0.0/24"}, 'value="10.9.0.0/24"'),
    ],
)
async def test_what_was_filled_in_outlives_the_session(
    site: Site, path: str, fields: dict[str, str], shown: str
) -> None:
    """It is told back, is there again after logging in, and is done only once it is sent anew."""
    grace = site.browser("grace")
    form = (await grace.read(path)).form(path) | fields
    site.sessions.end(grace.cookie() or "")
    answer = await grace.post(path, form | {"do": "make"})
    kept = Read(answer.text).form(path)
    assert answer.status_code == 401
    assert kept.items() >= fields.items()
    assert "token" not in kept
    grace.http.cookies = site.browser("grace").http.cookies
    answer = await grace.post(path, kept)
    again = Read(answer.text).form(path)
    assert (answer.status_code, "of another session: look at it" in answer.text) == (403, True)
    assert shown in html.unescape(answer.text)
    assert (again["id"], again["title"]) == (form["id"], fields["title"])
    everything = site.bridge.service.locations
    before = set(everything(await site.user("grace"), None))
    assert (await grace.post(path, kept | again | fields | {"do": "make"})).status_code == 303
    assert len(set(everything(await site.user("grace"), None)) - before) >= 1


async def test_a_form_is_told_back_to_browsers_alone(site: Site) -> None:
    form, without = {"title": "a-strangers", "token": "x"}, {"Origin": ""}
    answer = await site.browser("grace").post("/volumes", form, without)
    assert (answer.status_code, "a-strangers" in answer.text) == (403, False)
    answer = await Browser(site.app).post("/volumes", form)
    assert (answer.status_code, "a-strangers" in answer.text) == (401, False)


@pytest.mark.parametrize(
    "path",
    [
        *("/logout", "/volumes", "/volumes/delete", "/volumes/resize", "/volumes/snapshot"),
        *("/keys/forget", "/vm/a/stop", "/vm/a/attach"),
    ],
)
async def test_forms_without_text_are_small(site: Site, path: str) -> None:
    grace = site.browser("grace")
    token = cookies.form_token(grace.cookie() or "")
    answer = await grace.post(path, {"token": token, "more": "x" * 8192})
    assert (answer.status_code, "more than 8192 bytes" in answer.text) == (413, True)
    assert (await grace.get("/vms")).status_code == 200


async def test_parts_are_for_the_page_itself(site: Site) -> None:
    grace = site.browser("grace")
    for site_ in ("cross-site", "same-site"):
        for mode, destination in (("cors", "empty"), ("no-cors", "script"), ("navigate", "iframe")):
            said = {"Sec-Fetch-Site": site_, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": destination}
            assert (await grace.get("/", **said)).status_code == 403
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert (await grace.get("/", **link, **{"Sec-Fetch-Dest": "document"})).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost", "localhost:11443", "", "localhost:x"]
)
async def test_another_host(site: Site, host: str) -> None:
    answer = await site.browser("grace").get("/login/certificate", Host=host)
    assert (answer.status_code, answer.headers.get("location")) == (421, None)


async def test_what_is_anothers(site: Site) -> None:
    vm = await site.vm("grace")
    oscar = site.browser("oscar")
    token = (await oscar.read("/new")).form("/new")["token"]
    for path in (f"/vm/{vm.id}", f"/vm/{vm.id}/now"):
        assert (await oscar.get(path)).status_code == 404
    for verb in ("delete", "stop", "attach", "detach", "save"):
        fields = {"token": token, "target": "/network/public", "link": vm.links[0].id}
        answer = await oscar.post(f"/vm/{vm.id}/{verb}", fields)
        assert answer.status_code in (400, 404), (verb, answer.text)
    assert site.bridge.service.entity(await site.user("grace"), vm.path).links


async def test_a_vm_that_vanished_meanwhile(site: Site) -> None:
    vm = await site.vm()
    first, second = site.browser("grace"), site.browser("grace")
    shown = await second.read(f"/vm/{vm.id}")
    await first.send(f"/vm/{vm.id}", f"/vm/{vm.id}/delete")
    for action in (f"/vm/{vm.id}/stop", f"/vm/{vm.id}/delete", f"/vm/{vm.id}/attach"):
        answer = await second.post(
            action, shown.form(f"/vm/{vm.id}/stop") | {"target": "/network/private"}
        )
        assert answer.status_code in (400, 404)
        assert "nothing at" in Read(answer.text).text


async def test_a_service_whose_nodes_are_silent_says_so(site: Site) -> None:
    grace = site.browser("grace")
    site.bridge.heard(ago=600.0)
    answer = await grace.send("/new", "/new", do="make", key=KEY)
    assert (answer.status_code, "no node answers at present" in answer.text) == (503, True)
    assert (await grace.get("/")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("GET", "/vm/..%2f..%2fetc", b""),
        ("GET", "/vm/%00", b""),
        ("GET", "/vm/a%0d%0aset-cookie:x", b""),
        ("GET", "//evil.example/", b""),
        ("GET", "/static/../base.html.j2", b""),
        ("GET", "/static/%2e%2e/base.html.j2", b""),
        ("GET", "/login/nobody", b""),
        ("GET", "/login/x/back?state=%ff&code=%00", b""),
        ("GET", "/?" + "a=b&" * 500, b""),
        ("POST", "/new", b"a=b&" * 500),
        ("POST", "/new", b"\xff\xfe"),
        ("POST", "/new", b"title=%ff"),
        ("POST", "/new", b"x" * 600_000),
        ("POST", "/keys/forget", b"token={token}&name=%00"),
        ("POST", "/new", b"token={token}&do=make&key=%00&network=%00&volume=a&id=%0a"),
        ("POST", "/vm/a/save", b"token={token}&name=%00"),
        ("POST", "/vm/a/attach", b"token={token}&target=%00"),
        ("POST", "/vm/a/attach", b"token={token}&target=https://evil.example/network/public"),
        ("POST", "/volumes/resize", b"token={token}&id=a&size=nan"),
        ("POST", "/volumes/resize", b"token={token}&id=..%2f..&size=1e999"),
        ("POST", "/volumes/snapshot", b"token={token}&id=&name=%0a%01"),
        ("GET", "/volumes/now?a=%ff", b""),
        ("PUT", "/", b""),
        ("DELETE", "/vm/a", b""),
        ("OPTIONS", "/", b""),
        ("PROPFIND", "/", b""),
    ],
)
async def test_nothing_of_that_is_a_fault_of_the_service(
    site: Site, method: str, path: str, content: bytes
) -> None:
    grace = site.browser("grace")
    token = cookies.form_token(grace.cookie() or "").encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": URL}
    answer: httpx.Response = await grace.http.request(
        method, httpx.URL(URL + path), content=content.replace(b"{token}", token), headers=headers
    )
    assert answer.status_code < 500, (answer.status_code, answer.text)
    assert not answer.headers.get("location", "/").startswith(("//", "http"))
    assert [name for name in answer.headers if name == "set-cookie"] == []
